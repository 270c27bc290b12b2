"""What all our messages have in common: `1 cell` and never `1 cells`, and no page that an installed harness lacks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness.vocabulary.words import number_of

SOURCES = sorted(Path(harness.__file__).parent.rglob("*.py"))
COUNT = re.compile(r"^(len\(.*\)|\w*count\w*|n|ran|called|number)$")
NOUN = re.compile(
    r"^ (?!of\b)(\w+ )?(cells|layers|jobs|cases|files|tokens|rows|models|runs|tensors|recoveries|times)\b"
)
PAGE = re.compile(r"\bdocs/[\w/-]+\.md")
WRITTEN = re.compile(r"--write docs/")
"""How a page of ours says which command writes it."""


def texts(tree: ast.Module) -> Iterator[ast.Constant | ast.JoinedStr]:
    """Yield the texts of a module but its docstrings."""
    bodies = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list)]
    docstrings = {id(each.value) for body in bodies for each in body if isinstance(each, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and id(node) not in docstrings):
            yield node


def plurals(tree: ast.Module) -> list[str]:
    """Return the counts that are followed by a noun in the plural whatever they are."""
    return [
        f"{ast.unparse(count.value)}{noun.value}"
        for node in texts(tree) if isinstance(node, ast.JoinedStr)
        for count, noun in zip(node.values, node.values[1:], strict=False)
        if isinstance(count, ast.FormattedValue) and COUNT.match(ast.unparse(count.value))
        and isinstance(noun, ast.Constant) and NOUN.match(str(noun.value))
    ]  # fmt: skip


def pages(tree: ast.Module) -> list[str]:
    """Return the texts that name a page of the repository."""
    said = [str(node.value) for node in texts(tree) if isinstance(node, ast.Constant)]
    return [text for text in said if PAGE.search(text) and not WRITTEN.search(text)]


@pytest.mark.parametrize(("count", "text"), [(0, "0 cells"), (1, "1 cell"), (2, "2 cells"), (1024, "1,024 cells")])
def test_a_number_of_things(count: int, text: str) -> None:
    assert number_of(count, "cell") == text
    assert number_of(1, "recovery", "recoveries") == "1 recovery"
    assert number_of(3, "recovery", "recoveries") == "3 recoveries"


def test_no_message_has_a_plural_after_any_number() -> None:
    found = {file.name: seen for file in SOURCES if (seen := plurals(ast.parse(file.read_text("utf-8"))))}
    assert found == ALWAYS_SEVERAL


ALWAYS_SEVERAL = {
    "patched.py": ["len(patched) patched runs are not finite, both unpatched ones are; first "],
}
"""Numbers that are a total of which others are counted."""


def test_no_message_sends_a_reader_to_a_page_that_a_wheel_lacks() -> None:
    found = {file.name: seen for file in SOURCES if (seen := pages(ast.parse(file.read_text("utf-8"))))}
    assert found == {}


def test_both_are_seen_where_they_are() -> None:
    planted = ast.parse('f"{len(cells)} cells"\nx = f"{len(cells)} cells"\ny = "docs/engines.md has an example"')
    assert plurals(planted) == ["len(cells) cells"] * 2
    assert pages(planted) == ["docs/engines.md has an example"]
    fine = ast.parse('x = f"{len(cells)} of {total} fit"\ny = "by `harness zoo run --write docs/zoo.md`"')
    assert (plurals(fine), pages(fine)) == ([], [])
