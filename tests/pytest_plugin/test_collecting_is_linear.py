"""Collecting costs the same for each case file, however many there are: its work is counted, not timed."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from project import Project

# Every file has tags of its own.
FEW, MANY = 20, 60
QUIET = ["-k", "nothing"]


def _calls(project: Project, count: int, door: str, *args: str) -> int:
    """Return how many Python and C functions are called to collect so many case files."""
    for number in range(count):
        tags = ", ".join(f"tag{number}-{each}" for each in range(10))
        project.case(f"c{number:04}", more=f"tags: [{tags}, shared]\n")
    calls = 0

    def count_call(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count_call)
    try:
        got = project.through(door, *args)
    finally:
        sys.setprofile(None)
    assert got.code == 5, got.out + got.err
    return calls


@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize("args", [["-k", "nothing"], ["-m", "tag0-0 and not shared"]], ids=["keyword", "tags"])
def test_three_times_the_case_files_are_three_times_the_calls(project: Project, door: str, args: list[str]) -> None:
    _calls(project, 1, door, *QUIET)  # imports
    fixed = _calls(project, 1, door, *args)
    few = _calls(project, FEW, door, *args) - fixed
    many = _calls(project, MANY, door, *args) - fixed
    assert many / few < 1.05 * MANY / FEW


@pytest.mark.parametrize("door", ["run", "pytest"])
def test_a_folder_lists_its_case_files_and_no_others(project: Project, door: str) -> None:
    """Only planned files are read, though the folder that pytest is given holds more than they."""
    named = project.case("named")
    project.case("left-out")
    project.write("cases/test_mine.py", "raise ZeroDivisionError('read')\n")
    got = project.run(*([named] if door == "run" else []), door=door, where=str(named))
    assert (got.code, got.statuses) == (0, {"named[native@good]": "passed"})


@pytest.mark.parametrize("folder", ["a::b", "a[b", "a b", "-x", "ü", "%s{}"])
def test_the_name_of_a_folder_is_no_syntax(project: Project, folder: str) -> None:
    project.write(f"{folder}/cases/good.case.yaml", project.case("good").read_text(encoding="utf-8"))
    got = project.run(cwd=project.folder / folder)
    assert (got.code, got.statuses) == (0, {"good[native@good]": "passed"})
    got = project.run(f"./{folder}/cases")
    assert (got.code, got.statuses) == (0, {"good[native@good]": "passed"})


@pytest.mark.parametrize("stem", ["a[1]", "b::c", "d e", "ü", "-x", "x~y", "a@b", "%0A,:"])
def test_the_name_of_a_file_is_no_syntax(project: Project, stem: str) -> None:
    """It gives no id, which `validate` says with its place; with an id of its own the case runs, from any door."""
    case = project.case(stem)
    assert f"{case.relative_to(project.folder)}:1:1: id: is missing" in project.run_inside().err
    case = project.case(stem, models="good, wide", engines="legacy", more="id: own\n")
    for door in ("run", "pytest"):
        got = project.through(door, "-k", "own and wide")
        assert (got.code, got.statuses) == (1, {"own[legacy@wide]": "failed"})
    got = project.run_inside("--failed", "-k", "own")
    assert got.statuses == {"own[legacy@wide]": "failed"}
    assert project.inside("show", "--models", "m.yaml", f"./cases/{stem}.case.yaml").out.startswith("own ")
