"""Which jobs of the case files run: all of them, or those that `harness run` hands over.

`harness run` gives its planned run to `pytest.main` as a plugin. A process that collects takes the jobs from it and
reads no case file again; xdist's workers are sent the selection, which names the jobs by id, and read the files
themselves, since jobs do not travel.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.jobs.selection import PlannedRun, Selection
from harness.pytest_plugin.items import CASE_SUFFIX, job_of
from harness.vocabulary.visible import visible

if TYPE_CHECKING:
    from harness.jobs.planning import Job
    from harness.models import ModelRow
    from harness.vocabulary import JobResult

_SELECTION, _REFUSAL, _PLAN = "harness_selection", "harness_refusal", "harness_plan"
"""What xdist carries: to a worker the first, from it the others."""
_DESELECTING = ("keyword", "markexpr", "deselect", "lf", "stepwise")
"""Options of pytest by which a user leaves tests out."""
_LEFT_OUT = "left out by a conftest or a plugin of pytest"


def planned_run(config: pytest.Config) -> PlannedRun | None:
    """Return what `harness run` handed to this process, or None where pytest was started without it."""
    return next((each for each in config.pluginmanager.get_plugins() if isinstance(each, PlannedRun)), None)


def is_worker(config: pytest.Config) -> bool:
    """Return whether this process is one of xdist's workers."""
    return hasattr(config, "workerinput")


def from_harness_run(config: pytest.Config) -> bool:
    """Return whether `harness run` started this process, or the process of which this one is a worker."""
    return planned_run(config) is not None or _SELECTION in getattr(config, "workerinput", {})


def has_case_files(config: pytest.Config) -> bool:
    """Return whether `harness run` is at work, or pytest's arguments name or contain a case file."""
    files = (Path(path.partition("::")[0]) for path in config.args)
    return from_harness_run(config) or any(
        file.name.endswith(CASE_SUFFIX) or next(file.rglob(f"*{CASE_SUFFIX}"), None) for file in files
    )


