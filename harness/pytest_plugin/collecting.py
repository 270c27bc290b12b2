"""A case file, seen by pytest as a module: fixtures, marks, `-k`, `--lf`, xdist and syrupy work as ever."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin.running import JobRunning
from harness.pytest_plugin.selecting import JobSelecting
from harness.vocabulary.visible import visible

if TYPE_CHECKING:
    from harness.jobs.planning import Job
    from harness.vocabulary import JobResult

SELECTING: pytest.StashKey[JobSelecting] = pytest.StashKey()
RUNNING: pytest.StashKey[JobRunning] = pytest.StashKey()
"""Where a session keeps what its case items need."""


class CaseModule(pytest.Module):
    """A case file, seen by pytest as a module whose one function is parametrized over the case's jobs."""

    def _getobj(self) -> ModuleType:
        from harness.casefile.discovery import refuse_misnamed
        from harness.vocabulary.errors import UsageError

        try:
            refuse_misnamed(self.path)
            jobs = self.config.stash[SELECTING].jobs_of(self.path)
        except UsageError as error:
            raise self.CollectError(visible(str(error), keep="\n")) from error
        module = ModuleType(self.path.name)
        if jobs:
            parameters = [self._parameter(job) for job in jobs]
            module.__dict__["job"] = pytest.mark.parametrize("harness_job", parameters)(_item_function(self.path.name))
        return module

    def _parameter(self, job: Job) -> Any:
        """Return a job with its tags as marks, for `-m`; they are registered, or strict markers would refuse them."""
        for tag in job.tags:
            self.config.addinivalue_line("markers", f"{tag}: a tag of case files")
        marks = [getattr(pytest.mark, tag) for tag in job.tags]
        return pytest.param(job, id=job.name, marks=marks)

    def funcnamefilter(self, name: str) -> bool:
        """The function is ours, whatever `python_functions` says."""
        return name == "job"


def _item_function(module: str) -> Callable[..., None]:
    def job(harness_job: Job, snapshot: Any, request: pytest.FixtureRequest) -> None:
        from harness.vocabulary import Status

        result = request.config.stash[RUNNING].run(harness_job, snapshot, request.node)
        if result.status is Status.SKIPPED:
            pytest.skip(visible(result.reason or "skipped"))
        if result.status is not Status.PASSED:
            pytest.fail(_failure_text(result), pytrace=False)

    job.__module__ = module
    return job


def _failure_text(result: JobResult) -> str:
    lines = [f"{result.id} {result.status}: {result.reason or ''}".rstrip(": ")]
    for finding in result.findings:
        if not finding.expected:
            lines += [f"  {finding}"]
    return "\n".join(map(visible, lines))
