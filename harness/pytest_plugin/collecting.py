"""A case file, seen by pytest as a module: fixtures, marks, `-k`, `--lf`, xdist and syrupy work as ever."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin.items import job_of, nodeid_of
from harness.pytest_plugin.running import JobRunning
from harness.pytest_plugin.selecting import JobSelecting
from harness.vocabulary.visible import visible

if TYPE_CHECKING:
    from harness.jobs.planning import Job
    from harness.vocabulary import JobResult

SELECTING: pytest.StashKey[JobSelecting] = pytest.StashKey()
RUNNING: pytest.StashKey[JobRunning] = pytest.StashKey()
"""Where a session keeps what its case items need."""


class PlannedFolder(pytest.Directory):
    """The folder from which `harness run` runs: its modules are the planned case files, wherever they lie.

    pytest itself lists the whole folder of a file again for every file that is named, and reads a name's `::` and `[`.
    """

    def collect(self) -> Iterator[CaseModule]:
        for file in self.config.stash[SELECTING].files:
            yield CaseModule.of(file, self)


class CaseModule(pytest.Module):
    """A case file, seen by pytest as a module whose one function is parametrized over the case's jobs."""

    @classmethod
    def of(cls, file: Path, parent: pytest.Collector) -> CaseModule:
        """Return the module of a case file. Its name is the file's, for `-k`; its id begins with its path."""
        nodeid = nodeid_of(file, parent.config.rootpath)
        return cls.from_parent(parent, path=file, name=file.name, nodeid=nodeid)

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
            parameters = [pytest.param(job, id=job.name) for job in jobs]
            module.__dict__["job"] = pytest.mark.parametrize("harness_job", parameters)(_item_function(self.path.name))
        return module

    def funcnamefilter(self, name: str) -> bool:
        """The function is ours, whatever `python_functions` says."""
        return name == "job"


def mark_with_tags(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Give case items their tags as marks, for `-m`, and their id for `-k`; strict markers want tags registered.

    pytest reads all that is registered again for a mark that it does not know, so all of them are registered first.
    """
    jobs = {item: job for item in items if (job := job_of(item))}
    for tag in dict.fromkeys(tag for job in jobs.values() for tag in job.tags):
        config.addinivalue_line("markers", f"{tag}: a tag of case files")
    for item, job in jobs.items():
        item.extra_keyword_matches.add(job.case.id)
        for tag in job.tags:
            item.add_marker(tag)


def _item_function(module: str) -> Callable[..., None]:
    def job(harness_job: Job, snapshot: Any, request: pytest.FixtureRequest) -> None:
        from harness.vocabulary import Status

        result = request.config.stash[RUNNING].run(harness_job, snapshot, request.node)
        if result.status is Status.SKIPPED:
            pytest.skip(visible(result.reason or "skipped"))
        if result.known:
            pytest.xfail(visible("; ".join(dict.fromkeys(each.known for each in result.findings if each.known))))
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
