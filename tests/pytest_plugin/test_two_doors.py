"""`harness run` and `pytest cases/` give one verdict, alone and over two workers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from project import Project

TWICE = pytest.mark.slow
DOORS = [("run", ()), ("pytest", ()), pytest.param(("run", ("-n", "2")), marks=TWICE),
         pytest.param(("pytest", ("-n", "2")), marks=TWICE)]  # fmt: skip
DOOR_IDS = ["run", "pytest", "run-n2", "pytest-n2"]

NO_SNAPSHOT = "checks: [finiteness, oracle, known-answer, agreement, laws]\n"

# name -> what makes the project, what must come out: exit code, and the status of every job
SCENARIOS: dict[str, tuple[Callable[[Project], object], int, dict[str, str]]] = {
    "passed": (
        lambda project: project.case("c", models="good, other", more=NO_SNAPSHOT),
        0,
        {"c[native@good]": "passed", "c[native@other]": "passed"},
    ),
    "warning": (lambda project: project.case("c"), 0, {"c[native@good]": "passed"}),
    "skipped": (lambda project: project.case("c", models="absent"), 5, {"c[native@absent]": "skipped"}),
    "skipped-and-passed": (
        lambda project: project.case("c", models="absent, good"),
        0,
        {"c[native@absent]": "skipped", "c[native@good]": "passed"},
    ),
    "refused": (
        lambda project: [project.case("c", component="attn_out"), project.case("d", engines="legacy")],
        4,
        {"c[native@good]": "refused", "d[legacy@good]": "passed"},
    ),
    "crashed": (
        lambda project: [project.case("c"), project.write("sitecustomize.py", RAISE)],
        3,
        {"c[native@good]": "crashed"},
    ),
}
RAISE = """\
from harness import models

def load(row, **options):
    raise RuntimeError("planted")

