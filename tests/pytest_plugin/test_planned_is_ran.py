"""Every planned job is in the table and in the JSON, whatever ends its item, and counts once."""

from __future__ import annotations

import pytest
from project import Project

NAMES = ("a[native@good]", "b[native@good]", "c[native@good]")
SETUP = "import pytest\n\ndef pytest_runtest_setup(item):\n    if '/a.case' in str(item.path):\n        "
CALL = "import pytest\n\ndef pytest_runtest_call(item):\n    if '/a.case' in str(item.path):\n        "
ITEMS = "import pytest\n\ndef pytest_collection_modifyitems(config, items):\n    "
LAST = """\
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    yield
    """
LEFT_OUT = "left out by a conftest or a plugin of pytest"

SKIPPED = {
    "skip-in-setup": (SETUP + "pytest.skip('no time')", "Skipped: no time"),
    "importorskip-in-setup": (SETUP + "pytest.importorskip('no_such_module')", "could not import 'no_such_module'"),
    "xfail-in-setup": (SETUP + "pytest.xfail('it is known')", "it is known"),
    "skip-before-the-call": (CALL + "pytest.skip('no time')", "Skipped: no time"),
    "skip-mark": (ITEMS + "items[0].add_marker(pytest.mark.skip(reason='a mark'))", "Skipped: a mark"),
    "xfail-not-run": (ITEMS + "items[0].add_marker(pytest.mark.xfail(run=False, reason='hangs'))", "[NOTRUN] hangs"),
    "taken-out": (ITEMS + "del items[0]", LEFT_OUT),
    "taken-out-last": (LAST + "del items[0]", LEFT_OUT),
    "deselected": (ITEMS + "config.hook.pytest_deselected(items=[items.pop(0)])", LEFT_OUT),
}


@pytest.fixture
def three(project: Project) -> Project:
    for name in "abc":
        project.case(name, more="checks: [finiteness]\n")
    return project


@pytest.mark.parametrize(("conftest", "reason"), SKIPPED.values(), ids=SKIPPED)
def test_a_job_that_somebody_else_skips_is_skipped_with_the_reason(three: Project, conftest: str, reason: str) -> None:
    three.write("cases/conftest.py", conftest)
    got = three.pytest_inside()
    assert got.statuses == dict(zip(NAMES, ("skipped", "passed", "passed"), strict=True)), got.out
    assert reason in (got.result.jobs[0].reason or "")
    assert (got.code, got.result.exit_code, got.result.planned) == (0, 0, NAMES)


def test_under_workers_too(three: Project) -> None:
    three.write("cases/conftest.py", ITEMS + "del items[0]\n    items[0].add_marker(pytest.mark.skip(reason='a mark'))")
    got = three.run("-n", "2", door="pytest")
    assert got.statuses == dict(zip(NAMES, ("skipped", "skipped", "passed"), strict=True)), got.out
    assert got.result.planned == NAMES


@pytest.mark.parametrize(
    "filters", [("-k", "b.case.yaml"), ("--deselect", "cases/a.case.yaml")], ids=["-k", "--deselect"]
)
def test_what_the_user_leaves_out_is_not_planned(three: Project, filters: tuple[str, ...]) -> None:
    got = three.pytest_inside(*filters, f"--rootdir={three.folder}", where=(str(three.folder / "cases"),))
    assert got.result.planned == tuple(got.statuses)
    assert "a[native@good]" not in got.statuses
    assert got.code == 0


def test_a_job_left_out_by_a_conftest_belongs_to_one_shard(three: Project) -> None:
    three.write("cases/conftest.py", ITEMS + "del items[0]")
    parts = [three.pytest_inside(f"--harness-shard={number}/2") for number in (1, 2)]
    assert sorted(name for got in parts for name in got.statuses) == list(NAMES)
    assert {got.result.planned for got in parts} == {NAMES}


@pytest.mark.parametrize(
    "conftest",
    [
        "def pytest_runtest_protocol(item):\n    return '/a.case' in str(item.path) or None\n",
        "def pytest_runtest_logfinish(nodeid):\n    import pytest\n    pytest.exit('enough', returncode=0)\n",
        "def pytest_runtest_makereport(item):\n    item.session.shouldstop = 'enough'\n",
    ],
    ids=["not-run", "pytest-exit", "shouldstop"],
)
def test_a_planned_job_without_a_result_never_passes(three: Project, conftest: str) -> None:
    three.write("cases/conftest.py", conftest)
    got = three.pytest_inside()
    assert len(got.statuses) < 3
    assert got.code == got.result.exit_code == 2
    assert any(note.startswith("planned and without a result: ") for note in got.result.notes)
    assert "planned and without a result" in got.out


