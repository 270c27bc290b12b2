"""Case files as pytest items: pytest executes, xdist distributes, syrupy stores.

A `*.case.yaml` file is collected as a module with one parametrized function, so that fixtures, marks, `-k`, `--lf`,
xdist and syrupy work as they do everywhere. Each item runs one job and sends its result along with pytest's report;
the process that owns the terminal gathers the results, gives the verdict and sets the exit code.

This module is loaded by every pytest that has the harness installed, so it imports nothing heavy at the top.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.casefile import Case
    from harness.jobs import Job, ModelShelf
    from harness.vocabulary import Finding, JobResult, RunResult

CASE_SUFFIX = ".case.yaml"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "activation patching cases (mlx-patch-harness)")
    group.addoption("--harness-json", metavar="FILE", help="write the result of the case files as JSON")
    group.addoption(
        "--harness-models", action="append", default=[], metavar="FILE", help="a model table beside the bundled one"
    )
    group.addoption("--harness-download", action="store_true", help="fetch models that are not on this machine")
    group.addoption("--harness-require-models", action="store_true", help="a job skipped for want of its model fails")
    group.addoption("--harness-strict", action="store_true", help="warnings fail a job")
    group.addoption(
        "--harness-results", default="results", metavar="DIR", help="where snapshot candidates go (default: results)"
    )
    group.addoption("--harness-only", action="append", default=[], metavar="KIND=NAME", help=argparse_suppress())


def argparse_suppress() -> str:
    import argparse

    return argparse.SUPPRESS


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Ledger(config), "harness-ledger")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CaseFile | None:
    if file_path.name.endswith(CASE_SUFFIX):
        return CaseFile.from_parent(parent, path=file_path)
    return None


class CaseFile(pytest.Module):
    """A case file, seen by pytest as a module whose one function is parametrized over the case's jobs."""

    def _getobj(self) -> ModuleType:
        from harness.errors import UsageError

        try:
            jobs = _ledger(self.config).jobs_of(self.path)
        except UsageError as error:
            raise self.CollectError(str(error)) from error
        module = ModuleType(self.path.name)
        ids = [f"{job.engine}@{job.row.id}" for job in jobs]
        module.__dict__["job"] = pytest.mark.parametrize("harness_job", jobs, ids=ids)(_item_function(module.__name__))
        return module

    def funcnamefilter(self, name: str) -> bool:
        """The function is ours, whatever `python_functions` says."""
        return name == "job"


def _item_function(module: str) -> Callable[..., None]:
    def job(harness_job: Job, snapshot: Any, request: pytest.FixtureRequest) -> None:
        from harness.vocabulary import Status

        ledger = _ledger(request.config)
        result = ledger.run(harness_job, snapshot, request.node)
        if result.status is Status.SKIPPED:
            pytest.skip(result.reason or "skipped")
        if result.status is not Status.PASSED:
            pytest.fail(_failure_text(result), pytrace=False)

    job.__module__ = module
    return job


def _failure_text(result: JobResult) -> str:
    lines = [f"{result.id} {result.status}: {result.reason or ''}".rstrip(": ")]
    for finding in result.findings:
        if not finding.expected:
            lines += [f"  {finding}"]
    return "\n".join(lines)


def is_case_item(item: pytest.Item) -> bool:
    return isinstance(item.parent, CaseFile)


def model_of(nodeid: str) -> str | None:
    """Return the model of a case item's node id, or None for any other item."""
    if f"{CASE_SUFFIX}::job[" not in nodeid:
        return None
    return nodeid.rpartition("@")[2].removesuffix("]")


