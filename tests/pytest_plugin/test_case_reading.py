"""Each case file is read once: by `harness run` itself, and in a worker only where it has a selected job."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from project import Project

TRACE = """\
import os
from harness.casefile import case

real = case.load_document

def load_document(path):
    with open(os.environ["READS"], "a") as file:
        file.write(f"{os.getpid()} {path.name.partition('.')[0]}\\n")
    return real(path)

case.load_document = load_document
"""


@pytest.fixture
def two(project: Project) -> Project:
    project.write("sitecustomize.py", TRACE)
    project.case("a", engines="native, published")
    project.case("b", models="good, other")
    return project


def reads(project: Project, *args: str, door: str = "run") -> list[dict[str, int]]:
    """Return how often each process reads each case file, the process with the most files first."""
    log = project.folder / "reads"
    got = project.run(*args, door=door, PYTHONPATH=str(project.folder), READS=str(log))
    assert got.code == 0, got.out + got.err
    processes: dict[str, Counter[str]] = defaultdict(Counter)
    for line in log.read_text().splitlines():
        process, case = line.split()
        processes[process][case] += 1
    return sorted(map(dict, processes.values()), key=len, reverse=True)


@pytest.mark.parametrize("args", [(), ("--model", "other"), ("--snapshot-update",)], ids=["all", "narrowed", "update"])
def test_harness_run_reads_each_file_once(two: Project, args: tuple[str, ...]) -> None:
    assert reads(two, *args) == [{"a": 1, "b": 1}]


def test_a_worker_reads_only_files_that_have_a_selected_job(two: Project) -> None:
    assert reads(two, "--model", "other", "-n", "2") == [{"a": 1, "b": 1}, {"b": 1}, {"b": 1}]


@pytest.mark.parametrize(("args", "processes"), [((), 1), (("-n", "2"), 3)], ids=["alone", "n2"])
def test_pytest_reads_each_file_once_in_each_process(two: Project, args: tuple[str, ...], processes: int) -> None:
    """The process that deals out the jobs keeps their time limits, which the files state."""
    assert reads(two, *args, door="pytest") == [{"a": 1, "b": 1}] * processes
