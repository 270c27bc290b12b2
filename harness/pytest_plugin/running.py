"""Running jobs in the process that has their items: alone, or in one of xdist's workers.

Each item sends its job's result along with pytest's report.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.jobs.selection import Selection
from harness.pytest_plugin.gathering import ResultGathering
from harness.support import progress
from harness.vocabulary.visible import visible

if TYPE_CHECKING:
    from harness.casefile.known import KnownFailures
    from harness.jobs.planning import Job
    from harness.jobs.run import ModelCache
    from harness.vocabulary import Finding, JobResult

_MOST_PRINTED = 20_000
"""Characters that are kept of what a job printed."""
_RESULT: pytest.StashKey[JobResult] = pytest.StashKey()


class JobRunning:
    """The model in use, and the jobs that are run on it."""

    def __init__(
        self,
        config: pytest.Config,
        selection: Selection,
        gathering: ResultGathering,
        known: KnownFailures | None = None,
    ):
        self.config, self.selection, self.gathering, self.known = config, selection, gathering, known
        self._models: ModelCache | None = None

    def run(self, job: Job, snapshot: Any, item: pytest.Item) -> JobResult:
        from harness.jobs import run as jobs
        from harness.jobs.known import with_known
        from harness.support.ctrl_c import told_apart
        from harness.vocabulary.raised import JobInterrupted

        if self._models is None:
            options = self.config.getoption("harness_download"), self.config.getoption("harness_dequantise")
            self._models = jobs.ModelCache(*options)

        def compare(job: Job, result: JobResult) -> list[Finding]:
            return _compare_snapshot(job, result, snapshot, self.config, self.selection.narrowed)

        strict, prove = self.config.getoption("harness_strict"), self.config.getoption("harness_prove")
        try:
            with told_apart(), self._followed(item):
                done = jobs.run(self._within(job), self._models, compare, strict, self._say, prove)
            result = _required(done, self.config)
            result = with_known(result, self.known, strict) if self.known else result
        except JobInterrupted as stop:
            self.gathering.add(stop.result)  # pytest makes no report of an item that is interrupted
            raise
        item.stash[_RESULT] = self.gathering.unreported = result
        return result

    def _followed(self, item: pytest.Item) -> AbstractContextManager[None]:
        """Return a block whose progress is seen where the line is drawn, if that is another process."""
        file = getattr(self.config, "workerinput", {}).get(progress.FOLLOWED)
        return progress.kept_in(Path(file), item.nodeid) if file else nullcontext()

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
            print(visible(text), file=sys.stderr, flush=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "setup" and _RESULT in item.stash:
            del item.stash[_RESULT]  # that of an earlier run of a repeated item
        if report.when == "call" and (result := item.stash.get(_RESULT, None)):
            from harness.results.json import dump_job

            # What an engine printed is kept already; this is from a metric or a model of the user's own.
            result = replace(result, printed=result.printed or report.capstdout[-_MOST_PRINTED:])
            report.harness_job = dump_job(result)  # type: ignore[attr-defined]  # xdist carries plain attributes over
        return report


def _required(result: JobResult, config: pytest.Config) -> JobResult:
    from dataclasses import replace

    from harness.jobs.run import BY_CASE, NOT_APPLICABLE
    from harness.vocabulary import Status

    wanting = result.status is Status.SKIPPED and not (result.reason or "").startswith((BY_CASE, NOT_APPLICABLE))
    if wanting and config.getoption("harness_require_models"):
        return replace(result, status=Status.FAILED)
    return result


def _compare_snapshot(job: Job, result: JobResult, syrupy: Any, config: pytest.Config, narrowed: bool) -> list[Finding]:
    from harness.environment.facts import environment
    from harness.jobs.planning import tolerances
    from harness.snapshots import SnapshotPlace, compare, compare_part, snapshot_of

    (within, wide), here = tolerances(job, result), environment()
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
