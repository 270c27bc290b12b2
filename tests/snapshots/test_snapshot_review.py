"""Candidates and their review: what leaves one, what is shown of it, and what each decision does."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from project import ELSEWHERE, HERE, Outcome, Project, environment

from harness.snapshots import Quantity, SnapshotPlace, WidenedTolerance, candidates, differences
from harness.snapshots.file import read

UPDATE = "--snapshot-update"
JOBS = ("native@good", "published@good")


@pytest.fixture
def moved(project: Project) -> Project:
    """Two jobs whose stored L2 recovery is 3 points off, run once: two candidates wait."""
    project.case("good", engines="native, published")
    assert project.run_inside(UPDATE).code == 0
    for job in JOBS:
        text = project.snapshot(job).read_text(encoding="utf-8")
        project.snapshot(job).write_text(text.replace('"value": 50.0', '"value": 53.0'), encoding="utf-8")
    before = project.snapshots
    assert project.run_inside().codes == {"SNP001"}
    assert project.snapshots == before
    return project


def candidate(project: Project, job: str = JOBS[0], backend: str = HERE) -> Path:
    return project.folder / "results" / "snapshots" / "good" / f"{job}.{backend}.json"


def review(project: Project, *args: str, keys: str = "", monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.setattr(sys, "stdin", io.StringIO(keys))
    return project.inside("snapshots", "review", "--models", project.folder / "m.yaml", *args)


def value(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    return "old" if '"value": 53.0' in text else "new" if '"value": 50.0' in text else "neither"


@pytest.mark.parametrize(
    ("keys", "code", "stored", "waiting", "said"),
    [
        ("a\na\n", 0, ["new", "new"], [False, False], "2 accepted"),
        ("r\nr\n", 0, ["old", "old"], [False, False], "2 rejected"),
        ("s\na\n", 1, ["old", "new"], [True, False], "1 accepted, 1 skipped"),
        ("a\nr\n", 0, ["new", "old"], [False, False], "1 accepted, 1 rejected"),
        ("q\n", 1, ["old", "old"], [True, True], "2 skipped"),
        ("", 1, ["old", "old"], [True, True], "2 skipped"),
        ("a\n", 1, ["new", "old"], [False, True], "1 accepted, 1 skipped"),
        ("x\n\nyes\nA\nreject\n", 0, ["new", "old"], [False, False], "1 accepted, 1 rejected"),
    ],
    ids=["accept", "reject", "skip", "each", "quit", "no answer", "end of input", "other keys ask again"],
)
def test_each_decision(
    moved: Project, monkeypatch: pytest.MonkeyPatch, keys: str, code: int, stored: list[str], waiting: list[bool],
    said: str,
) -> None:  # fmt: skip
    got = review(moved, keys=keys, monkeypatch=monkeypatch)
    assert (got.code, got.out.splitlines()[-1]) == (code, said)
    assert [value(moved.snapshot(job)) for job in JOBS] == stored
    assert [candidate(moved, job).exists() for job in JOBS] == waiting


def test_old_new_difference_and_provenance_are_shown(moved: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    got = review(moved, keys="", monkeypatch=monkeypatch)
    assert f"1 of 2: good[native@good] on {HERE}" in got.out
    (row,) = [line.split() for line in got.out.splitlines() if "mlp l2 layer 0" in line]
    assert row == ["mlp", "l2", "layer", "0", "53", "50", "-3", "points"]
    assert f"  mlx {moved.stored()['provenance']['mlx']}\n" in got.out


def test_a_baseline_is_shown_in_percent_of_itself_and_what_came_from_elsewhere_as_such(
    moved: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = moved.snapshot().read_text(encoding="utf-8").replace('"value": 7.416198', '"value": 7.0')
    moved.snapshot().write_text(text.replace('"mlx": "', '"mlx": "0.1 and '), encoding="utf-8")
    got = review(moved, keys="", monkeypatch=monkeypatch)
    assert "+5.95 %" in got.out
    assert "  mlx 0.1 and " in got.out
    assert " -> " in got.out


def test_accept_all_asks_nothing(moved: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    got = review(moved, "--accept-all", monkeypatch=monkeypatch)
    assert (got.code, [value(moved.snapshot(job)) for job in JOBS]) == (0, ["new", "new"])
    assert moved.run_inside("--strict").code == 0
    assert review(moved, monkeypatch=monkeypatch).out == "no candidate waits\n"


def test_a_variant_of_a_case_is_reviewed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.case("v", more="matrix: {direction: [denoising, noising]}\n")
    assert project.run_inside(UPDATE).code == 0
    file = project.folder / "snapshots" / "v" / f"noising~native@good.{HERE}.json"
    right = file.read_text(encoding="utf-8")
    file.write_text(right.replace('"value": 50.0', '"value": 53.0'), encoding="utf-8")
    assert project.run_inside().codes == {"SNP001"}
    got = review(project, "--accept-all", monkeypatch=monkeypatch)
    assert (got.code, file.read_text(encoding="utf-8")) == (0, right)


def test_only_what_is_selected_is_reviewed(moved: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert review(moved, "-e", "published", "--accept-all", monkeypatch=monkeypatch).code == 0
    assert [value(moved.snapshot(job)) for job in JOBS] == ["old", "new"]


def test_ci_accepts_nothing(moved: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    before = moved.snapshots
    got = review(moved, "--accept-all", monkeypatch=monkeypatch)
    assert (got.code, moved.snapshots) == (4, before)
    assert candidate(moved).exists()


def test_ci_leaves_candidates(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.case("good")
    project.run_inside(UPDATE)
    project.case("good", more="tolerance: {recovery_points: 90}\n")
    monkeypatch.setenv("CI", "1")
    assert project.run_inside().codes == {"SNP001"}
    assert candidate(project).exists()


def test_a_run_that_agrees_withdraws_the_candidate(moved: Project) -> None:
    for job in JOBS:
        text = moved.snapshot(job).read_text(encoding="utf-8")
        moved.snapshot(job).write_text(text.replace('"value": 53.0', '"value": 50.0'), encoding="utf-8")
    assert moved.run_inside().code == 0
    assert not candidate(moved).exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"model": "good"', '"model": "other"', "is not a candidate of this job"),
        (f'"backend": "{HERE}"', f'"backend": "{ELSEWHERE}"', "is not a candidate of this job"),
        ('"value": 50.0', '"value": NaN', "cannot be read as a snapshot"),
        ("{", "", "cannot be read as a snapshot"),
        ('"curves"', '"lines"', "cannot be read as a snapshot"),
    ],
    ids=["model", "backend", "nan", "half", "no curves"],
)
def test_a_candidate_that_is_none_is_refused_and_the_others_go_on(
    moved: Project, monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str
) -> None:
    text = candidate(moved).read_text(encoding="utf-8")
    candidate(moved).write_text(text.replace(old, new), encoding="utf-8")
    got = review(moved, "--accept-all", monkeypatch=monkeypatch)
    assert got.code == 4
    assert said in got.err
    assert str(candidate(moved).relative_to(moved.folder)) in got.err
    assert [value(moved.snapshot(job)) for job in JOBS] == ["old", "new"]


def test_a_stored_file_that_cannot_be_read_is_replaced_by_a_decision_only(
    moved: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved.snapshot().write_text("half", encoding="utf-8")
    assert moved.run_inside(UPDATE).code == 1
    got = review(moved, keys="a\n", monkeypatch=monkeypatch)
    assert "cannot be read" in got.out
    assert value(moved.snapshot()) == "new"


def test_a_candidate_of_another_machine(moved: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from the artefacts of a run on Metal: it is compared with the CPU's, more widely, and stored apart."""
    for job in JOBS:
        text = candidate(moved, job).read_text(encoding="utf-8").replace(HERE, ELSEWHERE)
        candidate(moved, job).unlink()
        candidate(moved, job, ELSEWHERE).write_text(text, encoding="utf-8")
    got = review(moved, "--accept-all", monkeypatch=monkeypatch)
    assert got.code == 0
    assert f"on {ELSEWHERE}\nbeyond the tolerance of 0.01 points, baselines 0.0025 %" in got.out
    assert [value(moved.snapshot(job, backend=ELSEWHERE)) for job in JOBS] == ["new", "new"]
    assert [value(moved.snapshot(job)) for job in JOBS] == ["old", "old"]