class JobSelecting:
    """The jobs of case files, and the choice among their items."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.run = planned_run(config)
        self.selection = self._selection()
        self.planned: tuple[str, ...] = ()
        self.plan: dict[str, str] = {}
        """Job -> digest of its question, where other shards plan the same."""
        self.own: tuple[str, ...] = ()
        """The planned jobs of this shard."""
        self.left_out: tuple[JobResult, ...] = ()
        """The results of own jobs that somebody else took out of the session."""
        self.refusal: str | None = None
        self._jobs: dict[pytest.Item, Job] = {}
        self._dropped: set[pytest.Item] = set()
        self._unasked: set[pytest.Item] = set()
        self._part: list[pytest.Item] = []
        self._table: Mapping[str, ModelRow] | None = None
        self._read: dict[Path, list[Job]] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """The case files of `harness run`, in its order, by their whole paths."""
        files = self.run.files if self.run else self.selection.paths
        return tuple(Path(os.path.abspath(file)) for file in files)

    def _selection(self) -> Selection:
        if self.run:
            return self.run.selection
        if sent := getattr(self.config, "workerinput", {}).get(_SELECTION):
            return Selection(**sent)
        option = self.config.getoption
        return Selection(
            tables=tuple(option("harness_models")),
            also=tuple(option("harness_with_engine")),
            allow_code=_consent(self.config),
        )

    @property
    def repeated(self) -> tuple[str, ...]:
        """The options that `harness run` must have to see the same jobs; not what `[tool.harness]` says."""
        from harness.support.configuration import load

        configured = load(self.config.invocation_params.dir).values
        return tuple(self.selection.words(configured, "tables", "also", "allow_code"))

    def jobs_of(self, path: Path) -> list[Job]:
        """Return the jobs of a case file. Raises UsageError for one that is not in order."""
        if self.run and (jobs := self.run.jobs_of(path)):
            return jobs
        if path not in self._read:
            self._read[path] = self._jobs_in(path)
        return self._read[path]

    @property
    def all_jobs(self) -> list[Job]:
        """All jobs of the case files that this process read or was handed, those that are left out among them."""
        return self.run.jobs if self.run else [job for jobs in self._read.values() for job in jobs]

    def _jobs_in(self, path: Path) -> list[Job]:
        from harness.jobs.choosing import applicable, models_given
        from harness.jobs.narrowing import narrowed_jobs
        from harness.jobs.planning import jobs_in
        from harness.models import load_table

        if self._table is None:
            self._table = load_table(map(Path, self.selection.tables))
        asked = models_given(self.selection.models, self._table)
        jobs = [*applicable(jobs_in(path, self._table, self.selection.allow_code, self.selection.also, asked))]
        return narrowed_jobs(jobs, self.selection.metrics, self.selection.components)

    def job_named(self, nodeid: str) -> Job | None:
        """Return the job of a case item's node id, or None where its case file no longer has it.

        A plugin that repeats items may have added to the name.
        """
        file, found, own = nodeid.removesuffix("]").rpartition("::job[")
        if not found:
            return None
        jobs = self.jobs_of(Path(os.path.abspath(self.config.rootpath / file)))
        return max((job for job in jobs if job.name in own), key=lambda job: len(job.name), default=None)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        if job := job_of(item):
            self._jobs[item] = job

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        if any(getattr(self.config.option, name, None) for name in _DESELECTING):
            self._unasked |= set(items) - self._dropped

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        jobs = {item: job for item, job in self._jobs.items() if item not in self._unasked}
        if not jobs:
            return
        if refusal := _refusal(config, jobs.values(), self.selection):
            self._refuse(refusal, items)
            return
        self._jobs = {item: job for item, job in jobs.items() if self.selection.selects(job)}
        self._part = self._sharded(self._jobs)
        part, here = set(self._part), [item for item in items if item in jobs]
        self._dropped = {item for item in here if item not in part}
        if self._dropped:
            config.hook.pytest_deselected(items=[item for item in here if item in self._dropped])
        order = {model: i for i, model in enumerate(dict.fromkeys(jobs[item].row.id for item in self._part))}
        # Stable: jobs of a case stay in their order.
        kept = sorted((item for item in here if item in part), key=lambda item: order[jobs[item].row.id])
        items[:] = [item for item in items if item not in jobs] + kept

    def _sharded(self, selected: Mapping[pytest.Item, Job]) -> list[pytest.Item]:
        """Return the items of this run's part."""
        from harness.results.shards import Shard, Task, members

        if not (text := self.config.getoption("harness_shard")):
            return list(selected)
        ours = members(Shard.parse(text), (Task(job.id, job.row.id, job.cost) for job in selected.values()))
        return [item for item, job in selected.items() if job.id in ours]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember what all parts together have planned and what this one has, and who is missing by now."""
        from harness.jobs.planning import blank_result
        from harness.results.json import dump_job
        from harness.vocabulary import Status

        here = set(session.items)
        own = [item for item in self._part if item not in self._unasked]
        asked = [job for item, job in self._jobs.items() if item not in self._unasked]
        self.planned = tuple(sorted({job.id for job in asked}))
        self.plan = {job.id: job.digest for job in asked} if self.config.getoption("harness_shard") else {}
        self.own = tuple(sorted({self._jobs[item].id for item in own}))
        missing = [self._jobs[item] for item in own if item not in here]
        self.left_out = tuple(blank_result(job, Status.SKIPPED, _LEFT_OUT) for job in missing)
        if is_worker(self.config):
            left_out = tuple(map(dump_job, self.left_out))
            plan = {"planned": self.planned, "own": self.own, "digests": self.plan, "left_out": left_out}
            self.config.workeroutput[_PLAN] = plan  # type: ignore[attr-defined]  # set by xdist

    def _refuse(self, message: str, items: list[pytest.Item]) -> None:
        self._jobs = {}
        if not is_worker(self.config):
            raise pytest.UsageError(visible(message, keep="\n"))
        # An error here would be xdist's internal error; the worker collects nothing instead and lets the owner say why.
        items.clear()
        self.config.workeroutput[_REFUSAL] = message  # type: ignore[attr-defined]  # set by xdist

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Know what is planned before a worker is done and says it: Ctrl-C ends it without."""
        jobs = [job for nodeid in ids if (job := self.job_named(nodeid))]
        self.own = self.planned = tuple(sorted({job.id for job in jobs}))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {})
        self.refusal = self.refusal or output.get(_REFUSAL)
        if plan := output.get(_PLAN):
            from harness.results.json import load_job

            self.planned, self.own, self.plan = tuple(plan["planned"]), tuple(plan["own"]), plan["digests"]
            self.left_out = tuple(map(load_job, plan["left_out"]))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        if self.run:
            tables = tuple(str(Path(name).resolve()) for name in self.selection.tables)
            sent = asdict(replace(self.selection, paths=(), tables=tables))
            node.workerinput[_SELECTION] = {**sent, "paths": [str(file) for file in self.files]}


def _consent(config: pytest.Config) -> bool:
    """Return whether who started pytest lets code run: by an argument or the environment, never by a file that comes
    with a checkout. Raises pytest.UsageError for such a file."""
    word = "--harness-allow-code"
    if not config.getoption("harness_allow_code") or is_worker(config):
        return bool(config.getoption("harness_allow_code"))
    typed = (*map(str, config.invocation_params.args), *os.environ.get("PYTEST_ADDOPTS", "").split())
    if not any(word in each for each in typed):
        raise pytest.UsageError(f"{word} comes from a file of the project: only who starts pytest can allow code")
    return True


def _refusal(config: pytest.Config, jobs: Collection[Job], selection: Selection) -> str | None:
    """Return why these jobs cannot be run in one session, if they cannot."""
    from harness.environment.facts import use_wanted_device
    from harness.jobs.planning import refuse_shared_ids
    from harness.results.shards import Shard
    from harness.snapshots import refuse_in_ci, refuse_mixing
    from harness.vocabulary.errors import UsageError

    if not config.pluginmanager.has_plugin("syrupy"):
        return "case files need the plugin syrupy, which stores and compares snapshots; leave out `-p no:syrupy`"
    if config.getoption("update_snapshots") and selection.narrowed:
        return "a run narrowed by --metric or --component stores no snapshots; leave them out to update"
    try:
        if config.getoption("update_snapshots"):
            refuse_in_ci()
        if shard := config.getoption("harness_shard"):
            Shard.parse(shard)
        use_wanted_device(config.getoption("harness_device"))
        refuse_shared_ids(jobs)
        for file in {job.case.path for job in jobs}:
            refuse_mixing(Path(config.getoption("harness_results")), file)
    except UsageError as error:
        return str(error)
    return None
