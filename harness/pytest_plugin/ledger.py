"""One session's knowledge: in a worker the models on the shelf, in the owner of the terminal the results.

Each item sends its job's result along with pytest's report. The process that owns the terminal gathers the results,
gives the verdict and sets the exit code, alone or over xdist's workers.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Generator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin.items import CASE_SUFFIX, has_case_files, job_of, names_of, variant_of
from harness.vocabulary.errors import EXIT_NOTHING_RAN, EXIT_PASSED

if TYPE_CHECKING:
    from harness.jobs.run import Job, ModelCache
    from harness.vocabulary import Finding, JobResult, RunResult

LEDGER = "harness-ledger"


class SessionState:
    """One run's knowledge: in a worker the models on the shelf, in the owner of the terminal the results."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.results: list[JobResult] = []
        self.run_result: RunResult | None = None
        self.bad_case_file = False
        self.refusal: str | None = None
        self.interrupted = False
        self.ordinary_tests_ran = False
        self.planned: tuple[str, ...] = ()
        self.started = datetime.now(UTC)
        self.clock = time.perf_counter()
        self._shelf: ModelCache | None = None
        self._table: Any = None

    @property
    def is_worker(self) -> bool:
        return hasattr(self.config, "workerinput")

    # -- collecting -------------------------------------------------------------------------------------------------

    def jobs_of(self, path: Path) -> list[Job]:
        from harness.jobs.narrowing import narrowed_jobs
        from harness.jobs.run import jobs_in
        from harness.models import load_table

        if self._table is None:
            self._table = load_table(Path(name) for name in self.config.getoption("harness_models"))
        option = self.config.getoption
        jobs = jobs_in(path, self._table, option("harness_allow_code"), option("harness_with_engine"))
        return narrowed_jobs(jobs, self._only("metric"), self._only("component"))

    def _only(self, kind: str) -> set[str]:
        """Return the names of a kind that the run is narrowed to; none: it is not."""
        pairs = (pair.partition("=") for pair in self.config.getoption("harness_only"))
        return {name for key, _, name in pairs if key == kind}

    @property
    def narrowed(self) -> bool:
        """Whether only a part of each job runs, whose numbers must not be stored."""
        return bool(self._only("metric") or self._only("component"))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        jobs = {item: job for item in items if (job := job_of(item))}
        if not jobs:
            return
        if refusal := _refusal(config, jobs.values()):
            self._refuse(refusal, items)
            return
        selected = {item: job for item, job in jobs.items() if self._selected(job)}
        kept = self._sharded(selected)
        if dropped := [item for item in jobs if item not in kept]:
            config.hook.pytest_deselected(items=dropped)
        order = {model: i for i, model in enumerate(dict.fromkeys(jobs[item].row.id for item in kept))}
        kept.sort(key=lambda item: order[jobs[item].row.id])  # stable: jobs of a case stay in their order
        items[:] = [item for item in items if item not in jobs] + kept

    def _sharded(self, selected: Mapping[pytest.Item, Job]) -> list[pytest.Item]:
        """Return the items of this run's part, and remember what all parts together have planned."""
        from harness.results.shards import Shard, Task, members

        self.planned = tuple(sorted(job.id for job in selected.values()))
        if self.is_worker:
            self.config.workeroutput[_PLANNED] = self.planned  # type: ignore[attr-defined]  # set by xdist
        if not (text := self.config.getoption("harness_shard")):
            return list(selected)
        ours = members(Shard.parse(text), (Task(job.id, job.row.id, job.cost) for job in selected.values()))
        return [item for item, job in selected.items() if job.id in ours]

    def _refuse(self, message: str, items: list[pytest.Item]) -> None:
        if not self.is_worker:
            raise pytest.UsageError(message)
        # An error here would be xdist's internal error; the worker collects nothing instead and lets the owner say why.
        items.clear()
        self.config.workeroutput[_REFUSAL] = message  # type: ignore[attr-defined]  # set by xdist

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {})
        self.refusal = self.refusal or output.get(_REFUSAL)
        self.planned = self.planned or tuple(output.get(_PLANNED, ()))

    def _selected(self, job: Job) -> bool:
        has = {
            "job": {job.id},
            "case": {job.case.id},
            "model": {job.row.id},
            "engine": {job.engine},
            "tag": {*job.case.tags, *job.row.tags},
        }
        return all(not names or have & names for kind, have in has.items() for names in [self._only(kind)])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and report.nodeid.endswith(CASE_SUFFIX):
            self.bad_case_file = True

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self, job: Job, snapshot: Any, item: pytest.Item) -> JobResult:
        from harness.environment.facts import use_device
        from harness.jobs import run as jobs
        from harness.vocabulary.raised import JobInterrupted

        if self._shelf is None:
            if device := self.config.getoption("harness_device"):
                use_device(device)
            self._shelf = jobs.ModelCache(download=self.config.getoption("harness_download"))

        def compare(job: Job, result: JobResult) -> list[Finding]:
            return _compare_snapshot(job, result, snapshot, self.config, self.narrowed)

        strict = self.config.getoption("harness_strict")
        try:
            result = _required(jobs.run(self._within(job), self._shelf, compare, strict, self._say), self.config)
        except JobInterrupted as stop:
            self.results.append(stop.result)  # pytest makes no report of an item that is interrupted
            raise
        item.stash[_RESULT] = result
        return result

    def _within(self, job: Job) -> Job:
        """Return the job with the memory that the command line gives it."""
        if not (stated := self.config.getoption("harness_memory")):
            return job
        sweep = job.case.sweep.model_copy(update={"memory": stated})
        return replace(job, case=job.case.having(sweep=sweep))

    def _say(self, text: str) -> None:
        """Tell the user something now, past pytest's capture."""
        capture: Any = self.config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(text, file=sys.stderr, flush=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" and (result := item.stash.get(_RESULT, None)):
            from harness.results.json import dump_job

            report.harness_job = dump_job(result)  # type: ignore[attr-defined]  # xdist carries plain attributes over
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.is_worker:
            return
        if sent := getattr(report, "harness_job", None):
            from harness.results.json import load_job

            self.results.append(load_job(sent))
        elif report.failed and names_of(report.nodeid):
            self.results.append(_crashed(report, self.config.rootpath))
        elif report.when == "call" and not report.skipped and not names_of(report.nodeid):
            self.ordinary_tests_ran = True

    # -- ending -----------------------------------------------------------------------------------------------------

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        from harness.vocabulary.raised import JobInterrupted

        # pytest's own way to stop after a fault in collecting is a KeyboardInterrupt of another type.
        self.interrupted = self.interrupted or excinfo.type in (KeyboardInterrupt, JobInterrupted)

    # Innermost of the wrappers: after syrupy has had its say, before the terminal prints its summary.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        outcome = yield
        if self.refusal:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if self.is_worker or not self._concerned():
            return outcome
        self.run_result = self._verdict(broken=session.exitstatus == pytest.ExitCode.INTERNAL_ERROR)
        if not self._pytest_has_its_say(session.exitstatus):
            session.exitstatus = self.run_result.exit_code
        if name := self.config.getoption("harness_json"):
            self._write(self.run_result, Path(name), session)
        return outcome

    def _pytest_has_its_say(self, status: int) -> bool:
        """Return whether pytest's own exit code stands: beside cases that pass or were skipped, ordinary tests decide.

        Tests that ran and passed make a session of more than skipped cases, which is what 5 would say of it.
        """
        assert self.run_result is not None
        if self.run_result.exit_code not in (EXIT_PASSED, EXIT_NOTHING_RAN):
            return False
        return self.ordinary_tests_ran or status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)

    def _write(self, run: RunResult, path: Path, session: pytest.Session) -> None:
        from harness.results.json import write

        try:
            write(run, path)
        except OSError as error:
            self.refusal = f"{path} cannot be written: {error}"
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def _concerned(self) -> bool:
        """Return whether the session has anything to do with case files."""
        return (
            bool(self.results or self.planned)
            or self.bad_case_file
            or (self.interrupted and has_case_files(self.config.args))
        )

    def _verdict(self, broken: bool) -> RunResult:
        from harness.environment.facts import environment
        from harness.results.shards import with_floor
        from harness.vocabulary import RunResult, Status
        from harness.vocabulary.verdict import of_run

        besides = {Status.REFUSED: self.bad_case_file, Status.INTERRUPTED: self.interrupted, Status.CRASHED: broken}
        verdict, code = of_run(self.results, *(status for status, happened in besides.items() if happened))
        run = RunResult(
            verdict=verdict,
            exit_code=code,
            environment=environment(),
            jobs=tuple(sorted(self.results, key=lambda job: (job.case_file, job.id))),
            started=self.started.isoformat(timespec="seconds"),
            duration_s=round(time.perf_counter() - self.clock, 3),
            shard=self.config.getoption("harness_shard"),
            planned=self.planned,
            notes=self._notes(),
        )
        return with_floor(run, self.config.getoption("harness_min_jobs"))

    def _notes(self) -> tuple[str, ...]:
        shard = self.config.getoption("harness_shard")
        empty = bool(shard and self.planned and not self.results and not self.interrupted)
        return (f"none of the {len(self.planned)} jobs planned falls to shard {shard}",) if empty else ()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.refusal:
            terminalreporter.write_line(f"ERROR: {self.refusal}", red=True)
        if self.run_result is None or self.config.getoption("no_summary"):
            return
        from harness.results.reports.terminal import console, print_run

        terminalreporter.write_sep("-", "harness")
        screen = console(terminalreporter._tw._file, terminalreporter._tw.fullwidth)
        print_run(self.run_result, screen, self.config.getoption("harness_strict"))

    # -- distributing -----------------------------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Give each model to one worker, where the default distribution is asked for and there are case files."""
        if config.getoption("dist") != "load" or not has_case_files(config.args):
            return None
        from xdist.scheduler import LoadScopeScheduling

        class ByModel(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
            _holding = False

            def _split_scope(self, nodeid: str) -> str:
                names = names_of(nodeid)
                return names[2] if names else nodeid

            def _reschedule(self, node: Any) -> None:
                if not self._holding:
                    super()._reschedule(node)

            def remove_node(self, node: Any) -> Any:
                """xdist hands out again what was left of a dead worker, also the job that killed it; we do not."""
                self._holding = True
                try:
                    killer = super().remove_node(node)
                finally:
                    self._holding = False
                for scope, unit in list(self.workqueue.items()):
                    if killer in unit:
                        unit[killer] = True
                    if all(unit.values()):
                        del self.workqueue[scope]
                for other in self.assigned_work:
                    self._reschedule(other)
                return killer

        return ByModel(config, log)


_RESULT: pytest.StashKey[JobResult] = pytest.StashKey()
_REFUSAL = "harness_refusal"
_PLANNED = "harness_planned"


def ledger_of(config: pytest.Config) -> SessionState:
    ledger = config.pluginmanager.get_plugin(LEDGER)
    assert isinstance(ledger, SessionState)
    return ledger


def _refusal(config: pytest.Config, jobs: Collection[Job]) -> str | None:
    """Return why these jobs cannot be run in one session, if they cannot."""
    from harness.jobs.run import refuse_shared_ids
    from harness.results.shards import Shard
    from harness.snapshots import refuse_in_ci, refuse_mixing
    from harness.vocabulary.errors import UsageError

    if not config.pluginmanager.has_plugin("syrupy"):
        return "case files need the plugin syrupy, which stores and compares snapshots; leave out `-p no:syrupy`"
    if config.getoption("update_snapshots") and ledger_of(config).narrowed:
        return "a run narrowed by --metric or --component stores no snapshots; leave them out to update"
    try:
        if config.getoption("update_snapshots"):
            refuse_in_ci()
        if shard := config.getoption("harness_shard"):
            Shard.parse(shard)
        refuse_shared_ids(jobs)
        for file in {job.case.path for job in jobs}:
            refuse_mixing(Path(config.getoption("harness_results")), file)
    except UsageError as error:
        return str(error)
    return None


def _required(result: JobResult, config: pytest.Config) -> JobResult:
    from dataclasses import replace

    from harness.jobs.run import BY_CASE
    from harness.vocabulary import Status

    wanting = result.status is Status.SKIPPED and not (result.reason or "").startswith(BY_CASE)
    if wanting and config.getoption("harness_require_models"):
        return replace(result, status=Status.FAILED)
    return result


def _crashed(report: pytest.TestReport, root: Path) -> JobResult:
    from harness.casefile import load_cases
    from harness.vocabulary import JobResult, Status

    name, engine, model = names_of(report.nodeid) or (report.nodeid, "", "")
    file = Path(os.path.abspath(root / name))
    case = {case.variant: case.id for case in load_cases(file)}[variant_of(report.nodeid)]
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


def _compare_snapshot(job: Job, result: JobResult, syrupy: Any, config: pytest.Config, narrowed: bool) -> list[Finding]:
    from harness.environment.facts import environment
    from harness.jobs.run import tolerances
    from harness.snapshots import SnapshotPlace, compare, compare_part, snapshot_of

    (within, wide), here = tolerances(job.case), environment()
    place = SnapshotPlace(job.case.id, job.case.path, job.name, job.engine, job.row.id, here.backend)
    new = snapshot_of(result, here, within)
    if narrowed:
        return compare_part(place, new, wide)
    return compare(
        place,
        new,
        wide,
        Path(config.getoption("harness_results")),
        syrupy,
        config.getoption("update_snapshots"),
    )
