"""`python docs/check.py` sees each kind of mistake on a page, and leaves a right page alone."""

from __future__ import annotations

from pathlib import Path

import check
import pytest

TABLE = "```yaml\nmodels:\n  - {id: mine, source: synthetic, architecture: llama, vocab: 64}\n```\n"
CASE = "```yaml\nmodels: [mine]\nprompts: {clean: [1, 2], corrupted: [1, 3]}\n```\n"


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("```sh\nharness run --strikt\n```\n", "No such option"),
        ("<!-- exit: 1 -->\n```sh\nharness run --strikt\n```\n", "No such option"),
        ("```sh\nharness runn\n```\n", "'runn' is not a command"),
        ("```console\n$ make everything\n```\n", "`make everything` does not exist"),
        ("```python\nprint(\n```\n", "does not compile"),
        (CASE, "'mine' is not a model"),
        (TABLE + CASE.replace("[1, 3]", "[1, 99]"), "case file is not valid"),
        ("<!-- exits: 1 -->\n```sh\nharness run\n```\n", "`exits` is no mark"),
        ("<!-- not run: -->\n```sh\nharness run\n```\n", "`not run` says nothing"),
        ("<!-- file -->\n```yaml\na: 1\n```\n", "`file` says nothing"),
    ],
    ids=["option", "marked", "command", "target", "python", "model", "token", "mark", "empty mark", "no name"],
)
def test_a_mistake_is_found(page: str, fault: str) -> None:
    faults = list(check.bad_blocks(page))
    assert len(faults) == 1
    assert fault in faults[0]


@pytest.mark.parametrize(
    "page",
    [
        "```sh\nharness run --strict\nmake docs\n```\n",
        TABLE + CASE,
        "<!-- needs: no-such-command -->\n```sh\nharness no-such-command\n```\n",
        "<!-- keys of X -->\n| a |\n<!-- end -->\n\n```yaml\na: 1\n```\n",
        "<!-- not run: it takes an hour -->\n```sh\nharness run\n```\n",
    ],
    ids=["commands", "a table of models", "needs", "another comment", "not run"],
)
def test_a_right_page_is_left_alone(page: str) -> None:
    assert list(check.bad_blocks(page)) == []


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert list(check.broken_links(page, "[a](there.md) [b](https://x.example) [c](page.md#x)")) == [
        "link to there.md, which does not exist",
        "link to page.md, which does not exist",
    ]
