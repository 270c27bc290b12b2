"""Escapes for what acts, one spelling for all exits; our own lines, tabs, colours and bars stay."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness.results.reports.terminal import console
from harness.support.screen import Screen
from harness.vocabulary.visible import json_text, visible


@pytest.fixture
def screen() -> Screen:
    return Screen(io.BytesIO(), "utf-8", write_through=True)


def seen(screen: Screen) -> str:
    screen.flush()
    return screen.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", r"\u001b[31m"),
        ("\x9b2J\x7f\x00", r"\u009b2J\u007f\u0000"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\u202e\u2066\u2028\u200f", r"\u202e\u2066\u2028\u200f"),
        ("\ud800", r"\ud800"),
        ("##[error]x", r"##\u005berror]x"),
        ("naïve 日本 😀 \u200d \\ # [x] ::", "naïve 日本 😀 \u200d \\ # [x] ::"),
    ],
)
def test_what_acts_is_shown_and_the_rest_is_left_alone(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


@given(st.text())
def test_json_stays_json_and_means_the_same(text: str) -> None:
    assert json.loads(json_text({text: [text]})) == {text: [text]}
    assert visible(json_text([text]), "\n") == json_text([text])


@given(st.lists(st.sampled_from([":", "::", " ", "\n", "x", "\t", "\u3000", "\x1b[1m", "::a::", "error", "\r"])))
def test_no_line_becomes_a_command_however_it_is_written(pieces: list[str]) -> None:
    screen = Screen(io.BytesIO(), "utf-8", write_through=True)
    for piece in pieces:
        screen.write(piece)
    assert not [line for line in seen(screen).split("\n") if line.strip().startswith("::")]
    assert "".join(pieces).count("\n") == seen(screen).count("\n")


@given(st.text())
def test_json_is_json_where_the_terminal_has_few_letters(text: str) -> None:
    screen = Screen(io.BytesIO(), "ascii", write_through=True)
    screen.write(json_text([text]))
    assert json.loads(seen(screen)) == [text]


def test_ours_stay(screen: Screen) -> None:
    print("a::b\tc", file=screen)
    screen.commands("::error file=x::y\n")
    assert seen(screen) == "a::b\tc\n::error file=x::y\n"


def test_a_console_shows_texts_and_keeps_its_colours(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table
    from rich.text import Text

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    table = Table("head\x1b")
    table.add_row("[red]x[/red] :smile:\n::y")
    out = console(screen)
    out.print(Text("fine", style="red"))
    out.print(Text("a\x1b[0m\nb", style="red"), table)
    assert "\x1b[31mfine\x1b[0m" in seen(screen)
    assert r"a\u001b[0m\nb" in seen(screen)
    assert r"head\u001b" in seen(screen)
    assert r"[red]x[/red] :smile:\n::y" in seen(screen)


def test_every_console_is_ours() -> None:
    """One made elsewhere would pass on what acts: `console()` makes the only kind."""
    root = Path(harness.__file__).parent
    assert [file for file in root.rglob("*.py") if re.search(r"\bConsole\(", file.read_text())] == []
