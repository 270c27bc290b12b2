"""What is seen while a run goes on, on a real terminal (a pty): progress, colours, and Ctrl-C at the keyboard."""

from __future__ import annotations

import re
from typing import Any

import pytest
from project import Project
from recording import record

SLOW = "models:\n  - {id: quick, source: groundtruth, kind: dial, vocab: 64, weights: [0.5]}\n" + (
    "  - {id: slow, source: groundtruth, kind: dial, vocab: 151936, weights: %s}\n" % ([0.5] * 60)
)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CODE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def told(project: Project, *args: str, **how: Any) -> tuple[int, str]:
    """Return the exit code of a command on a terminal of 120 columns, and all that it wrote there."""
    got = record(project.folder, *args, **how)
    return got.code, got.shown


def lines(shown: str) -> list[str]:
    return [line.strip() for line in re.split(r"[\r\n]+", CODE.sub("\n", shown)) if line.strip()]


@pytest.fixture
def slow(project: Project) -> Project:
    project.write("m.yaml", SLOW)
    project.case("c", models="quick, slow")
    return project


def test_loading_layers_and_jobs_are_shown_and_gone_in_the_end(slow: Project) -> None:
    code, shown = told(slow, "run", "--models", "m.yaml")
    assert code == 0
    # The bar is drawn ten times a second, and a small model may be loaded between two drawings.
    assert re.search(r"loading (quick|slow)|checks", shown)
    assert re.search(r"1/2 .*c\[native@slow\]  layer \d+/60", CODE.sub("", shown))
    assert lines(shown)[-1].startswith("PASSED: 2 passed")
    assert COLOUR.search(shown)


def test_workers_are_shown_as_well(project: Project) -> None:
    project.case("a")
    code, shown = told(project, "run", "--models", "m.yaml", "-n", "2")
    assert code == 0
    assert re.search(r"1/1 .*a\[native@good\]", CODE.sub("", shown))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_a_job_in_a_process_of_its_own_does_is_shown(slow: Project, workers: str) -> None:
    code, shown = told(slow, "run", "--models", "m.yaml", "-n", workers)
    assert code == 0
    frames = [frame for frame in CODE.sub("\n", shown).splitlines() if "layer" in frame]
    assert any(re.search(r"c\[native@slow\]  layer \d+/60", frame) for frame in frames)
    assert not any("native@quick" in frame and "/60" in frame for frame in frames)  # a phase stays with its job


def test_no_color_has_progress_without_colours(project: Project) -> None:
    project.case("a")
    code, shown = told(project, "run", "--models", "m.yaml", NO_COLOR="1")
    assert code == 0
    assert "0/1  0:0" in shown
    assert not COLOUR.search(shown)


@pytest.mark.parametrize("args", [("--help",), ("run", "--help"), ("rnu",), ("explain", "FIN001"), ("list",)])
def test_no_color_holds_for_every_command(project: Project, args: tuple[str, ...]) -> None:
    project.case("a", models="dial-152k-f32")
    _, shown = told(project, *args, NO_COLOR="1", FORCE_COLOR="1")
    assert "\x1b" not in shown


@pytest.mark.parametrize(("args", "term"), [(("-q",), "xterm"), ((), "dumb")])
def test_quiet_and_dumb_terminals_have_none(project: Project, args: tuple[str, ...], term: str) -> None:
    project.case("a")
    code, shown = told(project, "run", "--models", "m.yaml", *args, TERM=term)
    assert code == 0
    assert "0/1  0:0" not in shown
    assert lines(shown)[-1].startswith("PASSED")


def test_nothing_is_said_on_the_way_where_nobody_looks(project: Project) -> None:
    project.case("a")
    got = project.run()
    assert (got.code, got.err) == (0, "")
    assert "\x1b" not in got.out
    assert len(lines(project.run("-q").out)) == 1


def test_verbose_says_each_job_as_it_ends(project: Project) -> None:
    project.case("a", models="wide", engines="native, legacy")
    got = project.run("-v")
    ended = [line.split()[:2] for line in got.err.splitlines()[1:]]
    assert ended == [["passed", "a[native@wide]"], ["failed", "a[legacy@wide]"]]


def test_ctrl_c_at_the_keyboard_keeps_what_was_done(slow: Project) -> None:
    def keys(shown: str) -> str | None:
        return "\x03" if re.search(r"c\[native@slow\]  layer \d", shown) else None

    code, shown = told(slow, "run", "--models", "m.yaml", "--json", "result.json", keys=keys, columns=160)
    result = slow.result()
    assert code == 2, shown
    assert lines(shown)[-1].startswith("INTERRUPTED: 1 passed, 1 interrupted in ")
    assert "Traceback" not in shown
    assert "KeyboardInterrupt" not in shown
    assert result is not None
    assert {job.id: job.status.value for job in result.jobs} == {
        "c[native@quick]": "passed", "c[native@slow]": "interrupted",
    }  # fmt: skip