def test_what_rounding_moves_further_between_two_machines_is_known_to_the_review(
    moved: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run knows how far a small denominator lets its recoveries move; the candidate it leaves says so."""
    old = read(moved.snapshot())
    new = replace(read(candidate(moved)), provenance={**old.provenance, "backend": ELSEWHERE})
    candidate(moved).unlink()
    place = SnapshotPlace("good", moved.folder / "cases" / "good.case.yaml", "native@good", "native", "good", ELSEWHERE)
    (where, *_) = [each.where for each in differences(old, new)]
    for allowed, said in ((3.5, "everything is within the tolerance"), (2.9, "beyond the tolerance of 0.01 points")):
        wide = WidenedTolerance(0.01, 2.5e-5, {where: allowed, Quantity("mlp", "mse"): 1e-9})
        candidates.leave(place, new, moved.folder / "results", wide)
        assert read(candidate(moved, backend=ELSEWHERE)).widened == {str(where): allowed}
        got = review(moved, "-e", "native", keys="s\n", monkeypatch=monkeypatch)
        assert said in got.out
    assert review(moved, "-e", "native", "--accept-all", monkeypatch=monkeypatch).code == 0
    assert read(moved.snapshot(backend=ELSEWHERE)) == new


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds; return whether it did in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def test_one_key_at_a_terminal(moved: Project) -> None:
    """A pseudo-terminal: single keys, no line end."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "harness", "snapshots", "review", "--models", "m.yaml"]
    process = subprocess.Popen(
        command, cwd=moved.folder, env=environment(), stdin=theirs, stdout=subprocess.PIPE, text=True
    )
    for key in (b"r", b"a"):
        # What is typed before the question is dropped.
        assert within(30, lambda: not termios.tcgetattr(theirs)[3] & termios.ICANON)
        os.write(ours, key)
        # The next question may come so soon that the time between the two is not seen.
        within(3, lambda: bool(termios.tcgetattr(theirs)[3] & termios.ICANON))
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, out.splitlines()[-1]) == (0, "1 accepted, 1 rejected")
    assert [value(moved.snapshot(job)) for job in JOBS] == ["old", "new"]


@pytest.mark.parametrize("door", ["run", "pytest"])
def test_a_results_folder_whose_candidates_are_the_snapshots_is_refused(moved: Project, door: str) -> None:
    before = moved.snapshots
    option = "--results" if door == "run" else "--harness-results"
    assert moved.through(door, f"{option}=.").code == 4
    for command in (("review", "--accept-all"), ("status",)):
        got = moved.inside("snapshots", *command, "--models", "m.yaml", "--results", ".")
        assert (got.code, "give another folder" in got.err) == (4, True)
    assert moved.snapshots == before
