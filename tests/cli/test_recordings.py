"""What stays on screens of several widths, and what moves on them: one line with count and time, never wrapped."""

from __future__ import annotations

import re

import pytest
from project import Project
from recording import Emulator, Recording, record

WIDTHS = [40, *(pytest.param(width, marks=pytest.mark.slow) for width in (60, 80, 140))]
"""The narrowest is the one that breaks first."""
HEAD = re.compile(r"(\d+/\d+  |\d+ %  )?\d+:\d\d(  \d+ \w+(, \d+ \w+)*)?(  |$)")
"""How the line of progress begins: the count, where something is counted, the time, and what failed."""
JOBS = re.compile(r"\d+/\d+  \d+:\d\d")
MODELS = "models:\n" + "".join(
    f"  - {{id: a-model-with-a-long-name-{number}, source: groundtruth, kind: dial, vocab: 60000, "
    f"weights: {[0.5] * 12}}}\n"
    for number in range(2)
)
IDS = [f"a-model-with-a-long-name-{number}" for number in range(2)]


def moving(got: Recording) -> list[str]:
    """Return what the line showed, time after time."""
    return [frame.rstrip() for frame in got.screen.frames if frame.strip()]


def judged(got: Recording, columns: int, ends: str) -> None:
    """Hold what every recording must: one line that never reaches the edge, nothing stale, no word broken."""
    frames = moving(got)
    assert frames
    assert [frame for frame in frames if not HEAD.match(frame)] == []
    assert max(map(len, frames)) < columns
    assert got.screen.wrapped == []
    assert [line for line in got.screen.lines if JOBS.match(line)] == []
    assert ends in " ".join(got.screen.lines[-4:])


@pytest.fixture
def long_names(project: Project) -> Project:
    project.write("long.yaml", MODELS)
    project.case("a-case-with-a-long-name", models=", ".join(IDS))
    return project


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_run(long_names: Project, columns: int) -> None:
    got = record(long_names.folder, "run", "--models", "long.yaml", columns=columns)
    judged(got, columns, "PASSED: 2 passed in")
    assert [frame for frame in moving(got) if not JOBS.match(frame) and not frame.endswith("collecting")] == []
    # A line that is too long loses its beginning, and the phase at its end stays.
    assert any(re.search(r"layer \d+/12$|cell \d+/12$|checks$", frame) for frame in moving(got))
    assert any("…" in frame for frame in moving(got)) is (columns <= 80)
    shown = "\n".join(got.screen.lines)
    assert all(name in shown for name in [*IDS, "a-case-with-a-long-name"])


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_conformance(project: Project, columns: int) -> None:
    # fmt: off
    got = record(project.folder, "conformance", "-e", "native", "--row", "qwen3", "--row", "llama",
                 "--law", "answers", "--law", "identity", columns=columns)
    # fmt: on
    judged(got, columns, "PASSED:")
    assert {frame[:3] for frame in moving(got)} <= {"0/2", "1/2", "2/2"}


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_diagnosis(long_names: Project, columns: int) -> None:
    # fmt: off
    got = record(long_names.folder, "diagnose", "-m", IDS[0], "--models", "long.yaml",
                 "--clean", "0", "--corrupted", "1", "--ids", "-c", "mlp", columns=columns)
    # fmt: on
    said = [line for line in got.screen.wrapped if not got.screen.lines[0].startswith("**")]
    assert said == []
    got.screen.wrapped.clear()  # the paragraph is one line on purpose: it is copied into an issue
    judged(got, columns, "comparisons")


def test_what_is_written_meanwhile_stands_above_the_line(project: Project) -> None:
    project.write(
        "talks.py",
        "import sys, time\nfrom harness.cli.screen import waiting\n"
        "with waiting() as line:\n"
        "    for number in range(3):\n"
        "        line.at(number, 3, 'x' * 100)\n        time.sleep(0.25)\n"
        "        line.note(f'note {number}')\n        print('printed', number)\n"
        "        sys.stderr.write('a bar 50 %')\n        time.sleep(0.25)\n"
        "        sys.stderr.write('\\rdone 100 %\\n')\n",
    )
    got = record(project.folder, program=("talks.py",), columns=40)
    expected = [text for number in range(3) for text in (f"note {number}", f"printed {number}", "done 100 %")]
    assert got.screen.lines == expected
    assert got.screen.wrapped == []
    assert {frame[:3] for frame in moving(got) if "/" in frame} == {"0/3", "1/3", "2/3"}


def test_the_emulator_sees_a_wrapped_and_a_stale_line() -> None:
    screen = Emulator(10).feed("0/3  twelve letters\r\x1b[Kdone\r\n")
    assert screen.wrapped == ["0/3  twelv"]
    assert screen.lines == ["0/3  twelv", "done"]
    assert Emulator(10).feed("0/3  eight\r\x1b[Kdone\r\n").wrapped == []
