"""Running one job to its verdict, with the model in use kept from job to job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from harness import models
from harness.casefile import ALWAYS_ON, Case, Exemption, KnownFailure, exemptions
from harness.checks import CHECKS, Evidence, gather
from harness.checks.left_out import stated_of, without_answer, without_metric
from harness.engines import Engine, ForeignEngine, answer, engine_named
from harness.engines.dequantised import Float32Copy, saying
from harness.engines.kept_rows import KeptRows
from harness.engines.paired_questions import misaligned
from harness.engines.pairs import over_pairs, said_of_pairs
from harness.environment.facts import environment, settle_device
from harness.intercept import forward
from harness.intercept.constancy import Constancy
from harness.jobs.aftermath import BareRow, change, is_foreign
from harness.jobs.constancy import ConstancyOfJob
from harness.jobs.pairs import (
    asked_pairs,
    case_of,
    case_of_means,
    in_pair,
    questions_of,
)
from harness.jobs.planning import Job, blank_result
from harness.jobs.stated import with_lines
from harness.laws import LAWS
from harness.models.fingerprint import Classes, Fingerprint, class_left, classes_of, settled
from harness.models.loaded import LoadedModel
from harness.models.spec import ModelRow
from harness.patching import forecast
from harness.patching.remembered import trusting
from harness.snapshots import SnapshotPlace
from harness.support import progress
from harness.support.ctrl_c import is_of_code
from harness.support.user_code import CodeRaised
from harness.vocabulary import NEVER, Answer, Dequantised, Finding, JobResult, Question, Status, prediction
from harness.vocabulary.backends import is_meant
from harness.vocabulary.errors import (
    EngineUnavailable,
    HarnessError,
    ModelUnavailable,
    PromptError,
    TapError,
    Unsupported,
    UsageError,
    described,
    described_at,
    device_failure,
    traceback_of,
)
from harness.vocabulary.paths import near
from harness.vocabulary.raised import (
    FindingError,
    JobInterrupted,
    SweepFailed,
    SweepInterrupted,
    refuse_device_failure,
    suppressed,
)
from harness.vocabulary.results import NO_SNAPSHOT
from harness.vocabulary.verdict import expect_failure, judge

ONCE = {"LAW017", *(law.code for law in LAWS.values() if law.once)} - {
    law.code for law in LAWS.values() if not law.once
}
"""Codes of what is true of an engine's own code, whichever model it is asked about, and of nothing else."""

# How the reason of a skipped job begins when the case asked for it.
BY_CASE = "the case says: "
# ... and of one whose case cannot be asked of a model that it does not name.
NOT_APPLICABLE = "not applicable: "


E = TypeVar("E", bound=Exemption)


class ModelCache:
    """The model in use, kept until another one is asked for: each is loaded once when jobs come model by model.

    So is its float32 copy, where `dequantise` asks for one and a job can use it.
    """

    def __init__(self, download: bool = False, dequantise: str = NEVER):
        self.download, self.dequantise = download, dequantise
        self._kept: tuple[ModelRow, Constancy, Fingerprint] | None = None
        self._copy: Float32Copy | None = None
        self._copied: tuple[Constancy, Classes] | None = None
        self._told: set[tuple[str, str]] = set()
        self.looked_at = False
        """Whether the model was held against its fingerprint after a job of our own patching."""

    def take(self, row: ModelRow, allow_code: bool = False) -> tuple[Constancy, Fingerprint]:
        """Return a loaded model, with its own code where `allow_code`, as it is before it was asked anything, and its
        fingerprint.

        Raises ModelUnavailable or UsageError.
        """
        if self._kept is None or self._kept[0] != row:
            self.discard()
            progress.say(f"loading {row.id}")
            model = models.load(row, download=self.download, allow_code=allow_code)
            constancy = Constancy(model)
            before = settled(model.module, lambda: _bare(model))
            self._kept = (row, constancy, before)
        return self._kept[1], self._kept[2]

    def swept(
        self, own: Constancy, engine: Engine, question: Question, foreign: bool
    ) -> tuple[Constancy, Dequantised | None]:
        """Return what the sweep of a job runs on, the model that was taken or its float32 copy, as it is before it was
        asked anything, and what to say of the copy."""
        if self.dequantise == NEVER:
            return own, None
        self._copy = self._copy or Float32Copy(own.model)
        model, said = self._copy.chosen(engine, question, foreign)
        if model is own.model:
            return own, said
        self._copied = self._copied or (Constancy(model), classes_of(model.module))
        return self._copied[0], said

    def copy_left(self) -> str | None:
        """Return which module of the float32 copy has another class than it had, or None."""
        return class_left(self._copied[1], classes_of(self._copied[0].model.module)) if self._copied else None

    def said_once(self, engine: str, findings: Sequence[Finding], expected: Sequence[str]) -> list[Finding]:
        """Return the findings without those about an engine's code that an earlier job has said of it already; a case
        that expects one gets it."""
        told, self._told = self._told, self._told | {(engine, each.code) for each in findings if each.code in ONCE}
        return [each for each in findings if (engine, each.code) not in told or each.code in expected]

    def discard(self) -> None:
        """Forget the model: a job changed it, or ended without saying what it left."""
        self._kept, self._copy, self._copied, self.looked_at = None, None, None, False


