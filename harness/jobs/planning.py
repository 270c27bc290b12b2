"""Planning: from a case to its jobs, and what can be said of a job without running it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.casefile import Case, Expect, Names, OfJobs, load_cases
from harness.engines import ENGINES, INSTALLED, NAMES, engine_named
from harness.models.spec import ModelRow
from harness.snapshots import Quantity, SnapshotTolerance, WidenedTolerance
from harness.support.user_code import search
from harness.vocabulary import JobResult, Status, is_code
from harness.vocabulary.errors import CaseFileError, EngineUnavailable, Problem, UsageError

# A variant's name stands before its engine in names of jobs and of snapshots; neither can hold this character.
VARIANT_MARK = "~"


@dataclass(frozen=True)
class Job:
    """One case on one model through one engine."""

    case: Case
    row: ModelRow
    engine: str
    allow_code: bool = False
    given: str | None = None
    """How `--model` named its model, where the case does not: then no numbers of it are stored."""
    inapplicable: str = ""
    """Why the case cannot be asked of such a model."""

    @property
    def id(self) -> str:
        return f"{self.case.id}[{self.engine}@{self.row.id}]"

    @property
    def name(self) -> str:
        """What tells the job from the others of its case file: `engine@model`, after the variant if there is one."""
        variant = f"{self.case.variant}{VARIANT_MARK}" if self.case.variant else ""
        return f"{variant}{self.engine}@{self.row.id}"

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of its case and of its model, each once."""
        return tuple(dict.fromkeys((*self.case.tags, *self.row.tags)))

    @property
    def cost(self) -> int:
        """About how long it takes beside other jobs: a pretrained model has more and larger layers than the others."""
        return 10 if self.row.source in ("wheel", "path", "hub") else 1

    @property
    def digest(self) -> str:
        """16 hex digits that change with what the job asks and holds, and not with where its case file lies."""
        case = self.case.model_dump(mode="json", exclude={"path", "document", "about", "tags"})
        row = self.row.model_dump(mode="json", exclude={"path", "about", "tags"})
        return hashlib.blake2b(json.dumps([case, row], sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def runs_code(self) -> bool:
        """Whether it runs somebody else's code, which may end its process or never come back."""
        return bool(self.code) or not {self.engine, self.case.reference}.isdisjoint(INSTALLED)

    @property
    def models(self) -> tuple[str, ...]:
        """What its model goes by: its id, and what `--model` said."""
        return (self.row.id, *filter(None, [self.given]))

    @property
    def code(self) -> tuple[str, ...]:
        """The names of the user's own code in it."""
        named = (self.engine, *self.case.metrics, *filter(None, [self.case.reference]))
        return tuple(name for name in named if is_code(name))

    @property
    def unseen_engine(self) -> bool:
        """Whether its engine is code that may not be imported here, so that nobody knows what it declares."""
        return is_code(self.engine) and not self.allow_code

    @property
    def guest(self) -> str:
        """Which engine or model is asked although the case does not name it: then no numbers of it are stored."""
        if self.engine not in self.case.engines:
            return f"{self.engine} is not an engine of the case"
        return f"{self.given} is not a model of the case" if self.given else ""

    @property
    def has_snapshot(self) -> bool:
        """Whether its numbers are stored: not those of a job that must fail a check, which are known to be wrong."""
        return "snapshot" in self.case.checks and not self.case.must_fail(self.engine)


def jobs_in(
    path: Path, table: Mapping[str, ModelRow], allow_code: bool = False, also: Sequence[str] = (),
    asked: Mapping[str, ModelRow] = MappingProxyType({}), looking: bool = False,
) -> list[Job]:  # fmt: skip
    """Return the jobs of a case file. Raises CaseFileError with all that is wrong in it, UsageError for no file.

    An engine or a metric that is code of the user's own is wrong in it, unless `allow_code`. `asked` are models that
    every case is asked of, by what they were given as: a case that does not name one has it as a guest. Who is only
    `looking` may be shown code that a case names, and imports none.
    """
    cases = load_cases(path, names_of(table, allow_code or looking))
    named = (name for case in cases for name in (*case.engines, *case.metrics, case.reference or ""))
    if allow_code and any(map(is_code, named)):
        # Found from where the command runs, or else beside the case.
        search(Path.cwd())
        search(path.parent)
    if problems := [*_unanswerable(cases), *_unasked(cases, also)]:
        raise CaseFileError(problems)
    jobs = [job for case in cases for job in plan(case, table, allow_code, also)]
    guests = ((case, given, row) for case in cases for given, row in asked.items())
    return jobs + [job for case, given, row in guests for job in _as_guest(case, given, row, jobs)]


def _as_guest(case: Case, given: str, row: ModelRow, jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield the jobs of a case on a model that it does not name, one for every engine that it is asked of.

    What the case states of the numbers of its own models is left out, and findings that must appear there may here.
    """
    own = [job for job in jobs if job.case.id == case.id]
    if any(job.row.id == row.id for job in own):
        return
    for engine in dict.fromkeys(job.engine for job in own):
        must, may = case.expectation(engine)
        expect = Expect(finite=case.expect.finite, may_find=(*must, *may))
        checks = tuple(check for check in case.checks if check != "snapshot")
        part = case.having(expect=expect, checks=checks, xfail=None)
        yield Job(part, row, engine, own[0].allow_code, given)


def _unanswerable(cases: Sequence[Case]) -> Iterator[Problem]:
    """Yield what is expected of a metric that none of the engines meant has: no job would ever look at it."""
    stated = [(case, key, index, entry) for case in cases for key, index, entry in _of_metrics(case)]
    # An expectation counts as answered if any variant of the case has an engine with its metric.
    answered = {
        (key, entry) for case, key, _, entry in stated if any(_has(name, entry.metric) for name in _meant(case, entry))
    }
    for case, key, index, entry in stated:
        if (key, entry) not in answered:
            message = f"{' and '.join(_meant(case, entry))} cannot answer {entry.metric!r}, so nothing is compared"
            yield case.problem(message, ("expect", key, index, "metric"))


def _unasked(cases: Sequence[Case], also: Sequence[str]) -> Iterator[Problem]:
    """Yield the metrics and the reference of which no variant of a case compares anything."""
    first, engines = cases[0], [{*case.engines, *also} for case in cases]
    for metric in first.metrics:
        if not any(_has(name, metric) and metric in case.metrics for case in cases for name in (*case.engines, *also)):
            message = f"{' and '.join(first.engines)} cannot answer {metric!r}, so nothing is measured"
            yield first.problem(message, ("metrics", first.metrics.index(metric)))
    if all(asked == {case.reference} for case, asked in zip(cases, engines, strict=True)):
        message = f"{first.reference!r} is the only engine of this case, so nothing is compared with it"
        yield first.problem(message, ("reference",))
    if all(case.reference and not any(_has(case.reference, metric) for metric in case.metrics) for case in cases):
        message = f"{first.reference!r} has none of {', '.join(first.metrics)}, so nothing is compared with it"
        yield first.problem(message, ("reference",))


def _of_metrics(case: Case) -> Iterator[tuple[str, int, Any]]:
    for key, entries in case.expect:
        for index, entry in enumerate(entries if isinstance(entries, tuple) else ()):
            if getattr(entry, "metric", None) is not None:
                yield key, index, entry


def _meant(case: Case, entry: OfJobs) -> list[str]:
    return [name for name in case.engines if entry.engine in (None, name)]


def _has(engine: str, metric: str) -> bool:
    # Code of the user's own is not imported to be asked, and what is not installed cannot be.
    return engine not in ENGINES or ENGINES[engine].knows(metric)


def names_of(table: Mapping[str, ModelRow], allow_code: bool = False) -> Names:
    """Return the names a case may use with a table of models."""
    return Names({row.id: row.tags for row in table.values()}, NAMES, allow_code)


def plan(case: Case, table: Mapping[str, ModelRow], allow_code: bool = False, also: Sequence[str] = ()) -> list[Job]:
    """Return the jobs of a case whose models and engines are known: a model each time it is named, once.

    `also` are engines that are asked although the case does not name them: they have no snapshots. Nothing that a
    case names as code is imported here; `allow_code` goes along with each job.
    """
    models = names_of(table).models_of(case.models)
    added = [engine for engine in dict.fromkeys(also) if engine not in case.engines]
    unstored = case.having(checks=tuple(check for check in case.checks if check != "snapshot"))
    asked = [*((case, engine) for engine in case.engines), *((unstored, engine) for engine in added)]
    return [Job(part, table[model], engine, allow_code) for model in models for part, engine in asked]


def unseen(jobs: Iterable[Job]) -> list[str]:
    """Return what nobody knows of jobs that are only looked at: the code that they name is not imported."""
    names = dict.fromkeys(name for job in jobs if not job.allow_code for name in job.code)
    return [f"whether {name} exists, and what it answers, is seen when it runs" for name in names]


def blank_result(job: Job, status: Status, reason: str | None = None) -> JobResult:
    """Return the result of a job of which nothing is known but how it ended."""
    return JobResult(
        id=job.id,
        case=job.case.id,
        case_file=str(job.case.path),
        case_line=job.case.line_of("models"),
        model=job.row.id,
        engine=job.engine,
        status=status,
        reason=reason,
        about=job.case.about,
        tags=job.case.tags,
        sweep=job.case.asked_sweep,
        given=job.given,
    )


def metrics_of(job: Job) -> tuple[str, ...]:
    """Return the metrics of a job that its engine has; all of them where the engine is not installed to be asked, or is
    code that may not run here."""
    if job.unseen_engine:
        return job.case.metrics
    try:
        engine = engine_named(job.engine, job.allow_code)
    except EngineUnavailable:
        return job.case.metrics
    return tuple(metric for metric in job.case.metrics if engine.knows(metric))


def tolerances(job: Job, result: JobResult | None = None) -> tuple[SnapshotTolerance, SnapshotTolerance]:
    """Return how far a job's stored numbers may move on one backend, and between two.

    Between two, a recovery may also move by what rounding makes of its denominator in `result`. A model of which no
    dtype is known before it is loaded is held to the measured float32 tolerance until there is a result.
    """
    from harness.metrics.denominators import bar
    from harness.metrics.tolerances import Work, stored_tolerance

    if result and result.card:
        dtype, quantized = result.card.dtype, bool(result.card.quantization)
    else:
        row = job.row
        dtype = getattr(row, "dtype", None) or "float32"
        quantized = bool(getattr(row, "quantized", False) or getattr(row, "quantize", None))
    here, far = (
        stored_tolerance(job.case.tolerance, dtype, work, quantized) for work in (Work.STORED, Work.STORED_ELSEWHERE)
    )
    widened = {}
    for curve in result.curves if result else ():
        if curve.denominator and curve.denominator.gap:
            share = curve.denominator.resolution / abs(curve.denominator.gap)
            widened[Quantity(curve.component, curve.metric)] = share
            for cell in curve.cells:
                if cell.recovery.value is not None:
                    where = Quantity(curve.component, curve.metric, curve.site(cell))
                    widened[where] = bar(curve.metric, curve.denominator, cell.recovery.value)
    return SnapshotTolerance(*here), WidenedTolerance(*far, widened)


def refuse_shared_ids(jobs: Iterable[Job]) -> None:
    """Raise UsageError when two case files have the same id or store in the same folder: reports and snapshots could
    not tell them apart.
    """
    by_id: dict[str, Path] = {}
    for job in jobs:
        file = job.case.path
        if (other := by_id.setdefault(job.case.id, file)) != file:
            raise UsageError(f"{file} and {other} have the same id {job.case.id!r}; give one another `id`")
    _refuse_shared_folders(sorted(set(by_id.values())))


def _refuse_shared_folders(files: Iterable[Path]) -> None:
    from harness.snapshots import folder_of

    by_place: dict[tuple[Path, str], Path] = {}
    for file in files:
        folder = folder_of(file).resolve()
        if (other := by_place.setdefault((folder, file.name), file)) != file:
            raise UsageError(f"{other} and {file} store the same snapshots in {folder}; give one another name")
