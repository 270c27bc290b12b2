"""The files of diagnosis import each other in one direction, inside functions and for typing too."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imports(folder: Path) -> dict[str, set[str]]:
    """Return file -> the files of the folder that it imports, by dotted name."""
    names = {".".join(file.relative_to(folder.parent).with_suffix("").parts): file for file in folder.rglob("*.py")}
    names = {name.removesuffix(".__init__"): file for name, file in names.items()}
    return {name: set(_imported(file)) & (names.keys() - {name}) for name, file in names.items()}


def _imported(file: Path):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from a import b` is an import of the file a/b.py where there is one.
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def without_package(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Drop the folders: what stands in their `__init__` is what a user imports, and a part may use that."""
    folders = {name for name in graph if any(other.startswith(f"{name}.") for other in graph)}
    return {name: wanted - folders for name, wanted in graph.items() if name not in folders}


def test_no_circle_of_files():
    graph = without_package(imports(ROOT / "harness"))
    ours = {name: wanted for name, wanted in graph.items() if name.startswith("harness.diagnosis.")}
    assert len(ours) > 30
    TopologicalSorter(ours).prepare()


def test_a_circle_is_seen_wherever_it_is_imported(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "one.py").write_text("from package import two\n")
    (folder / "two.py").write_text("def later():\n    from package.one import thing\n")
    with pytest.raises(CycleError):
        TopologicalSorter(without_package(imports(folder))).prepare()