def _bare(model: LoadedModel) -> None:
    with suppressed():  # a model that cannot run says so in its jobs
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
    prove: bool = False,
) -> JobResult:
    """Run one job to its verdict. Whatever goes wrong becomes a status with a reason.

    With `prove`, its walk relies on no proof that another process made.

    Only Ctrl-C comes through, as JobInterrupted with what there is of the job.
    """
    blank = blank_result(job, Status.PASSED)
    if reason := _left_out(job):
        return replace(blank, status=Status.SKIPPED, reason=reason)
    try:
        done = _failing_as_expected(_Run(job, cache, blank, say, prove).result(snapshot, strict), job, strict)
        return with_lines(done, job.case)
    except (ModelUnavailable, EngineUnavailable) as error:
        return replace(blank, status=Status.SKIPPED, reason=str(error))
    except UsageError as error:
        return _refused(job, blank, error)
    except KeyboardInterrupt as stop:
        if is_of_code(stop):  # of a metric of the user's own: an engine's is a finding
            return replace(blank, status=Status.CRASHED, reason=described(stop.__cause__ or stop))
        if not isinstance(stop, SweepInterrupted):
            raise JobInterrupted(replace(blank, status=Status.INTERRUPTED, reason="interrupted")) from stop
        done = replace(blank.answered(stop.answer), status=Status.INTERRUPTED, reason=str(stop), partial=True)
        raise JobInterrupted(done) from stop
    except BaseException as error:  # noqa: BLE001  a run of hundreds of jobs survives a defect in one of them
        if failed := device_failure(error):
            return _failed_by_device(job, blank, failed, strict)
        if isinstance(error, OSError) and error.filename is not None:  # a folder that may not be looked into
            return replace(blank, status=Status.REFUSED, reason=f"{error.filename}: {error.strerror}")
        return replace(blank, status=Status.CRASHED, reason=described(error))


def _left_out(job: Job) -> str:
    """Return why a job is not run at all, if so."""
    if skipped := exemption(job, exemptions(job.case.skip, Exemption)):
        return f"{BY_CASE}{skipped.reason}"
    return f"{NOT_APPLICABLE}{job.inapplicable}" if job.inapplicable else ""


def _refused(job: Job, blank: JobResult, error: UsageError) -> JobResult:
    """Return the result of a job that makes no sense: no fault of its case on a model that the case does not name."""
    if job.given and isinstance(error, PromptError):
        return replace(blank, status=Status.SKIPPED, reason=f"{NOT_APPLICABLE}{error}")
    return replace(blank, status=Status.REFUSED, reason=f"{near(job.case.path)}: {error}")


