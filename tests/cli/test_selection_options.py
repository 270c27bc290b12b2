"""The options of a selection: the words that repeat it give the same selection again."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from harness.cli.selection import selection_options, words_of
from harness.jobs.selection import OPTIONS, Selection

# what each field is given
VALUES = {
    "paths": (Path("cases"), Path("more/x.case.yaml")),
    "tables": ("m.yaml", "n.yaml"),
    "models": ("dial", "circuit"),
    "engines": ("native", "mine:patch"),
    "tags": ("fast",),
    "metrics": ("l2", "mse"),
    "components": ("mlp",),
    "also": ("published",),
    "ids": ("c[native@dial]",),
    "allow_code": True,
}


def read_back(words: list[str]) -> Selection:
    """Return the selection that a command with every option is given by these words."""
    given: list[Selection] = []

    @click.command()
    @selection_options(*VALUES)
    def command(selection: Selection) -> None:
        given.append(selection)

    done = CliRunner().invoke(command, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return given[0]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("field", [row.field for row in OPTIONS])
def test_the_words_of_one_field_give_it_again(field: str) -> None:
    selection = Selection(**{field: VALUES[field]})
    assert selection != Selection()
    assert read_back(words_of(selection)) == selection


def test_the_words_of_all_fields_give_them_again() -> None:
    assert read_back(words_of(Selection(**VALUES))) == Selection(**VALUES)
    assert words_of(Selection()) == []


def test_only_the_fields_asked_for_are_repeated() -> None:
    words = words_of(Selection(**VALUES), "tables", "allow_code")
    assert words == ["--models", "m.yaml", "--models", "n.yaml", "--allow-code"]


def test_what_is_configured_is_left_out_and_comes_back(elsewhere: Path) -> None:
    (elsewhere / "pyproject.toml").write_text('[tool.harness]\nengines = ["native"]\ntags = ["slow"]\n')
    selection = Selection(engines=("native",), tags=("fast",))
    assert words_of(selection) == ["--tag", "fast"]
    assert read_back(words_of(selection)) == selection


@pytest.mark.parametrize("row", [row for row in OPTIONS if row.spellings], ids=lambda row: row.field)
def test_every_spelling_is_an_option_with_its_help(row) -> None:
    @click.command()
    @selection_options(row.field)
    def command(selection: Selection) -> None: ...

    shown = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    for text in (*row.spellings, row.help):
        assert text in shown