models.load = load
"""


@pytest.mark.parametrize("door", DOORS, ids=DOOR_IDS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_verdict_does_not_depend_on_the_door(
    project: Project, door: tuple[str, tuple[str, ...]], scenario: str
) -> None:
    make, code, statuses = SCENARIOS[scenario]
    make(project)
    got = project.run(*door[1], door=door[0], PYTHONPATH=str(project.folder))
    assert (got.code, got.statuses) == (code, statuses), got.out + got.err
    assert got.result is not None
    assert got.result.exit_code == code
    assert "Traceback" not in got.out + got.err


def test_the_report_in_all_four_doors(project: Project) -> None:
    """Legacy float16 at 151,936 tokens is flagged, native passes on the same logits; the result files agree."""
    project.case("c", models="wide, good", engines="native, legacy")
    first, *others = [project.run(*workers, door=door) for door in ("run", "pytest") for workers in ((), ("-n", "2"))]
    assert first.statuses == {
        "c[legacy@good]": "passed", "c[legacy@wide]": "failed", "c[native@good]": "passed", "c[native@wide]": "passed"
    }  # fmt: skip
    assert "ORC001" in first.codes
    for other in (first, *others):
        assert other.code == 1
        assert other.jobs == first.jobs


@pytest.mark.parametrize(
    ("workers", "arguments"), [((), ()), pytest.param(("-n", "2"), ("-n", "2"), marks=TWICE)], ids=["alone", "n2"]
)
def test_exitfirst_in_both_doors(project: Project, workers: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    """The first job fails; what was not reached is planned and has no result, and the exit codes are the same."""
    project.case("a", models="wide", engines="legacy")
    for name in ("b", "c", "d"):
        project.case(name, models="wide", engines="legacy, native")
    run = project.run("-x", *workers)
    door = project.run("-x", *arguments, door="pytest")
    assert run.result is not None
    assert door.result is not None
    assert (run.code, door.code) == (1, 1)
    assert run.result.exit_code == door.result.exit_code == 1
    assert run.result.planned == door.result.planned
    assert len(run.result.planned) == 7
    for got in (run, door):
        assert got.statuses["a[legacy@wide]"] == "failed"
        assert set(got.statuses) < set(got.result.planned)
    assert "stopping after 1 failures" in door.out


@pytest.mark.parametrize("door", ["run", "pytest"])
def test_strict_makes_a_warning_fail(project: Project, door: str) -> None:
    project.case("c")
    got = project.run("--strict" if door == "run" else "--harness-strict", door=door)
    assert (got.code, got.statuses) == (1, {"c[native@good]": "failed"})
    assert got.codes == {"SNP002"}


@pytest.mark.parametrize("door", ["run", "pytest"])
def test_required_models_that_are_missing_fail(project: Project, door: str) -> None:
    project.case("c", models="absent")
    got = project.run("--require-models" if door == "run" else "--harness-require-models", door=door)
    assert (got.code, got.statuses) == (1, {"c[native@absent]": "failed"})


@pytest.mark.parametrize("door", DOORS, ids=DOOR_IDS)
@pytest.mark.parametrize(
    ("models", "more", "message"),
    [
        ("good", "metrics: [l3]\n", "'l3' is not a metric"),
        ("goood", "", "'goood' is not a model; did you mean 'good'?"),
    ],
    ids=["bad-case-file", "unknown-model"],
)
def test_a_case_file_that_cannot_be_planned(
    project: Project, door: tuple[str, tuple[str, ...]], models: str, more: str, message: str
) -> None:
    project.case("c", models=models, more=more)
    got = project.run(*door[1], door=door[0])
    assert got.code == 4
    assert message in got.out + got.err
    assert "Traceback" not in got.out + got.err


@pytest.mark.parametrize("door", DOORS, ids=DOOR_IDS)
def test_two_case_files_of_one_id_are_refused(project: Project, door: tuple[str, tuple[str, ...]]) -> None:
    project.case("c", more="id: same\n")
    project.case("d", more="id: same\n")
    got = project.run(*door[1], door=door[0])
    assert got.code == 4
    assert "have the same id 'same'" in got.out + got.err


def test_two_case_files_that_would_store_in_one_folder_are_refused(project: Project) -> None:
    project.case("c")
    file = project.write("c.case.yaml", (project.folder / "cases" / "c.case.yaml").read_text() + "id: other\n")
    got = project.run("cases", str(file))
    assert got.code == 4
    assert "store the same snapshots in" in got.err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--model=goot", "did you mean 'good'?"),
        ("--engine=nativ", "did you mean 'native'?"),
        ("--tag=fast", "there are none"),
        ("no-such-folder", "does not exist"),
    ],
)
def test_an_empty_selection_is_an_error_with_the_right_spelling(project: Project, option: str, message: str) -> None:
    project.case("c")
    got = project.run_inside(option)
    assert (got.code, got.result) == (4, None)
    assert message in got.err


@pytest.mark.parametrize("door", ["run", "pytest"])
def test_no_job_matches_the_keyword(project: Project, door: str) -> None:
    project.case("c")
    assert project.run("-k", "nothing", door=door).code == 5


ORDINARY = {
    "failing": ("def test_it(): assert False\n", 1),
    "broken": ("import no_such_module\n", 1),
    "passing": ("def test_it(): pass\n", 0),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_tests_beside_cases_keep_their_say(project: Project, kind: str) -> None:
    text, code = ORDINARY[kind]
    project.case("c")
    project.write("cases/test_ordinary.py", text)
    got = project.run("--continue-on-collection-errors", door="pytest")
    assert got.code == code, got.out
    assert got.statuses == {"c[native@good]": "passed"}
    assert got.result is not None
    assert got.result.exit_code == 0


@pytest.mark.parametrize(
    ("kind", "code"),
    [("passing", 0), ("failing", 1), ("broken", 1), ("skipped", 5), ("none", 5)],
)
def test_ordinary_tests_beside_cases_that_are_all_skipped(project: Project, kind: str, code: int) -> None:
    """A session in which something ran is not one in which nothing did; the result says so of the cases alone."""
    project.case("c", models="absent")
    text = {**{name: each for name, (each, _) in ORDINARY.items()}, "skipped": SKIPPED, "none": ""}[kind]
    project.write("cases/test_ordinary.py", text)
    got = project.pytest_inside("--continue-on-collection-errors")
    assert (got.code, got.statuses) == (code, {"c[native@absent]": "skipped"}), got.out
    assert got.result is not None
    assert got.result.exit_code == 5


SKIPPED = "import pytest\n\n@pytest.mark.skip\ndef test_it(): pass\n"


def test_ordinary_tests_do_not_soften_a_case(project: Project) -> None:
    project.case("c", component="attn_out")
    project.write("cases/test_ordinary.py", ORDINARY["failing"][0])
    assert project.run(door="pytest").code == 4


def test_a_session_without_cases_is_left_alone(project: Project) -> None:
    project.write("cases/test_ordinary.py", ORDINARY["failing"][0])
    got = project.run(door="pytest")
    assert (got.code, got.result) == (1, None)
    assert "-- harness --" not in got.out


def test_a_worker_that_dies_is_a_crash_and_the_others_go_on(project: Project) -> None:
    project.write("sitecustomize.py", RAISE.replace('raise RuntimeError("planted")', DIE))
    project.case("deadly", models="other, good", more="id: own-id\n")
    got = project.run("-n", "2", PYTHONPATH=str(project.folder))
    assert got.code == 3
    assert got.statuses == {"own-id[native@good]": "passed", "own-id[native@other]": "crashed"}
    assert got.result is not None
    assert len(got.result.jobs) == 2, "the job that killed a worker was tried again"
    assert "Traceback" not in got.out + got.err


DIE = """\
import os
    if row.id == "other":
        os._exit(9)
    return real(row, **options)

real = models.load
"""


def test_an_internal_error_of_pytest_is_never_a_pass(project: Project) -> None:
    project.case("c")
    project.write("broken.py", "def pytest_runtest_logfinish(nodeid): raise RuntimeError('planted')\n")
    got = project.run("-p", "broken", door="pytest", PYTHONPATH=str(project.folder))
    assert got.code == 3
    assert got.result is not None
    assert (got.result.exit_code, got.statuses) == (3, {"c[native@good]": "passed"})


def test_the_exit_code_in_the_text_is_the_session_s_beside_other_tests(project: Project) -> None:
    project.case("good")
    other = project.write("test_other.py", "def test_other():\n    assert False\n")
    got = project.pytest_inside(where=("cases", str(other)))
    assert got.code == 1
    assert "PASSED: 1 passed in" in got.out
    assert "(exit code 1)" in got.out
    assert "the exit code is that of the tests beside the case files" in got.out
    other.write_text("def test_other():\n    assert True\n", encoding="utf-8")
    got = project.pytest_inside(where=("cases", str(other)))
    assert (got.code, "(exit code 0)" in got.out, "beside the case files" in got.out) == (0, True, False)