def _failed_by_device(job: Job, blank: JobResult, said: str, strict: bool) -> JobResult:
    """Return the result of a job during which the device failed: no number, and no finding about anybody else."""
    status, findings = judge([Finding("ENG003", said)], (), (), strict)
    return replace(blank, status=status, findings=findings)


def overdue(job: Job, limit: float, strict: bool = False) -> JobResult:
    """Return the result of a job that was ended at its limit, in seconds."""
    said = f"more than {limit:g} s, all of it counted: loading the model, the sweep, the checks"
    status, findings = judge([Finding("ENG002", said)], *job.case.expectation(job.engine), strict)
    return _failing_as_expected(replace(blank_result(job, status), findings=findings), job, strict)


def exemption(job: Job, entries: Iterable[E]) -> E | None:
    """Return the first `skip` or `xfail` entry that means a job here, or None."""
    for entry in entries:
        here = entry.backend is None or is_meant(entry.backend, environment().backend)
        if here and entry.meant(job.engine, job.row.id):
            return entry
    return None


def _failing_as_expected(result: JobResult, job: Job, strict: bool) -> JobResult:
    known = exemption(job, exemptions(job.case.xfail, KnownFailure))
    if known is None or result.status not in (Status.PASSED, Status.FAILED):
        return result
    status, findings = expect_failure(result.status, result.findings, known.reason, known.explains, strict)
    said = f"as expected, this job fails: {known.reason}" if status is Status.PASSED else result.reason
    return replace(result, status=status, findings=findings, reason=said)


@dataclass(frozen=True)
class Upshot:
    """What one question came to: the answer, None where there is none, and what was found."""

    answer: Answer | None
    findings: list[Finding]


