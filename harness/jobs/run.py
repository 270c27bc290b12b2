"""Jobs: one case on one model through one engine, planned and run."""

from __future__ import annotations

import itertools
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import models
from harness.casefile import ALWAYS_ON, Case, Exemption, Names, OfJobs, exemptions, load_cases
from harness.checks import CHECKS, Evidence, gather
from harness.engines import ENGINES, NAMES, Engine, answer, engine_named
from harness.environment.facts import environment
from harness.models.fingerprint import Fingerprint, fingerprint
from harness.models.loaded import LoadedModel
from harness.models.spec import ModelRow
from harness.models.tokens import read, single
from harness.patching import forecast
from harness.snapshots import SnapshotTolerance
from harness.support import progress
from harness.vocabulary import AnswerTokens, Finding, JobResult, Question, Status, prediction
from harness.vocabulary.errors import (
    CaseFileError,
    EngineUnavailable,
    HarnessError,
    ModelUnavailable,
    Problem,
    TapError,
    UsageError,
)
from harness.vocabulary.raised import FindingError, JobInterrupted, SweepFailed, SweepInterrupted
from harness.vocabulary.verdict import expect_failure, judge

# A variant's name stands before its engine in names of jobs and of snapshots; neither can hold this character.
VARIANT_MARK = "~"
# How the reason of a skipped job begins when the case asked for it.
BY_CASE = "the case says: "


@dataclass(frozen=True)
class Job:
    """One case on one model through one engine."""

    case: Case
    row: ModelRow
    engine: str
    allow_code: bool = False

    @property
    def id(self) -> str:
        return f"{self.case.id}[{self.engine}@{self.row.id}]"

    @property
    def name(self) -> str:
        """What tells the job from the others of its case file: `engine@model`, after the variant if there is one."""
        variant = f"{self.case.variant}{VARIANT_MARK}" if self.case.variant else ""
        return f"{variant}{self.engine}@{self.row.id}"

    @property
    def cost(self) -> int:
        """About how long it takes beside other jobs: a pretrained model has more and larger layers than the others."""
        return 10 if self.row.source in ("wheel", "path", "hub") else 1

    @property
    def has_snapshot(self) -> bool:
        """Whether its numbers are stored: not those of a job that must fail a check, which are known to be wrong."""
        must, _ = self.case.expectation(self.engine)
        return "snapshot" in self.case.checks and not must


def jobs_in(path: Path, table: Mapping[str, ModelRow], allow_code: bool = False, also: Sequence[str] = ()) -> list[Job]:
    """Return the jobs of a case file. Raises CaseFileError with all that is wrong in it, UsageError for no file.

    An engine or a metric that is code of the user's own is wrong in it, unless `allow_code`.
    """
    cases = load_cases(path, names_of(table, allow_code))
    if problems := list(_unanswerable(cases)):
        raise CaseFileError(problems)
    return [job for case in cases for job in plan(case, table, allow_code, also)]


