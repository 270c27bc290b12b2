"""A signal ends a run and loses no result that a job has given; a KeyboardInterrupt of an engine's own ends its job."""

from __future__ import annotations

import pytest
from project import Project
from xdist import dsession

from harness.pytest_plugin.gathering import is_a_signal

CASES = ("a", "b", "c", "d", "e")
# Sends a signal as the fourth job starts, to itself or to the process that started it.
PLANTED = """
import os, signal, time
from harness.jobs import run as jobs

unbroken, calls = jobs.run, []

def planted(*args, **kwargs):
    calls.append(1)
    if len(calls) == 4:
        os.kill({whose}, signal.{sent})
        time.sleep({seconds})
    return unbroken(*args, **kwargs)

jobs.run = planted
"""
# A controller that is slow to hand on what its worker sent, as a busy machine makes it.
SLOW = """
import time
from xdist.dsession import DSession

handed_on = DSession.worker_testreport

def slow(self, node, rep):
    time.sleep(1)
    return handed_on(self, node, rep)

DSession.worker_testreport = slow
"""
ENGINE = """
import signal

class Patch:
    harness = {"units": "percent", "metrics": ["l2"], "components": ["mlp"], "version": "1"}

    def __call__(self, model, clean, corrupted, component, layers, metric):
        WORST

patch = Patch()
"""


@pytest.fixture
def planted(project: Project) -> Project:
    for name in CASES:
        project.case(name)
    return project


@pytest.mark.parametrize("sent", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_a_signal_as_a_job_starts_loses_no_result_before_it(planted: Project, sent: str) -> None:
    planted.write("sitecustomize.py", PLANTED.format(whose="os.getpid()", sent=sent, seconds=0))
    got = planted.run(PYTHONPATH=str(planted.folder))
    assert got.code == 2, got.out + got.err
    wanted = dict.fromkeys(CASES[:3], "passed") | {"d": "interrupted"}
    assert {name[0]: status for name, status in got.statuses.items()} == wanted
    assert "Traceback" not in got.out + got.err


@pytest.mark.parametrize("sent", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_nor_one_that_the_controller_has_not_handed_on_yet(planted: Project, sent: str) -> None:
    planted.write("sitecustomize.py", PLANTED.format(whose="os.getppid()", sent=sent, seconds=30) + SLOW)
    got = planted.run("-n1", PYTHONPATH=str(planted.folder))
    assert got.code == 2, got.out + got.err
    ended = {name[0]: status for name, status in got.statuses.items()}
    assert {name: status for name, status in ended.items() if name in "abc"} == dict.fromkeys("abc", "passed")
    assert "Traceback" not in got.out + got.err


def engine(project: Project, worst: str) -> None:
    project.case("b", engines='"mine:patch"', more="metrics: [l2]\n")
    project.write("mine.py", ENGINE.replace("WORST", worst))


@pytest.mark.parametrize("door", ["run", pytest.param("pytest", marks=pytest.mark.slow)])
def test_an_interrupt_of_the_engines_own_is_a_finding_of_its_job(planted: Project, door: str) -> None:
    engine(planted, 'raise KeyboardInterrupt("mine")')
    got = planted.run("--allow-code" if door == "run" else "--harness-allow-code", door=door)
    assert got.code == 1, got.out + got.err
    ended = {name[0]: status for name, status in got.statuses.items()}
    assert ended == dict.fromkeys(CASES, "passed") | {"b": "failed"}
    assert "ENG001" in got.codes
    assert "KeyboardInterrupt: mine" in got.out


@pytest.mark.parametrize(
    "worst",
    [
        "signal.raise_signal(signal.SIGINT)",
        "try:\n            signal.raise_signal(signal.SIGINT)\n        except KeyboardInterrupt:\n"
        '            raise KeyboardInterrupt("mine")',
    ],
    ids=["as it is", "raised again"],
)
def test_a_signal_inside_of_an_engine_still_ends_the_run(planted: Project, worst: str) -> None:
    engine(planted, worst)
    got = planted.run("--harness-allow-code", door="pytest")
    assert got.code == 2, got.out + got.err
    assert {name[0]: status for name, status in got.statuses.items()} == {"a": "passed", "b": "interrupted"}


@pytest.mark.parametrize(
    ("error", "signal_came"),
    [
        (KeyboardInterrupt(), True),
        (dsession.Interrupted("<WorkerController gw0> received keyboard-interrupt"), True),
        (dsession.Interrupted("stopping after 1 failures"), False),
        (pytest.Session.Interrupted("1 error during collection"), False),
    ],
    ids=["Ctrl-C", "Ctrl-C in a worker", "xdist after -x", "pytest after a fault in collecting"],
)
def test_who_stops_by_itself_was_not_interrupted(error: BaseException, signal_came: bool) -> None:
    assert is_a_signal(error) is signal_came