class _Run:
    def __init__(self, job: Job, cache: ModelCache, blank: JobResult, say: Say, prove: bool):
        self.job, self.cache, self.blank, self.say, self.prove = job, cache, blank, say, prove
        self.timings: dict[str, float] = {}
        self.dequantised: list[Dequantised] = []
        self.engine: Engine
        self.longest: Question
        self.bare: BareRow | None = None
        self.kept: KeptRows | None = None
        self.left_out: list[str] = []

    def result(self, snapshot: SnapshotCheck | None, strict: bool) -> JobResult:
        case = self.job.case
        self.engine = engine_named(self.job.engine, self.job.allow_code)
        self.blank = replace(self.blank, engine_version=self.engine.version)
        metrics = tuple(metric for metric in case.metrics if self.engine.knows(metric))
        if not metrics:
            reason = f"{self.job.engine} knows none of {', '.join(case.metrics)}"
            return replace(self.blank, status=Status.SKIPPED, reason=reason)
        constancy, before = self._timed("load_s", lambda: self.cache.take(self.job.row, self.job.allow_code))
        self.left_out = [*without_metric(case, self.engine, self.job.allow_code)]
        try:
            result, findings = self._answered(constancy, metrics)
            settle_device()
            if not result.curves or result.partial:
                self.left_out += without_answer(case, self.job.engine, self.job.row.id, findings)
            elif lacking := set(metrics) - {curve.metric for curve in result.curves}:
                why = [finding for finding in findings if finding.code == "ANS001"]
                self.left_out += without_answer(case, self.job.engine, self.job.row.id, why, sorted(lacking))
            if any(finding.code == "MOD001" for finding in findings):
                self.cache.discard()
            else:
                findings += self._timed("unchanged_s", lambda: self._unchanged(constancy.model, before))
        except BaseException:
            self.cache.discard()  # nobody compared the model with what it was
            raise
        must, may = case.expectation(self.job.engine)
        findings = self.cache.said_once(self.job.engine, findings, (*must, *may))
        status, marked = judge(findings, must, may, strict)
        if snapshot and self.job.has_snapshot and status is Status.PASSED and result.curves and not result.partial:
            findings += snapshot(self.job, replace(result, status=status, findings=marked))
            status, marked = judge(findings, must, may, strict)
        if result.curves and self.job.guest:
            self.left_out.append(f"{NO_SNAPSHOT}: {self.job.guest}")
        return replace(
            result,
            status=status,
            findings=marked,
            not_compared=tuple(dict.fromkeys(self.left_out)),
            timings=self.timings,
        )

    def _answered(self, constancy: Constancy, metrics: Sequence[str]) -> tuple[JobResult, list[Finding]]:
        case, model = self.job.case, constancy.model
        questions = questions_of(case, model, metrics)
        self.longest = max(questions, key=lambda each: len(each.clean.ids))
        result = replace(self.blank, card=model.card, mean_of=questions[0].mean_of)
        if case.is_averaged:
            result, found = self._averaged(constancy, questions, replace(result, pairs=asked_pairs(questions)))
        else:
            result = replace(result, clean=questions[0].clean, corrupted=questions[0].corrupted)
            upshot = self._asked(constancy, questions[0])
            result = result if upshot.answer is None else _with_answer(result, upshot.answer)
            found = upshot.findings
        return replace(result, dequantised=Dequantised.of_all(self.dequantised)), found

    def _averaged(
        self, constancy: Constancy, questions: Sequence[Question], result: JobResult
    ) -> tuple[JobResult, list[Finding]]:
        """Return what the means over several pairs are, and what was found of them and of the pairs."""
        if uneven := misaligned(questions):
            return result, uneven
        upshots: list[Upshot] = []
        for index, question in enumerate(questions):
            progress.say(f"pair {index + 1} of {len(questions)}")
            with in_pair(index + 1, [each.answer for each in upshots]):
                upshots.append(self._asked(constancy, question, index))
            if any(each.code == "MOD001" for each in upshots[-1].findings):
                return result, upshots[-1].findings  # no number of such a model says anything
        answers = [each.answer for each in upshots]
        found = said_of_pairs([each.findings for each in upshots])
        if not any(answers):
            return result, found
        given = over_pairs(answers)
        result = replace(result, pairs=asked_pairs(questions, answers))
        if given.stopped:
            return _with_answer(result, given), found
        case, model = case_of_means(self.job.case), constancy.model
        evidence = gather(case, model, self.engine, questions[0], given, self.job.allow_code)
        return result.answered(evidence.answer), [*found, *_checked(evidence)]

    def _asked(self, constancy: Constancy, question: Question, index: int = 0) -> Upshot:
        """Ask one question, that of the pair at `index` of the case."""
        case = case_of(self.job.case, index)
        foreign = is_foreign(self.engine, case)
        constancy, said = self._swept(constancy, question, foreign)
        asked, model = ConstancyOfJob(constancy, question, foreign, again=index > 0), constancy.model
        if self._timed("constancy_s", asked.before):
            return Upshot(None, asked.findings)
        if asked.foreign and asked.bare is not None and index == 0:
            self.bare = BareRow(model, question, lambda: questions_of(case, model, question.metrics)[0], asked.bare)
        try:
            if index == 0 and (large := prediction(forecast(model, self.longest))):
                self.say(f"{self.job.id}: {large}")
            with trusting(anew=self.prove):
                sweep = partial(answer, self._keeping(), model, question)
                given = self._timed("sweep_s", lambda: saying(said, sweep))
        except SweepFailed as stop:
            return Upshot(stop.answer, asked.after([*stop.answer.unasked, finding_of(stop.__cause__ or stop)]))
        except KeyboardInterrupt:
            raise
        except Unsupported as error:
            if held := self._held():
                return Upshot(None, [Finding("ATR008", f"{held}, and the engine refuses all of it: {error}")])
            raise
        # Whatever an engine raises is a finding about that engine: `sys.exit` and pytest's `skip` as well.
        except BaseException as error:  # noqa: BLE001
            return Upshot(None, asked.after([finding_of(error)]))
        return self._checked(asked, case, given)

    def _swept(self, own: Constancy, question: Question, foreign: bool) -> tuple[Constancy, Dequantised | None]:
        """Return what the sweep runs on, and what to say of the model's float32 copy."""
        chosen = partial(self.cache.swept, own, self.engine, question, foreign)
        constancy, said = self._timed("dequantise_s", chosen)
        if said is None:
            del self.timings["dequantise_s"]
        else:
            self.dequantised.append(said)
        return constancy, said

    def _keeping(self) -> Engine:
        """Return the engine; where its numbers are arithmetic on logits, rows of its sweep are kept for the laws."""
        if isinstance(self.engine, ForeignEngine) or "laws" not in self.job.case.checks:
            return self.engine
        self.kept = KeptRows(self.engine)
        return self.kept.keeping

    def _checked(self, asked: ConstancyOfJob, case: Case, given: Answer) -> Upshot:
        """Return what the checks make of an answer."""
        model, question = asked.constancy.model, asked.question
        progress.say("checks")
        evidence = self._timed(
            "evidence_s",
            lambda: gather(case, model, self.engine, question, given, self.job.allow_code, asked.bare),
        )
        evidence = replace(evidence, kept=self.kept)
        findings = self._timed("checks_s", lambda: _checked(evidence))
        self.left_out += map(str, given.unanswered)
        refused = (each for each in given.unanswered if each.raised)
        findings += [
            Finding("ATR008", f"{held}, and the engine refuses it: {each.reason}", metric=each.metric)
            for each in refused
            if (held := self._held(each.metric, each.component))
        ]
        found = self._timed("constancy_s", lambda: asked.after([*given.unasked, *findings], evidence))
        return Upshot(evidence.answer, found)

    def _held(self, metric: str | None = None, component: str | None = None) -> str:
        """Return what the case holds of the numbers of a metric and a component, or of any: values, a snapshot."""
        stated = stated_of(self.job.case, self.job.engine, self.job.row.id, metric, component)
        held = [f"expect.{key}" for key in stated]
        # Of a part, the comparison with the snapshot says whether it was there.
        if metric is None and self.job.has_snapshot and place_of(self.job).nearest() is not None:
            held.append("a snapshot")
        return f"the case has {' and '.join(dict.fromkeys(held))}" if held else ""

    def _unchanged(self, model: LoadedModel, before: Fingerprint) -> list[Finding]:
        if not is_foreign(self.engine, self.job.case) and self.cache.looked_at:
            left = before.class_left(classes_of(model.module))
            changed = Finding("LAW005", left) if left else None
        else:
            self.cache.looked_at = True
            changed = change(model, before, self.bare)
        if changed is None and (left := self.cache.copy_left()):
            changed = Finding("LAW005", f"of the float32 copy: {left}")
        if changed is None:
            return []
        self.cache.discard()
        return [changed]

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            return work()
        finally:
            self.timings[name] = round(self.timings.get(name, 0.0) + time.perf_counter() - start, 3)


