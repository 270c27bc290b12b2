"""Which jobs are meant: the one selection that all commands and the pytest plugin share.

`OPTIONS` has a row for every field of a `Selection`. The options of commands, the refusal of unknown names, the
filtering, and the words of a command that selects the same again are all read from it. Nothing here loads a case or a
model, so that the command line and pytest start quickly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.vocabulary.errors import UsageError, suggest

if TYPE_CHECKING:
    from harness.jobs.planning import Job
    from harness.vocabulary import JobResult, RunResult


@dataclass(frozen=True)
class Selection:
    """The part of the case files that is meant: nothing given means all of it."""

    paths: tuple[Path, ...] = ()
    tables: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    allow_code: bool = False

    @property
    def narrowed(self) -> bool:
        """Whether only a part of each case is meant."""
        return bool(self.metrics or self.components)

    def selects(self, job: Job) -> bool:
        """Return whether every filter that is given leaves a job in."""
        return all(row.keeps(job, names) for row, names in self._sets.items())

    @cached_property
    def _sets(self) -> Mapping[SelectionOption, Set[str]]:
        return {row: frozenset(names) for row, names in self._filters()}

    def without(self, configured: Mapping[str, Any]) -> Selection:
        """Return the selection without the filters that `[tool.harness]` gives, which nobody typed."""
        given: dict[str, Any] = {
            row.field: () for row, names in self._filters() if row.setting and not row.words(names, configured)
        }
        return replace(self, **given)

    def refuse_unknown(self, jobs: Collection[Job]) -> None:
        """Raise UsageError for a name that none of the jobs has, with the nearest of theirs."""
        for row, names in self._filters():
            row.refuse_unknown(names, jobs)

    def nothing_left(self) -> UsageError:
        """Return the error of filters that exclude each other."""
        asked = ", ".join(f"{row.word} {' or '.join(names)}" for row, names in self._filters())
        return UsageError(f"no job has {asked} together; `harness list` shows which has what")

    def words(self, configured: Mapping[str, Any], *fields: str) -> list[str]:
        """Return the words of a command line that selects the same again, by all fields or by those named.

        What `[tool.harness]` says, given as `configured`, is left out.
        """
        rows = [row for row in OPTIONS if not fields or row.field in fields]
        return [word for row in rows for word in row.words(getattr(self, row.field), configured)]

    def _filters(self) -> Iterator[tuple[SelectionOption, Sequence[str]]]:
        return ((row, names) for row in OPTIONS if row.of and (names := getattr(self, row.field)))


@dataclass(frozen=True)
class SelectionOption:
    """How a field of a `Selection` is written, and for a filter what a job has of it.

    `spellings` are those of the option, the long one last; PATHS have none. `setting` is the key of `[tool.harness]`
    that stands in for it, and `completes` the kind of names that a shell completes. `noun`, `owner` and `elsewhere` are
    for the refusal of an unknown name.
    """

    field: str
    spellings: tuple[str, ...] = ()
    help: str = ""
    metavar: str | None = None
    setting: str = ""
    completes: str = ""
    noun: str = ""
    owner: str = "case here"
    of: Callable[[Job], Iterable[str]] | None = None
    elsewhere: str = ""
    pattern: bool = False
    """Whether a name may mean several: `dial-*`."""

    @property
    def word(self) -> str:
        """The spelling that messages and repeated commands use."""
        return self.spellings[-1]

    def names_in(self, jobs: Iterable[Job]) -> set[str]:
        """Return every name that a filter could be given for these jobs."""
        assert self.of is not None
        return {name for job in jobs for name in self.of(job)}

    def keeps(self, job: Job, names: Set[str]) -> bool:
        """Return whether a job has one of the names."""
        own = self.names_in([job])
        return not names.isdisjoint(own) or (self.pattern and any(self._meant(name, own) for name in names))

    def _meant(self, name: str, known: Iterable[str]) -> bool:
        return any(fnmatchcase(each, name) for each in known)

    def refuse_unknown(self, names: Iterable[str], jobs: Iterable[Job]) -> None:
        """Raise UsageError for a name that none of the jobs has."""
        known = self.names_in(jobs)
        for name in names:
            if name not in known and not (self.pattern and self._meant(name, known)):
                elsewhere = self.elsewhere.format(name=name)
                raise UsageError(f"no {self.owner} has the {self.noun} {name!r}; {suggest(name, known)}{elsewhere}")

    def words(self, value: Any, configured: Mapping[str, Any]) -> list[str]:
        """Return the words that give this value, none where the configuration gives it."""
        if isinstance(value, bool):
            return [self.word] if value else []
        names = list(map(str, value))
        if names == list(map(str, configured.get(self.setting, ()))):
            return []
        return [word for name in names for word in (*self.spellings[-1:], name)]


OPTIONS = (
    SelectionOption("paths", setting="paths", completes="cases"),
    SelectionOption(
        "tables", ("--models",), "A model table beside the bundled one.", "FILE", setting="models"
    ),
    SelectionOption(
        "models", ("-m", "--model"),
        "Only this model: an id or a pattern; a folder or `org/name` is asked in every case.", "MODEL",
        completes="models",
        noun="model", of=lambda job: job.models, pattern=True,
    ),
    SelectionOption(
        "engines", ("-e", "--engine"), "Only this engine.", "ENGINE", setting="engines", completes="engines",
        noun="engine", of=lambda job: (job.engine,),
        elsewhere="; `harness run --with-engine {name}` asks it in every case",
    ),
    SelectionOption(
        "tags", ("-t", "--tag"), "Only cases or models with this tag.", "TAG", setting="tags", completes="tags",
        noun="tag", of=lambda job: job.tags,
    ),
    SelectionOption(
        "metrics", ("--metric",), "Only this metric of each case.", "METRIC", completes="metrics",
        noun="metric", of=lambda job: job.case.metrics,
    ),
    SelectionOption(
        "components", ("-c", "--component"), "Only this component of each case.", "COMPONENT", completes="components",
        noun="component", of=lambda job: job.case.sweep.components,
    ),
    SelectionOption(
        "also", ("--with-engine",), "Ask this engine too, in every case; it has no snapshots.", "ENGINE",
        completes="engines",
    ),
    SelectionOption(
        "ids", ("--job",), "Only the job with this id, as in reports.", "ID",
        noun="id", owner="selected job", of=lambda job: (job.id,),
    ),
    SelectionOption(
        "allow_code", ("--allow-code",), "Import and run code of your own: engines and metrics as module:function."
    ),
)  # fmt: skip
"""One row a field, in the order in which a command is repeated."""


class PlannedRun:
    """What `harness run` hands to the pytest plugin, and where the plugin leaves the outcome.

    `jobs` are those of the case files that are run, also the ones that the selection leaves out; `selection` names the
    others by id. `notes` are those of the result, `kept` what `--failed` remembers of earlier runs. `result` stays None
    where the run came to no verdict, and `refusal` says why if that is known.
    """

    def __init__(
        self,
        selection: Selection,
        jobs: Iterable[Job],
        chosen: Iterable[Job],
        notes: Sequence[str] = (),
        kept: Sequence[JobResult] = (),
    ):
        self.chosen = chosen = list(chosen)
        self.notes, self.kept = tuple(notes), tuple(kept)
        self.selection = replace(selection, ids=tuple(job.id for job in chosen))
        self.files = tuple(dict.fromkeys(job.case.path for job in chosen))
        self.result: RunResult | None = None
        self.refusal: str | None = None
        self._jobs: dict[str, list[Job]] = {}
        for job in jobs:
            self._jobs.setdefault(os.path.abspath(job.case.path), []).append(job)

    @property
    def jobs(self) -> list[Job]:
        """All jobs of the case files that are run, also those that the selection leaves out."""
        return [job for jobs in self._jobs.values() for job in jobs]

    def jobs_of(self, path: Path) -> list[Job]:
        """Return the jobs of a case file under its whole path, by which pytest knows it; none for another file."""
        return [replace(job, case=job.case.having(path=path)) for job in self._jobs.get(str(path), ())]
