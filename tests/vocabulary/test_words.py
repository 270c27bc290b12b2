"""Words: a public class name means one thing in the whole package."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "harness"


def classes(folder: Path) -> dict[str, list[str]]:
    """Return the public class names below a folder, each with the files that define it."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(file.relative_to(folder).as_posix())
    return found


def twice(folder: Path) -> dict[str, list[str]]:
    return {name: files for name, files in classes(folder).items() if len(files) > 1}


def test_a_class_name_means_one_thing() -> None:
    assert len(classes(PACKAGE)) > 100
    assert twice(PACKAGE) == {}


def test_a_second_meaning_is_seen(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class Place: ...\nclass _Own: ...\n")
    (tmp_path / "two.py").write_text("class Place: ...\nclass _Own: ...\n")
    assert twice(tmp_path) == {"Place": ["one.py", "two.py"]}
