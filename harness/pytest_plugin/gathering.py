"""The results that reports carry, gathered in the process that owns the terminal, alone or over xdist's workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin.items import CASE_SUFFIX, names_of
from harness.pytest_plugin.limiting import JobLimits, ended_how
from harness.pytest_plugin.selecting import JobSelecting, is_worker

if TYPE_CHECKING:
    from harness.vocabulary import JobResult


class ResultGathering:
    """Every job's result, and what else there is to be said of a session."""

    def __init__(self, config: pytest.Config, selecting: JobSelecting, limits: JobLimits):
        self.config, self.selecting, self.limits = config, selecting, limits
        self.results: list[JobResult] = []
        self.bad_case_file = False
        self.interrupted = False
        self.ordinary_tests_ran = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and report.nodeid.endswith(CASE_SUFFIX):
            self.bad_case_file = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if is_worker(self.config):
            return
        if sent := getattr(report, "harness_job", None):
            from harness.results.json import load_job

            self.results.append(load_job(sent))
        elif report.failed and names_of(report.nodeid):
            self.results.append(self._crashed(report))
        elif report.when == "call" and not report.skipped and not names_of(report.nodeid):
            self.ordinary_tests_ran = True

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, report: pytest.TestReport) -> None:
        """Give the report of a job whose worker ended the job's result, which pytest then counts as any other."""
        if names_of(report.nodeid) is None:
            return
        from harness.results.json import dump_job
        from harness.vocabulary import Status

        result = self._crashed(report)
        report.when, report.outcome = "call", "passed" if result.status is Status.PASSED else "failed"
        report.harness_job = dump_job(result)  # type: ignore[attr-defined]  # as JobRunning does

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        from harness.jobs.run import unanswered
        from harness.vocabulary import Status
        from harness.vocabulary.raised import JobInterrupted

        # pytest's own way to stop after a fault in collecting is a KeyboardInterrupt of another type.
        self.interrupted = self.interrupted or excinfo.type in (KeyboardInterrupt, JobInterrupted)
        running = map(self.selecting.job_named, sorted(self.limits.running))
        self.results += [unanswered(job, Status.INTERRUPTED, "interrupted") for job in running if job]

    def _crashed(self, report: pytest.TestReport) -> JobResult:
        """Return the result of a job that sent none, because its item or its worker broke, or it took too long."""
        from harness.jobs.run import overdue, unanswered
        from harness.vocabulary import Status

        job = self.selecting.job_named(report.nodeid)
        assert job is not None
        if limit := self.limits.overdue.get(report.nodeid):
            return overdue(job, limit, self.config.getoption("harness_strict"))
        reason = ended_how(getattr(report, "node", None)) or str(report.longrepr).strip().rpartition("\n")[2]
        return unanswered(job, Status.CRASHED, reason or report.when)