RERUN = """\
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    for _ in range(3):
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            item.ihook.pytest_runtest_logreport(report=report)
    return True
"""
REPEAT = """\
import pytest

@pytest.fixture
def repeated(request):
    return request.param

def pytest_generate_tests(metafunc):
    metafunc.fixturenames.append("repeated")
    metafunc.parametrize("repeated", range(3), indirect=True, ids=["1-3", "2-3", "3-3"])
"""
FAILS_FIRST = """
from harness import jobs
from harness.jobs import run as module

real, seen = module.run, []

def run(job, *rest):
    from dataclasses import replace
    from harness.vocabulary import Status
    seen.append(job.id)
    return replace(real(job, *rest), status=Status.{first} if len(seen) == 1 else Status.{then}, reason="so")

module.run = run

def pytest_unconfigure():
    module.run = real
"""


@pytest.mark.parametrize("how", [RERUN, REPEAT], ids=["rerun", "repeat"])
@pytest.mark.parametrize(("first", "then", "code"), [("FAILED", "PASSED", 0), ("PASSED", "FAILED", 1)])
def test_a_job_that_runs_again_counts_once_by_its_last_result(
    project: Project, how: str, first: str, then: str, code: int
) -> None:
    project.case("a", more="checks: [finiteness]\n")
    project.write("cases/conftest.py", how + FAILS_FIRST.format(first=first, then=then))
    got = project.pytest_inside()
    assert got.statuses == {"a[native@good]": then.lower()}, got.out
    assert got.result.exit_code == code
    assert got.result.planned == ("a[native@good]",)
    assert got.result.notes == ("a[native@good] ran 3 times; its last result counts",)
    assert "ran 3 times" in got.out


def test_a_failure_is_not_lost_to_a_skip_of_its_rerun(project: Project) -> None:
    project.case("a", models="wide", engines="legacy")
    skips = """
def pytest_runtest_setup(item):
    if hasattr(item, "again"):
        import pytest
        pytest.skip("no")
    item.again = True
"""
    project.write("cases/conftest.py", RERUN + skips)
    got = project.pytest_inside()
    assert (got.code, got.statuses) == (1, {"a[legacy@wide]": "failed"})


BREAKS = {
    "teardown": """
import pytest

@pytest.fixture(autouse=True)
def broken():
    yield
    raise RuntimeError("gone")
""",
    "strict-xfail": ITEMS + "items[0].add_marker(pytest.mark.xfail(strict=True, reason='was broken'))",
}


@pytest.mark.parametrize(
    ("conftest", "status", "code"), [*zip(BREAKS.values(), ("crashed", "failed"), (3, 1), strict=True)], ids=BREAKS
)
def test_what_breaks_around_a_job_that_passes_is_in_its_result(
    project: Project, conftest: str, status: str, code: int
) -> None:
    project.case("a", more="checks: [finiteness]\n")
    project.write("cases/conftest.py", conftest)
    got = project.pytest_inside()
    assert (got.code, got.result.exit_code, got.statuses) == (code, code, {"a[native@good]": status})
    assert got.result.jobs[0].curves


@pytest.mark.parametrize(
    "call", ["importorskip('no_such_module')", "skip('no')", "xfail('no')", "fail('no')", "exit('no')"]
)
def test_an_engine_that_ends_in_pytests_own_way_has_a_finding(project: Project, call: str) -> None:
    project.write(
        "ending_engine.py",
        f"import pytest\n\ndef patch(model, clean, corrupted, component, layers, metric):\n    pytest.{call}\n\n"
        "patch.harness = {'units': 'percent', 'metrics': ['l2'], 'components': ['mlp']}\n",
    )
    project.case("a", more="metrics: [l2]\n")
    got = project.run("--with-engine", "ending_engine:patch", "--allow-code", PYTHONPATH=str(project.folder))
    assert got.statuses["a[ending_engine:patch@good]"] == "failed", got.out + got.err
    assert "ENG001" in got.codes
    assert got.code == 1


@pytest.mark.parametrize("option", ["--collect-only", "--setup-only", "--setup-plan"])
def test_looking_alone_is_no_interrupted_run(three: Project, option: str) -> None:
    assert "without a result" not in three.pytest_inside(option).out
