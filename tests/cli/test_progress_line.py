"""The line of progress in any width, and what it writes where no screen is."""

from __future__ import annotations

import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from harness.cli import screen
from harness.cli.screen import ProgressLine
from harness.support import progress
from harness.vocabulary.visible import visible


@given(
    st.integers(40, 200), st.integers(0, 10**9), st.integers(0, 10**12), st.text(max_size=60),
    st.integers(0, 99_999), st.integers(1, 99_999), st.text(max_size=60),
)  # fmt: skip
def test_count_and_time_are_always_there(
    columns: int, done: int, total: int, phase: str, ended: int, jobs: int, name: str
) -> None:
    line = ProgressLine(io.StringIO())
    line.at(ended, jobs, name, f"{ended} failed")
    line.say(phase, done, total)
    text = line.text(columns)
    assert text.startswith(f"{ended}/{jobs}  0:0")
    assert f"{ended} failed" in text
    assert cell_len(text) <= columns
    assert visible(text) == text


def test_the_beginning_is_what_a_short_line_loses() -> None:
    line = ProgressLine(io.StringIO())
    line.at(2, 7, "a-case[native@a-model-with-a-long-name]")
    line.say("layer", 3, 24)
    assert line.text() == "2/7  0:00  a-case[native@a-model-with-a-long-name]  layer 3/24"
    assert line.text(39) == "2/7  0:00  …th-a-long-name]  layer 3/24"
    line.at(3, 7, "層" * 30)
    assert cell_len(line.text(39)) in (38, 39)


def test_a_phase_is_counted_where_there_are_no_jobs() -> None:
    line = ProgressLine(io.StringIO())
    line.say("weights", 120_000_000, 538_000_000)
    assert line.text() == "22 %  0:00  weights"
    line.say("search", 3)
    assert line.text() == "3  0:00  search"
    line.say("loading")
    assert line.text() == "0:00  loading"


def written(monkeypatch: pytest.MonkeyPatch, seconds: float, notes: int = 0, quiet: bool = False) -> list[str]:
    """Return what a line writes into a pipe, with a tenth of a second for ten."""
    monkeypatch.setattr(screen, "WRITTEN", 0.1)
    stream = io.StringIO()
    with ProgressLine(stream, quiet) as line, progress.listening(line.say):
        line.at(1, 3, "a-case")
        for number in range(notes):
            time.sleep(0.05)
            line.note(f"note {number}")
        time.sleep(seconds)
    return stream.getvalue().splitlines()


def test_a_pipe_gets_a_line_from_time_to_time_and_no_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = written(monkeypatch, 0.55)
    assert set(lines) == {"1/3  0:00  a-case"}
    assert 3 <= len(lines) <= 6


def test_a_pipe_that_was_just_told_something_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, 0.0, notes=6) == [f"note {number}" for number in range(6)]


def test_nothing_is_written_by_a_quiet_command_or_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, 0.3, quiet=True) == []
    assert written(monkeypatch, 0.0) == []
    assert screen.DRAWN < 1 < 10


def test_ten_seconds_are_ten_seconds() -> None:
    assert (screen.WRITTEN, ProgressLine(io.StringIO()).period) == (10.0, 10.0)
