"""No circle of files: whatever a file imports, anywhere in it, can be read without reading that file.

An import counts wherever it stands: at the top, inside a function, under `if TYPE_CHECKING`. A package's `__init__` is
a file of its own, and importing `harness.x.y` does not count as importing `harness.x`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

Graph = dict[str, set[str]]
"""Each module, and the modules of the package that it imports."""


def graph_of(package: Path) -> Graph:
    files = {".".join(_parts(file, package)): file for file in sorted(package.rglob("*.py"))}
    return {name: set(imported(name, file, files)) - {name} for name, file in files.items()}


def _parts(file: Path, package: Path) -> list[str]:
    parts = [*file.relative_to(package.parent).with_suffix("").parts]
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported(name: str, file: Path, files: dict[str, Path]) -> Iterator[str]:
    """Yield the modules among `files` that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(name, file, node)
            for alias in node.names:
                # `from package import name` reads a module where there is one, and the package's `__init__` otherwise.
                yield from [each for each in (f"{base}.{alias.name}", base) if each in files][:1]


def absolute(name: str, file: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    up = node.level - (file.name == "__init__.py")
    return ".".join([*name.split(".")[: -up or None], *filter(None, [node.module])])


def circles(graph: Graph) -> list[str]:
    """Return circles, until breaking each of them leaves none: `a -> b -> a`, importer first."""
    graph, found = {name: set(others) for name, others in graph.items()}, []
    while True:
        try:
            TopologicalSorter(graph).prepare()
            return found
        except CycleError as error:
            circle = error.args[1][::-1]
            found.append(" -> ".join(circle))
            graph[circle[0]].discard(circle[1])


def test_no_file_imports_itself_through_others() -> None:
    graph = graph_of(ROOT / "harness")
    assert len(graph) > 200
    assert "harness.vocabulary.errors" in graph["harness.casefile.language.rules"]
    found = circles(graph)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"a": "import p.b", "b": "import p.a"}, True),
        ({"a": "from p import b", "b": "from p.a import name"}, True),
        ({"a": "import p.b", "b": "def f():\n    import p.a"}, True),
        ({"a": "import p.b", "b": "if TYPE_CHECKING:\n    from p.a import Name"}, True),
        ({"a": "import p.b", "b": "from . import a"}, True),
        ({"x/a": "from ..b import name", "b": "from .x import a"}, True),
        ({"x/__init__": "from .a import name", "x/a": "from . import other"}, True),
        ({"a": "import p.b", "b": "import p.c", "c": "import p.a"}, True),
        ({"x/__init__": "from p.x.a import name", "x/a": "from p.x import name"}, True),
        ({"x/__init__": "from p.x.a import name", "x/a": "from p.x.b import name", "x/b": ""}, False),
        ({"x/__init__": "from p.x.a import name", "x/a": "from p.x import b", "x/b": ""}, False),
        ({"a": "import p.b, p.c", "b": "import p.c", "c": "import os"}, False),
    ],
)
def test_a_planted_circle_is_found(tmp_path: Path, files: dict[str, str], found: bool) -> None:
    for name, text in {"__init__": "", **files}.items():
        file = tmp_path / "p" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert bool(circles(graph_of(tmp_path / "p"))) is found


def test_every_circle_is_told() -> None:
    graph = {"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"e"}, "e": {"c"}, "f": {"a"}}
    assert [set(each.split(" -> ")) for each in circles(graph)] == [{"a", "b"}, {"c", "d", "e"}]
    assert circles(graph)[0] in ("a -> b -> a", "b -> a -> b")
