"""Jobs that never end and jobs that end their process: each costs itself, and the run says which it was."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from emulation.accelerator import child
from project import Project, environment

# Each hangs, or ends, in a way that nothing inside its process can stop.
ENGINES = """\
import ctypes, os, signal, threading, time
from pathlib import Path

def declared(engine):
    engine.harness = {"units": "percent", "metrics": ["l2"], "components": ["mlp"], "version": "1.0"}
    return engine

@declared
def native_sleep(model, clean, corrupted, component, layers, metric):
    ctypes.PyDLL(None).sleep(1000)  # with Python's lock held

@declared
def own_lock(model, clean, corrupted, component, layers, metric):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

@declared
def stopped(model, clean, corrupted, component, layers, metric):
    os.kill(os.getpid(), signal.SIGSTOP)

@declared
def deaf(model, clean, corrupted, component, layers, metric):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass

@declared
def with_a_child(model, clean, corrupted, component, layers, metric):
    if os.fork() == 0:
        time.sleep(1000)
    time.sleep(1000)

@declared
def aborts(model, clean, corrupted, component, layers, metric):
    os.abort()

@declared
def exits(model, clean, corrupted, component, layers, metric):
    os._exit(0)

@declared
def killed(model, clean, corrupted, component, layers, metric):
    os.kill(os.getpid(), signal.SIGKILL)

@declared
def slow(model, clean, corrupted, component, layers, metric):
    Path("slow").touch()
    time.sleep(1000)

@declared
def raises(model, clean, corrupted, component, layers, metric):
    raise ValueError("planted")
"""
HANGS = ("native_sleep", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "own_lock", "stopped", "deaf", "with_a_child",
)))  # fmt: skip
TWICE = pytest.param(("-n", "2"), marks=pytest.mark.slow)
DIES = {"aborts": "signal SIGABRT", "exits": "exit code 0", "killed": "signal SIGKILL"}


@pytest.fixture
def mine(project: Project) -> Project:
    project.write("mine.py", ENGINES)
    return project


def _case(project: Project, *engines: str, more: str = "") -> None:
    names = ", ".join(("native", *(f"'mine:{engine}'" for engine in engines), "legacy"))
    project.case("c", engines=names, more=f"metrics: [l2]\nchecks: [finiteness]\n{more}")


@pytest.mark.parametrize("engine", HANGS)
def test_a_job_past_its_limit_is_ended_and_the_others_go_on(mine: Project, engine: str) -> None:
    _case(mine, engine, more="timeout: 6\n")
    start = time.monotonic()
    got = mine.run("--allow-code")
    assert got.code == 1, got.err
    assert got.statuses == {"c[legacy@good]": "passed", f"c[mine:{engine}@good]": "failed", "c[native@good]": "passed"}
    assert got.codes == {"ENG002"}
    assert got.result is not None
    assert got.out.rstrip().splitlines()[-1].startswith("FAILED: 2 passed, 1 failed")
    assert time.monotonic() - start < 100


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), TWICE], ids=["alone", "n2"])
def test_the_limit_of_the_run_holds_where_a_case_states_none(mine: Project, workers: tuple[str, ...]) -> None:
    _case(mine, "stopped")
    mine.case("own", more="checks: [finiteness]\ntimeout: 300\n")
    mine.write("pyproject.toml", "[tool.harness]\njob-timeout = 5\n")
    got = mine.run("--allow-code", *workers)
    assert got.code == 1, got.err
    assert got.codes == {"ENG002"}
    assert got.statuses["own[native@good]"] == "passed"
    assert "more than 5 s" in got.out


@pytest.mark.slow
def test_a_job_that_is_said_to_take_too_long_passes_by_it(mine: Project) -> None:
    _case(mine, "stopped", more="timeout: 6\nexpect: {engines: {'mine:stopped': {findings: [ENG002]}}}\n")
    got = mine.run("--allow-code")
    assert (got.code, got.codes) == (0, set()), got.out + got.err


@pytest.mark.parametrize(
    ("workers", "machine"),
    [((), ""), pytest.param(("-n", "2"), "", marks=pytest.mark.slow), ((), "metal,order")],
    ids=["alone", "n2", "like a Mac"],
)
def test_a_process_that_dies_costs_its_own_job(mine: Project, workers: tuple[str, ...], machine: str) -> None:
    """More of them than xdist replaces by itself: four for a worker."""
    _case(mine, *DIES, "raises")
    mine.case("d", engines=", ".join(f"'mine:{engine}'" for engine in DIES), more="metrics: [l2]\n")
    got = mine.run("--allow-code", *workers, **(child(machine) if machine else {}))
    assert got.code == 3, got.err
    assert got.result is not None
    assert not machine or got.result.environment.backend == "metal"
    reasons = {job.engine: job.reason for job in got.result.jobs if job.status == "crashed"}
    assert reasons == {f"mine:{name}": f"the process that ran this job ended with {how}" for name, how in DIES.items()}
    assert sorted(job.status.value for job in got.result.jobs) == ["crashed"] * 6 + ["failed", "passed", "passed"]
    assert all(f"CRASHED c[mine:{name}@good]" in got.out for name in DIES)
    assert "Traceback" not in got.out


def test_pytest_without_workers_says_that_it_keeps_no_limit(project: Project) -> None:
    project.case("c", more="timeout: 300\n")
    got = project.run(door="pytest")
    assert got.code == 0
    assert got.result is not None
    assert got.result.notes == ("time limits were not kept: they need `harness run`, or pytest with -n",)
    kept = project.run("-n", "1", door="pytest")
    assert kept.result is not None
    assert (kept.code, kept.result.notes) == (0, ())


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "x"])
def test_a_limit_is_a_number_of_seconds(project: Project, seconds: str) -> None:
    project.case("c")
    got = project.run_inside("--job-timeout", seconds)
    assert (got.code, "--job-timeout" in got.err) == (4, True)
    project.case("c", more=f"timeout: {seconds}\n")
    got = project.inside("validate", "--models", "m.yaml")
    assert (got.code, "cases/c.case.yaml:5:10" in got.err) == (4, True), got.err


def test_ctrl_c_does_not_wait_for_a_job_that_hangs(mine: Project) -> None:
    mine.case("c", engines="native, 'mine:slow'", more="metrics: [l2]\n")
    run = subprocess.Popen(
        mine.command("run", "--allow-code"), cwd=mine.folder, env=environment(), stdout=-1, stderr=-2,
        start_new_session=True,
    )  # fmt: skip
    while not (mine.folder / "slow").exists():
        time.sleep(0.05)
        assert run.poll() is None
    time.sleep(2)  # the report of the job before has been read by then
    os.killpg(run.pid, signal.SIGINT)
    shown = run.communicate(timeout=60)[0].decode()
    assert (run.returncode, "Traceback" in shown) == (2, False), shown
    result = mine.result()
    assert result is not None
    ended = {job.id: job.status.value for job in result.jobs}
    assert ended == {"c[native@good]": "passed", "c[mine:slow@good]": "interrupted"}
