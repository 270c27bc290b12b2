"""One grid: a row that crashes, hangs, prints or fills the memory costs that row, and each reason stands once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from string import ascii_letters

import pytest

from harness.laws import LAWS
from harness.laws.conformance.rows import usual_rows
from harness.laws.grid.processes import in_processes
from harness.laws.grid.table import GridCell, GridTable, numbered, on_screen
from harness.results.reports.terminal import console

TICKING = "import sys, time\nwhile True:\n    open(sys.argv[1], 'ab').write(b'.')\n    time.sleep(0.1)"


def row(kind: str) -> list[str]:
    """A row that behaves as its name says."""
    if kind == "ends":
        os._exit(7)
    if kind == "raises":
        raise ValueError("the last words")
    if kind.startswith("hangs"):
        subprocess.Popen([sys.executable, "-c", TICKING, kind.partition(" ")[2] or os.devnull]).wait()
    if kind == "large":
        return [str(len(bytearray(3 << 30)))]
    if kind == "prints":
        print("on standard output")
        os.write(1, b"from native code\n")
    if kind == "leaves a process that holds its streams":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    return [kind, "✓"]


def answers(*kinds: str, seconds: float = 60, memory: int = 2 << 30) -> list[tuple[object, str]]:
    return list(in_processes(row, [(kind,) for kind in kinds], seconds=seconds, memory=memory))


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = (os.path.dirname(__file__), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def test_a_row_is_what_the_function_returns_whatever_else_is_printed() -> None:
    assert answers("as usual", "prints") == [(["as usual", "✓"], ""), (["prints", "✓"], "")]


def test_a_row_that_ends_costs_itself_and_says_its_last_words() -> None:
    (ended, raised, large, good) = answers("ends", "raises", "large", "good")
    assert ended == (None, "the process ended with 7: ")
    assert raised[0] is None
    assert raised[1].startswith("the process ended with 1: ")
    assert raised[1].endswith("ValueError: the last words")
    assert large[0] is None
    assert large[1].endswith("MemoryError")
    assert good == (["good", "✓"], "")


def test_the_same_row_fits_into_more_memory() -> None:
    assert answers("large", memory=8 << 30) == [([str(3 << 30)], "")]


def test_a_row_that_hangs_ends_with_all_it_started(tmp_path: Path) -> None:
    ticks = tmp_path / "ticks"
    assert answers(f"hangs {ticks}", seconds=6) == [(None, "no answer in 6 s")]
    before = ticks.read_bytes() if ticks.exists() else b""  # a busy machine may not get there in time
    time.sleep(1)
    assert (ticks.read_bytes() if ticks.exists() else b"") == before


def test_a_process_that_a_row_leaves_behind_holds_nobody_up() -> None:
    start = time.monotonic()
    assert answers("leaves a process that holds its streams")[0][1] == ""
    assert time.monotonic() - start < 55


def test_an_interrupt_ends_the_rows_that_run() -> None:
    rows = in_processes(row, [("good",), ("hangs",), ("hangs",), ("hangs",)], seconds=50)
    next(rows)
    start = time.monotonic()
    rows.close()  # what an exception in the loop does
    assert time.monotonic() - start < 10


CELLS = {
    "one": {"a": GridCell("1e-06", holds=True), "b": GridCell("0.3", apart=True)},
    "two": {"a": GridCell(reason="not here"), "b": GridCell(reason="nor here")},
    "three": {"a": GridCell(reason="nor here"), "b": GridCell("-")},
}


def table() -> GridTable:
    return GridTable(CELLS, {"a": "first", "b": "second"}, numbered(CELLS.values()), of=2)


def test_markdown_numbers_each_reason_once_and_counts_what_holds() -> None:
    assert list(table().markdown()) == [
        "| architecture | first | second |",
        "|---|---|---|",
        "| one | 1e-06 | **0.3** |",
        "| two | [1] | [2] |",
        "| three | [2] | - |",
        "| **of 2** | **1** | **0** |",
    ]
    assert table().numbers == {"not here": 1, "nor here": 2}


def test_the_terminal_shows_the_same_cells() -> None:
    file = StringIO()
    console(file, width=60).print(*table().screen())
    lines = [line.split() for line in file.getvalue().splitlines() if line.strip(" ─")]
    assert lines == [
        ["architecture", "first", "second"],
        ["one", "1e-06", "0.3"],
        ["two", "[1]", "[2]"],
        ["three", "[2]", "-"],
        ["of", "2", "1", "0"],
    ]


def test_the_laws_and_the_longest_row_fit_into_80_columns_and_no_reason_reads_as_a_column() -> None:
    longest = max((row.id for row in usual_rows()), key=len)
    marks = [GridCell(reason=f"reason {at}") if at < 9 else GridCell("✓") for at in range(len(LAWS))]
    cells = {longest: dict(zip(LAWS, marks, strict=True))}
    wide = GridTable(cells, {law: law for law in LAWS}, numbered(cells.values()), dense=True)
    file = StringIO()
    console(file, width=80).print(*on_screen([wide], wide.numbers))
    heading, _, shown, *below = [line for line in file.getvalue().splitlines() if line.strip()]
    assert shown.split() == [longest, *map(str, range(1, 10)), *"✓" * (len(LAWS) - 9)]
    assert heading.split() == ["architecture", *ascii_letters[: len(LAWS)]]
    assert " ".join(below).split("  ")[0].startswith("a=answers, b=declared, ")
    assert "[9] reason 8" in " ".join(below)