def place_of(job: Job) -> SnapshotPlace:
    """Return where a job's snapshot on this machine's backend is."""
    return SnapshotPlace(job.case.id, job.case.path, job.name, job.engine, job.row.id, environment().backend)


def _with_answer(result: JobResult, given: Answer) -> JobResult:
    """Return the result with an answer; one that ended early is a part, and says where it ended."""
    if not given.stopped:
        return result.answered(given)
    return replace(result.answered(given), partial=True, reason=f"the sweep ended {given.stopped}")


def _checked(evidence: Evidence) -> list[Finding]:
    asked = (*evidence.case.checks, *ALWAYS_ON)
    return [found for name in asked if name in CHECKS for found in CHECKS[name](evidence)]


def finding_of(error: BaseException) -> Finding:
    """Return what an engine's error says about it; a fault of the harness, the request or the device is raised."""
    refuse_device_failure(error)
    if isinstance(error, FindingError):
        return error.finding
    if isinstance(error, TapError):
        return Finding("LAW004", str(error))
    if isinstance(error, HarnessError):
        raise error
    raised = f"raised {type(error.__cause__ if isinstance(error, CodeRaised) else error).__name__}"
    return Finding("ENG001", described_at(error), evidence={"mistake": raised, "traceback": traceback_of(error)})
