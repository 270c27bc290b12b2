"""What is seen while jobs run: how many are done, for how long, what failed, and what the current one does.

pytest captures both streams while a job runs, so the line has a copy of standard error of its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from harness.cli.screen import ProgressLine, waiting
from harness.support import progress

GOOD = ("passed", "skipped")


@contextmanager
def watching(verbosity: int) -> Iterator[ProgressPlugin]:
    """Yield a pytest plugin that shows progress; with verbosity 1 a line a job as well, with -1 nothing."""
    with TemporaryDirectory() as phases, waiting(quiet=verbosity < 0) as line:
        line.say("collecting")
        yield ProgressPlugin(line, verbosity, Path(phases))


class ProgressPlugin:
    """Counts jobs, in this process or over xdist's workers, and tells the line."""

    def __init__(self, line: ProgressLine, verbosity: int, phases: Path):
        self.line, self.verbosity = line, verbosity
        self.phases = phases
        line.phase_elsewhere = self._phase_of_a_worker
        self.begun: dict[str, float] = {}
        self.total, self.ended = 0, Counter[str]()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.items:
            self._tell(total=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self._tell(total=len(ids))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to say what its job does: xdist carries whole reports and nothing before them."""
        node.workerinput[progress.FOLLOWED] = str(self.phases / node.gateway.id)

    def _phase_of_a_worker(self) -> progress.Phase | None:
        said = filter(None, map(progress.last_kept, self.phases.iterdir()))
        return next((phase for name, phase in said if _name(name) == self.line.name), None)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.begun[nodeid] = time.monotonic()
        self._tell(_name(nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome == "failed":
            status = getattr(report, "harness_job", {}).get("status", report.outcome)
            seconds = time.monotonic() - self.begun.pop(report.nodeid, time.monotonic())
            self.ended[status] += 1
            self._tell(_name([report.nodeid, *self.begun][-1]))  # of several workers, one that still has a job
            if self.verbosity > 0:
                self.line.note(f"{status:<8} {_name(report.nodeid)}  {seconds:.1f} s")

    def _tell(self, name: str = "", total: int = 0) -> None:
        self.total = total or self.total
        apart = ", ".join(f"{count} {status}" for status, count in self.ended.items() if status not in GOOD)
        self.line.at(self.ended.total(), self.total, name, apart)


def _name(nodeid: str) -> str:
    """Return `circuit[native@model]` for `cases/circuit.case.yaml::job[native@model]`."""
    return nodeid.rpartition("/")[2].replace(".case.yaml::job", "")
