"""The results that reports carry, gathered in the process that owns the terminal, alone or over xdist's workers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin.items import CASE_SUFFIX, names_of, variant_of
from harness.pytest_plugin.selecting import JobSelecting, is_worker

if TYPE_CHECKING:
    from harness.vocabulary import JobResult


class ResultGathering:
    """Every job's result, and what else there is to be said of a session."""

    def __init__(self, config: pytest.Config, selecting: JobSelecting):
        self.config, self.selecting = config, selecting
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

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        from harness.vocabulary.raised import JobInterrupted

        # pytest's own way to stop after a fault in collecting is a KeyboardInterrupt of another type.
        self.interrupted = self.interrupted or excinfo.type in (KeyboardInterrupt, JobInterrupted)

    def _crashed(self, report: pytest.TestReport) -> JobResult:
        """Return the result of a job that sent none, because its item or its worker broke."""
        from harness.vocabulary import JobResult, Status

        name, engine, model = names_of(report.nodeid) or (report.nodeid, "", "")
        file = Path(os.path.abspath(self.config.rootpath / name))
        cases = {job.case.variant: job.case.id for job in self.selecting.jobs_of(file)}
        case = cases[variant_of(report.nodeid)]
        reason = str(report.longrepr).strip().splitlines()
        return JobResult(
            id=f"{case}[{engine}@{model}]",
            case=case,
            case_file=str(file),
            model=model,
            engine=engine,
            status=Status.CRASHED,
            reason=reason[-1] if reason else report.when,
        )
