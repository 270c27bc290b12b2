"""The results that reports carry, gathered in the process that owns the terminal, alone or over xdist's workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin.items import MEANT_AS_CASE, names_of
from harness.pytest_plugin.limiting import JobLimits, ended_how
from harness.pytest_plugin.selecting import JobSelecting, is_worker
from harness.vocabulary.words import number_of

if TYPE_CHECKING:
    from harness.vocabulary import JobResult


class ResultGathering:
    """Every job's result, and what else there is to be said of a session."""

    def __init__(self, config: pytest.Config, selecting: JobSelecting, limits: JobLimits):
        self.config, self.selecting, self.limits = config, selecting, limits
        self._results: dict[str, JobResult] = {}
        self._times: Counter[str] = Counter()
        self.unreported: JobResult | None = None
        """The result of this process that pytest has made no report of yet."""
        self._heard: dict[int, pytest.TestReport] = {}
        """Reports of workers that xdist has not handed on yet, by their identity."""
        self.bad_case_file = False
        self.interrupted = False
        self.ordinary_tests_ran = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and MEANT_AS_CASE.search(report.nodeid):
            self.bad_case_file = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if is_worker(self.config):
            return
        if sent := getattr(report, "harness_job", None):
            from harness.results.json import load_job

            self.add(_believed(load_job(sent), report))
        elif names_of(report.nodeid) and (report.failed or report.skipped):
            ended = self._ended_without(report)
            self._results[ended.id] = ended
        elif report.when == "call" and not report.skipped and not names_of(report.nodeid):
            self.ordinary_tests_ran = True
        self._heard.pop(id(report), None)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_from_serializable(self) -> Generator[None, object, object]:
        """Note a report where it arrives, in xdist's own thread: Ctrl-C may come before xdist hands it on."""
        report = yield
        if isinstance(report, pytest.TestReport):
            self._heard[id(report)] = report
        return report

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, report: pytest.TestReport) -> None:
        """Give the report of a job whose worker ended the job's result, which pytest then counts as any other."""
        if names_of(report.nodeid) is None:
            return
        from harness.results.json import dump_job
        from harness.vocabulary import Status

        result = self._ended_without(report)
        report.when, report.outcome = "call", "passed" if result.status is Status.PASSED else "failed"
        report.harness_job = dump_job(result)  # type: ignore[attr-defined]  # as JobRunning does

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        from harness.jobs.planning import blank_result
        from harness.vocabulary import Status

        self.interrupted = self.interrupted or is_a_signal(excinfo.value)
        for report in list(self._heard.values()):
            self.pytest_runtest_logreport(report)
        if self.unreported:
            self.add(self.unreported)
        for nodeid in sorted(self.limits.running):
            if job := self.selecting.job_named(nodeid):
                self._results.setdefault(job.id, blank_result(job, Status.INTERRUPTED, "interrupted"))

    @property
    def results(self) -> list[JobResult]:
        """The last result of every job."""
        return list(self._results.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What was run more than once: a plugin or a conftest repeats items."""
        return tuple(
            f"{name} ran {number_of(n, 'time')}; its last result counts" for name, n in self._times.items() if n > 1
        )

    def replace(self, judged: Callable[[JobResult], JobResult]) -> None:
        """Judge every result again."""
        self._results = {name: judged(result) for name, result in self._results.items()}

    def add(self, result: JobResult) -> None:
        self._times[result.id] += 1
        self._results[result.id] = result
        self.unreported = None

    def _ended_without(self, report: pytest.TestReport) -> JobResult:
        """Return the result of a job that sent none: its item or its worker broke, it took too long, or was skipped."""
        from harness.jobs.planning import blank_result
        from harness.jobs.run import overdue
        from harness.vocabulary import Status

        job = self.selecting.job_named(report.nodeid)
        assert job is not None
        if limit := self.limits.overdue.get(report.nodeid):
            return overdue(job, limit, self.config.getoption("harness_strict"))
        earlier = self._results.get(job.id)
        if report.skipped:
            return earlier or blank_result(job, Status.SKIPPED, _said(report))
        reason = ended_how(getattr(report, "node", None)) or _said(report)
        return replace(earlier or blank_result(job, Status.CRASHED), status=Status.CRASHED, reason=reason)


def _said(report: pytest.TestReport) -> str:
    """Return the last line of what pytest says of an item, and for a skip its reason."""
    if expected := getattr(report, "wasxfail", ""):
        return str(expected)
    text = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    lines = text.strip().splitlines()
    return lines[-1] if lines else str(report.when)


def _believed(result: JobResult, report: pytest.TestReport) -> JobResult:
    """Return a result, failed where its item failed although it passed: strict xfail marks and hooks have a say."""
    from harness.vocabulary import Status

    if report.failed and result.status in (Status.PASSED, Status.SKIPPED):
        return replace(result, status=Status.FAILED, reason=_said(report))
    return result


def is_a_signal(error: BaseException) -> bool:
    """Tell Ctrl-C from the ways in which pytest, after a fault in collecting, and xdist, after `-x`, stop themselves.

    All are KeyboardInterrupts; xdist's has a class of its own, and stands for Ctrl-C where a worker had one.
    """
    return type(error).__name__ != "Interrupted" or "keyboard-interrupt" in str(error)
