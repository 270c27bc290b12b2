"""Running one job to its verdict, with the model in use kept from job to job."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from harness import models
from harness.casefile import ALWAYS_ON, Case, Exemption, exemptions
from harness.checks import CHECKS, Evidence, gather
from harness.engines import Engine, answer, engine_named
from harness.environment.facts import environment
from harness.intercept import forward
from harness.jobs.planning import Job
from harness.models.fingerprint import Fingerprint, fingerprint, settled
from harness.models.loaded import LoadedModel
from harness.models.spec import ModelRow
from harness.models.tokens import read_prompts
from harness.patching import forecast
from harness.support import progress
from harness.vocabulary import Finding, JobResult, Question, Status, prediction
from harness.vocabulary.errors import EngineUnavailable, HarnessError, ModelUnavailable, TapError, UsageError, described
from harness.vocabulary.raised import FindingError, JobInterrupted, SweepFailed, SweepInterrupted
from harness.vocabulary.verdict import expect_failure, judge

# How the reason of a skipped job begins when the case asked for it.
BY_CASE = "the case says: "


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
            self._kept = (row, model, settled(model.module, lambda: _bare(model)))
        return self._kept[1], self._kept[2]

    def discard(self) -> None:
        """Forget the model, because a job changed it."""
        self._kept = None


def _bare(model: LoadedModel) -> None:
    with suppress(Exception):  # a model that cannot run says so in its jobs
        forward(model, [0])


Say = Callable[[str], None]
"""Told what a large sweep will take, before it starts."""

SnapshotCheck = Callable[[Job, JobResult], Iterable[Finding]]


def run(
    job: Job,
    cache: ModelCache,
    snapshot: SnapshotCheck | None = None,
    strict: bool = False,
    say: Say = lambda text: None,
) -> JobResult:
    """Run one job to its verdict. Whatever goes wrong becomes a status with a reason.

    Only Ctrl-C comes through, as JobInterrupted with what there is of the job.
    """
    blank = unanswered(job)
    if skipped := exemption(job, exemptions(job.case.skip or ())):
        return replace(blank, status=Status.SKIPPED, reason=f"{BY_CASE}{skipped}")
    try:
        return _failing_as_expected(_Run(job, cache, blank, say).result(snapshot, strict), job, strict)
    except (ModelUnavailable, EngineUnavailable) as error:
        return replace(blank, status=Status.SKIPPED, reason=str(error))
    except UsageError as error:
        return replace(blank, status=Status.REFUSED, reason=f"{job.case.path}: {error}")
    except SweepInterrupted as stop:
        done = replace(blank.answered(stop.answer), status=Status.INTERRUPTED, reason=str(stop), partial=True)
        raise JobInterrupted(done) from stop
    except KeyboardInterrupt as stop:
        raise JobInterrupted(replace(blank, status=Status.INTERRUPTED, reason="interrupted")) from stop
    except BaseException as error:  # noqa: BLE001  a run of hundreds of jobs survives a defect in one of them
        return replace(blank, status=Status.CRASHED, reason=described(error))


def unanswered(job: Job, status: Status = Status.PASSED, reason: str | None = None) -> JobResult:
    """Return the result of a job of which there is no answer."""
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
    )


def overdue(job: Job, limit: float, strict: bool = False) -> JobResult:
    """Return the result of a job that was ended at its limit, in seconds."""
    said = f"more than {limit:g} s, all of it counted: loading the model, the sweep, the checks"
    status, findings = judge([Finding("ENG002", said)], *job.case.expectation(job.engine), strict)
    return _failing_as_expected(replace(unanswered(job, status), findings=findings), job, strict)


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
    def __init__(self, job: Job, cache: ModelCache, blank: JobResult, say: Say):
        self.job, self.cache, self.blank, self.say = job, cache, blank, say
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
        model, before = self._timed("load_s", lambda: self.cache.take(self.job.row))
        try:
            result, findings = self._answered(model, metrics)
            findings += self._unchanged(model, before)
        except BaseException:
            self.cache.discard()  # nobody compared the model with what it was
            raise
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
            result = replace(result.answered(stop.answer), partial=True, reason=reason)
            return result, [_finding_of(stop.__cause__ or stop)]
        except KeyboardInterrupt:
            raise
        # Whatever an engine raises is a finding about that engine: `sys.exit` and pytest's `skip` as well.
        except BaseException as error:  # noqa: BLE001
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
        self.cache.discard()
        return [Finding("LAW005", changed)]

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            return work()
        finally:
            self.timings[name] = round(time.perf_counter() - start, 3)


def question_of(case: Case, model: LoadedModel, metrics: Sequence[str]) -> Question:
    """Return what a case asks of one model. Raises PromptError for prompts the model cannot read."""
    clean, corrupted, answers = read_prompts(model, case.prompts)
    return Question(clean, corrupted, case.asked_sweep, tuple(metrics), answers)


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
    return Finding("ENG001", described(error), evidence={"traceback": folded})