class _Ledger:
    """One run's knowledge: in a worker the models on the shelf, in the owner of the terminal the results."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.results: list[JobResult] = []
        self.run_result: RunResult | None = None
        self.bad_case_file = False
        self.interrupted = False
        self.other_failures = 0
        self.started = datetime.now(UTC)
        self.clock = time.perf_counter()
        self._shelf: ModelShelf | None = None
        self._table: Any = None

    @property
    def is_worker(self) -> bool:
        return hasattr(self.config, "workerinput")

    # -- collecting -------------------------------------------------------------------------------------------------

    def jobs_of(self, path: Path) -> list[Job]:
        from harness.casefile import load_case
        from harness.jobs import plan
        from harness.models import load_table

        if self._table is None:
            self._table = load_table(Path(name) for name in self.config.getoption("harness_models"))
        return plan(load_case(path), self._table)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        cases = [item for item in items if is_case_item(item)]
        if not cases:
            return
        if config.getoption("update_snapshots") and os.environ.get("CI"):
            raise pytest.UsageError("CI is set: snapshots are compared and never written; update them where you commit")
        _refuse_shared_ids(_job_of(item).case for item in cases)
        kept = [item for item in cases if self._selected(_job_of(item))]
        if dropped := [item for item in cases if item not in kept]:
            config.hook.pytest_deselected(items=dropped)
        order = {model: i for i, model in enumerate(dict.fromkeys(_job_of(item).row.id for item in kept))}
        kept.sort(key=lambda item: order[_job_of(item).row.id])  # stable: jobs of a case stay in their order
        items[:] = [item for item in items if not is_case_item(item)] + kept

    def _selected(self, job: Job) -> bool:
        wanted: dict[str, set[str]] = {}
        for pair in self.config.getoption("harness_only"):
            kind, _, name = pair.partition("=")
            wanted.setdefault(kind, set()).add(name)
        has = {"case": {job.case.id}, "model": {job.row.id}, "engine": {job.engine}, "tag": {*job.case.tags, *job.row.tags}}
        return all(has[kind] & names for kind, names in wanted.items())

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and report.nodeid.endswith(CASE_SUFFIX):
            self.bad_case_file = True

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self, job: Job, snapshot: Any, item: pytest.Item) -> JobResult:
        from harness import jobs

        if self._shelf is None:
            self._shelf = jobs.ModelShelf(download=self.config.getoption("harness_download"))

        def compare(job: Job, result: JobResult) -> list[Finding]:
            return _compare_snapshot(job, result, snapshot, self.config)

        strict = self.config.getoption("harness_strict")
        result = _required(jobs.run(job, self._shelf, compare, strict), self.config)
        item.stash[_RESULT] = result
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" and (result := item.stash.get(_RESULT, None)):
            from harness.reporters.json import dump_job

            report.harness_job = dump_job(result)  # type: ignore[attr-defined]  # xdist carries plain attributes over
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.is_worker:
            return
        if sent := getattr(report, "harness_job", None):
            from harness.reporters.json import load_job

            self.results.append(load_job(sent))
        elif report.failed and model_of(report.nodeid):
            self.results.append(_crashed(report))
        elif report.failed:
            self.other_failures += 1

    # -- ending -----------------------------------------------------------------------------------------------------

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.interrupted = self.interrupted or excinfo.type is KeyboardInterrupt

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        outcome = yield
        if self.is_worker or not (self.results or self.bad_case_file):
            return outcome
        self.run_result = self._verdict()
        if self.other_failures and self.run_result.exit_code in (0, 5):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif session.exitstatus != pytest.ExitCode.INTERNAL_ERROR:
            session.exitstatus = self.run_result.exit_code
        if name := self.config.getoption("harness_json"):
            from harness.reporters.json import write

            write(self.run_result, Path(name))
        return outcome

    def _verdict(self) -> RunResult:
        from harness.environment import environment
        from harness.errors import EXIT_INTERRUPTED, EXIT_USAGE
        from harness.verdict import of_run
        from harness.vocabulary import RunResult, Status

        verdict, code = of_run(self.results)
        if self.bad_case_file:
            verdict, code = Status.REFUSED, EXIT_USAGE
        if self.interrupted:
            verdict, code = Status.INTERRUPTED, EXIT_INTERRUPTED
        return RunResult(
            verdict=verdict,
            exit_code=code,
            environment=environment(),
            jobs=tuple(sorted(self.results, key=lambda job: (job.case_file, job.id))),
            started=self.started.isoformat(timespec="seconds"),
            duration_s=round(time.perf_counter() - self.clock, 3),
        )

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.run_result is None:
            return
        from rich.console import Console

        from harness.reporters.terminal import print_run

        terminalreporter.write_sep("-", "harness")
        console = Console(file=terminalreporter._tw._file, width=terminalreporter._tw.fullwidth, highlight=False)
        print_run(self.run_result, console, self.config.getoption("harness_strict"))

    # -- distributing -----------------------------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Give each model to one worker, where the default distribution is asked for and there are case files."""
        if config.getoption("dist") != "load" or not _has_cases(config):
            return None
        from xdist.scheduler import LoadScopeScheduling

        class ByModel(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
            def _split_scope(self, nodeid: str) -> str:
                return model_of(nodeid) or nodeid

        return ByModel(config, log)


_RESULT: pytest.StashKey[JobResult] = pytest.StashKey()


def _ledger(config: pytest.Config) -> _Ledger:
    ledger = config.pluginmanager.get_plugin("harness-ledger")
    assert isinstance(ledger, _Ledger)
    return ledger


def _job_of(item: pytest.Item) -> Job:
    job: Job = item.callspec.params["harness_job"]  # type: ignore[attr-defined]  # set by parametrize
    return job


def _refuse_shared_ids(cases: Iterable[Case]) -> None:
    owner: dict[str, Path] = {}
    for case in cases:
        if owner.setdefault(case.id, case.path) != case.path:
            raise pytest.UsageError(f"{case.path} and {owner[case.id]} have the same id {case.id!r}")


def _required(result: JobResult, config: pytest.Config) -> JobResult:
    from dataclasses import replace

    from harness.vocabulary import Status

    if result.status is Status.SKIPPED and config.getoption("harness_require_models"):
        return replace(result, status=Status.FAILED)
    return result


def _crashed(report: pytest.TestReport) -> JobResult:
    from harness.vocabulary import JobResult, Status

    file, _, job = report.nodeid.partition("::")
    engine, _, model = job.removeprefix("job[").removesuffix("]").partition("@")
    case = Path(file).name.removesuffix(CASE_SUFFIX)
    reason = str(report.longrepr).strip().splitlines()
    return JobResult(
        id=f"{case}[{engine}@{model}]",
        case=case,
        case_file=file,
        model=model,
        engine=engine,
        status=Status.CRASHED,
        reason=reason[-1] if reason else report.when,
    )


def _has_cases(config: pytest.Config) -> bool:
    paths = [Path(str(arg).partition("::")[0]) for arg in config.args]
    return any(path.name.endswith(CASE_SUFFIX) or next(path.rglob(f"*{CASE_SUFFIX}"), None) for path in paths)


def _compare_snapshot(job: Job, result: JobResult, snapshot: Any, config: pytest.Config) -> Sequence[Finding]:
    """Compare a job with its snapshot, or store it where an update is asked for."""
    from harness.environment import environment
    from harness.errors import SnapshotRefused
    from harness.snapshots import JobSnapshot, document, refuse_non_finite
    from harness.snapshots.steps import against_other_backend, difference_finding, missing
    from harness.vocabulary import Finding

    tolerance, backend = job.case.tolerance, environment().backend
    within = {"recovery_points": tolerance.recovery_points, "baseline_relative": tolerance.baseline_relative}
    wide = {"recovery_points": tolerance.cross_backend_points, "baseline_relative": tolerance.cross_backend_relative}
    new = document(result, environment(), within)
    try:
        refuse_non_finite(new)
    except SnapshotRefused as error:
        return [Finding("SNP004", str(error))]
    name, file = f"{job.engine}@{job.row.id}", job.case.path
    if not config.getoption("update_snapshots") and missing(file, name, backend):
        results = Path(config.getoption("harness_results"))
        return against_other_backend(file, name, backend, new, wide, results)
    JobSnapshot.backend = backend
    if snapshot(extension_class=JobSnapshot) == new:
        return []
    return [difference_finding(file, name, backend, new)]