def _unanswerable(cases: Sequence[Case]) -> Iterator[Problem]:
    """Yield what is expected of a metric that none of the engines meant has: no job would ever look at it."""
    stated = [(case, key, index, entry) for case in cases for key, index, entry in _of_metrics(case)]
    # What one variant of a case answers, the others need not.
    answered = {
        (key, entry) for case, key, _, entry in stated if any(_has(name, entry.metric) for name in _meant(case, entry))
    }
    for case, key, index, entry in stated:
        if (key, entry) not in answered:
            message = f"{' and '.join(_meant(case, entry))} cannot answer {entry.metric!r}, so nothing is compared"
            yield case.problem(message, ("expect", key, index, "metric"))


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

    `also` are engines that are asked although the case does not name them: a guest has no snapshots. Nothing that a
    case names as code is imported here; `allow_code` goes along with each job.
    """
    models = names_of(table).models_of(case.models)
    guests = [engine for engine in dict.fromkeys(also) if engine not in case.engines]
    for_guests = case.having(checks=tuple(check for check in case.checks if check != "snapshot"))
    asked = [*((case, engine) for engine in case.engines), *((for_guests, engine) for engine in guests)]
    return [Job(part, table[model], engine, allow_code) for model in models for part, engine in asked]


def metrics_of(job: Job) -> tuple[str, ...]:
    """Return the metrics of a job that its engine has; all of them where the engine is not installed to be asked."""
    try:
        engine = engine_named(job.engine, job.allow_code)
    except EngineUnavailable:
        return job.case.metrics
    return tuple(metric for metric in job.case.metrics if engine.knows(metric))


def tolerances(case: Case) -> tuple[SnapshotTolerance, SnapshotTolerance]:
    """Return how far a case lets stored numbers move on one backend, and between two: there never less."""
    own = case.tolerance
    points, relative = own.recovery_points, own.baseline_relative
    between = max(points, own.cross_backend_points), max(relative, own.cross_backend_relative)
    return SnapshotTolerance(points, relative), SnapshotTolerance(*between)


def refuse_shared_ids(jobs: Iterable[Job]) -> None:
    """Raise UsageError when two case files have the same id or store in the same folder: reports and snapshots could
    not tell them apart.
    """
    by_id: dict[str, Path] = {}
    by_name: dict[str, set[Path]] = {}
    for job in jobs:
        file = job.case.path
        if (other := by_id.setdefault(job.case.id, file)) != file:
            raise UsageError(f"{file} and {other} have the same id {job.case.id!r}; give one another `id`")
        by_name.setdefault(file.name, set()).add(file)
    for files in by_name.values():
        if len(files) > 1:
            _refuse_shared_folders(sorted(files))


def _refuse_shared_folders(files: Sequence[Path]) -> None:
    from harness.snapshots import folder_of

    for file, other in itertools.combinations(files, 2):
        if (folder := folder_of(file).resolve()) == folder_of(other).resolve():
            raise UsageError(f"{file} and {other} store the same snapshots in {folder}; give one another name")


class ModelCache:
    """The model in use, kept until another one is asked for: each is loaded once when jobs come model by model."""

    def __init__(self, download: bool = False):
        self.download = download
        self._kept: tuple[ModelRow, LoadedModel, Fingerprint] | None = None

    def take(self, row: ModelRow) -> tuple[LoadedModel, Fingerprint]:
        """Return a loaded model and its fingerprint. Raises ModelUnavailable or UsageError."""
        if self._kept is None or self._kept[0] != row:
            self._kept = None
            progress.say(f"loading {row.id}")
            model = models.load(row, download=self.download)
            self._kept = (row, model, fingerprint(model.module))
        return self._kept[1], self._kept[2]

    def discard(self) -> None:
        """Forget the model, because a job changed it."""
        self._kept = None


Say = Callable[[str], None]
"""Told what a large sweep will take, before it starts."""

SnapshotCheck = Callable[[Job, JobResult], Iterable[Finding]]


def run(
    job: Job,
    shelf: ModelCache,
    snapshot: SnapshotCheck | None = None,
    strict: bool = False,
    say: Say = lambda text: None,
) -> JobResult:
    """Run one job to its verdict. Whatever goes wrong becomes a status with a reason.

    Only Ctrl-C comes through, as JobInterrupted with what there is of the job.
    """
    blank = JobResult(
        id=job.id,
        case=job.case.id,
        case_file=str(job.case.path),
        case_line=job.case.line_of("models"),
        model=job.row.id,
        engine=job.engine,
        status=Status.PASSED,
        about=job.case.about,
        tags=job.case.tags,
        sweep=job.case.asked_sweep,
    )
    if skipped := exemption(job, exemptions(job.case.skip or ())):
        return replace(blank, status=Status.SKIPPED, reason=f"{BY_CASE}{skipped}")
    try:
        return _failing_as_expected(_Run(job, shelf, blank, say).result(snapshot, strict), job, strict)
    except (ModelUnavailable, EngineUnavailable) as error:
        return replace(blank, status=Status.SKIPPED, reason=str(error))
    except UsageError as error:
        return replace(blank, status=Status.REFUSED, reason=f"{job.case.path}: {error}")
    except Exception as error:  # noqa: BLE001  a run of hundreds of jobs survives a defect in one of them
        shelf.discard()
        return replace(blank, status=Status.CRASHED, reason=_described(error))
    except SweepInterrupted as stop:
        done = replace(blank.answered(stop.answer), status=Status.INTERRUPTED, reason=str(stop), partial=True)
        raise JobInterrupted(done) from stop
    except KeyboardInterrupt as stop:
        raise JobInterrupted(replace(blank, status=Status.INTERRUPTED, reason="interrupted")) from stop


def exemption(job: Job, entries: Iterable[Exemption]) -> str | None:
    """Return the reason of the first `skip` or `xfail` entry that means a job here, or None."""
    for entry in entries:
        here = entry.backend is None or entry.backend == environment().backend
        if here and entry.meant(job.engine, job.row.id):
            return entry.reason
    return None


def _failing_as_expected(result: JobResult, job: Job, strict: bool) -> JobResult:
    reason = exemption(job, exemptions(job.case.xfail or ()))
    if reason is None or result.status not in (Status.PASSED, Status.FAILED):
        return result
    status, findings = expect_failure(result.status, result.findings, reason, strict)
    said = f"as expected, this job fails: {reason}" if status is Status.PASSED else None
    return replace(result, status=status, findings=findings, reason=said)


class _Run:
    def __init__(self, job: Job, shelf: ModelCache, blank: JobResult, say: Say):
        self.job, self.shelf, self.blank, self.say = job, shelf, blank, say
        self.timings: dict[str, float] = {}
        self.engine: Engine

    def result(self, snapshot: SnapshotCheck | None, strict: bool) -> JobResult:
        case = self.job.case
        self.engine = engine_named(self.job.engine, self.job.allow_code)
        self.blank = replace(self.blank, engine_version=self.engine.version)
        metrics = tuple(metric for metric in case.metrics if self.engine.knows(metric))
        if not metrics:
            reason = f"{self.job.engine} knows none of {', '.join(case.metrics)}"
            return replace(self.blank, status=Status.SKIPPED, reason=reason)
        model, before = self._timed("load_s", lambda: self.shelf.take(self.job.row))
        result, findings = self._answered(model, metrics)
        findings += self._unchanged(model, before)
        must, may = case.expectation(self.job.engine)
        status, marked = judge(findings, must, may, strict)
        if snapshot and self.job.has_snapshot and status is Status.PASSED and result.curves and not result.partial:
            findings += snapshot(self.job, replace(result, status=status, findings=marked))
            status, marked = judge(findings, must, may, strict)
        return replace(result, status=status, findings=marked, timings=self.timings)

    def _answered(self, model: LoadedModel, metrics: Sequence[str]) -> tuple[JobResult, list[Finding]]:
        question = question_of(self.job.case, model, metrics)
        result = replace(self.blank, card=model.card, clean=question.clean, corrupted=question.corrupted)
        try:
            if large := prediction(forecast(model, question)):
                self.say(f"{self.job.id}: {large}")
            given = self._timed("sweep_s", lambda: answer(self.engine, model, question))
        except SweepFailed as stop:
            reason = f"the sweep ended {stop.answer.stopped}"
            return replace(result.answered(stop.answer), partial=True, reason=reason), [
                _finding_of(stop.__cause__ or stop)
            ]
        except Exception as error:  # noqa: BLE001  whatever an engine raises is a finding about that engine
            return result, [_finding_of(error)]
        progress.say("checks")
        evidence = self._timed(
            "evidence_s", lambda: gather(self.job.case, model, self.engine, question, given, self.job.allow_code)
        )
        findings = self._timed("checks_s", lambda: _checked(evidence))
        return result.answered(evidence.answer), findings

    def _unchanged(self, model: LoadedModel, before: Fingerprint) -> list[Finding]:
        changed = before.difference(fingerprint(model.module))
        if changed is None:
            return []
        self.shelf.discard()
        return [Finding("LAW005", changed)]

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            return work()
        finally:
            self.timings[name] = round(time.perf_counter() - start, 3)


def question_of(case: Case, model: LoadedModel, metrics: Sequence[str]) -> Question:
    """Return what a case asks of one model. Raises PromptError for prompts the model cannot read."""
    prompts = case.prompts
    answers = None
    if prompts.answer is not None and prompts.wrong is not None:
        answers = AnswerTokens(single(model, prompts.answer, "answer"), single(model, prompts.wrong, "wrong answer"))
    return Question(
        clean=read(model, prompts.clean, "prompts.clean"),
        corrupted=read(model, prompts.corrupted, "prompts.corrupted"),
        sweep=case.asked_sweep,
        metrics=tuple(metrics),
        answers=answers,
    )


def _checked(evidence: Evidence) -> list[Finding]:
    asked = (*evidence.case.checks, *ALWAYS_ON)
    return [found for name in asked if name in CHECKS for found in CHECKS[name](evidence)]


def _finding_of(error: BaseException) -> Finding:
    """Return what an engine's error says about it; a fault of the harness or of the request is raised again."""
    if isinstance(error, FindingError):
        return error.finding
    if isinstance(error, TapError):
        return Finding("LAW004", str(error))
    if isinstance(error, HarnessError):
        raise error
    folded = "".join(traceback.format_exception(error))[-4000:]
    return Finding("ENG001", _described(error), evidence={"traceback": folded})


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
