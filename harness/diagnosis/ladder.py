"""The ladder: which rungs there are, in which order, and when to stop climbing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx

from harness.diagnosis import environment as environment_rung
from harness.diagnosis.causes.cause import cause_of
from harness.diagnosis.engine import metric as metric_rung
from harness.diagnosis.engine import patched as patched_rung
from harness.diagnosis.engine import recovery as recovery_rung
from harness.diagnosis.engine.asked import Asked, EngineRaised, ask
from harness.diagnosis.outcome.nouns import RUNGS, Diagnosis, Frame, Observation, Rung
from harness.diagnosis.subject import ModelUnderTest, cast_to, subject_of, tokens_of
from harness.diagnosis.trail.flow import Trail, trail
from harness.diagnosis.trail.forward import hidden, silent_masks, silent_norms
from harness.diagnosis.trail.shadow import Shadow, shadow
from harness.diagnosis.weights import storage
from harness.engines import engine_of
from harness.intercept.hookpoints import layers_with
from harness.models.loaded import LoadedModel
from harness.vocabulary import METRICS, Question, Sweep, Tokens
from harness.vocabulary.errors import HarnessError, TapError, UnknownName, UsageError
from harness.vocabulary.raised import FindingError


@dataclass(frozen=True)
class DiagnosisRequest:
    """What was asked, as `diagnose` was called."""

    model: Any = None
    tokenizer: Any = None
    prompt: Any = None
    clean: Any = None
    corrupted: Any = None
    component: str | None = None
    metric: str | None = None
    engine: Any = "native"
    allow_code: bool = False
    logits: Any = None
    before: Any = None
    dtype: str | None = None
    compare_compile: bool = False
    compare_device: str | None = None
    lengths: tuple[int, int] | None = None
    repeat: int = 1
    progress: Callable[[str, int, int], None] | None = None


def climb(request: DiagnosisRequest) -> Diagnosis:
    """Climb the ladder. Raises UsageError for a request that makes no sense."""
    _refuse(request)
    request = replace(request, engine=engine_of(request.engine, request.allow_code))
    if request.logits is not None:
        from harness.diagnosis.engine.arrays import climb_arrays

        return climb_arrays(request)
    return _Climb(request).diagnosis()


def _refuse(request: DiagnosisRequest) -> None:
    if (request.model is None) == (request.logits is None):
        raise UsageError("give a model, or logits of a clean and a corrupted run, and not both")
    if (request.clean is None) != (request.corrupted is None):
        raise UsageError("clean and corrupted come together; for one prompt alone use `prompt`")
    if request.prompt is not None and request.clean is not None:
        raise UsageError("give `prompt`, or `clean` and `corrupted`, and not both")
    if request.metric is not None and request.metric not in METRICS:
        raise UnknownName("metric", request.metric, METRICS)
    if request.repeat < 1:
        raise UsageError(f"repeat is {request.repeat}; give 1 or more")


@dataclass
class StepReport:
    """The rungs as they are climbed."""

    findings: list[Observation] = field(default_factory=list)
    rungs: dict[str, Rung] = field(default_factory=dict)

    def add(self, rung: str, found: Iterable[Observation], summary: str) -> bool:
        """Note a rung and what it found; return whether one of it is an error."""
        found = list(found)
        self.findings += found
        errors = [each for each in found if each.is_error]
        state = "fault" if errors else "warning" if found else "ok"
        if name := self.rungs.get(rung):
            summary = f"{name.summary}; {summary}"
            state = max(state, name.state, key=("ok", "warning", "fault").index)
        self.rungs[rung] = Rung(rung, state, summary)
        return bool(errors)

    def skip(self, rung: str, reason: str) -> None:
        self.rungs.setdefault(rung, Rung(rung, "skipped", reason))

    def finished(self) -> tuple[Rung, ...]:
        return tuple(self.rungs.get(name, Rung(name, "not reached", "the cause is proven before it")) for name in RUNGS)


class _Climb:
    def __init__(self, request: DiagnosisRequest):
        self.request, self.report = request, StepReport()
        self.subject: ModelUnderTest = subject_of(request.model, request.tokenizer, request.dtype)
        self.frames: list[Frame] = []
        self.about: dict[str, Any] = {"model": self.subject.name, "engine": self.request.engine.name}
        if request.dtype:
            self.about["dtype"] = request.dtype

    def diagnosis(self) -> Diagnosis:
        self._climb()
        return Diagnosis(tuple(self.report.findings), self.report.finished(), tuple(self.frames), self.about)

    def _climb(self) -> None:
        found, facts = environment_rung.examine()
        self.about["versions"] = facts
        self.report.add("environment", found, facts)
        loaded = self._weights()
        # An engine that was named is asked what it makes of a broken model.
        if loaded is None or (self._is_fault("weights") and self.request.engine.is_native):
            return
        with cast_to(loaded.module, self.request.dtype):
            self._runs(loaded)

    def _weights(self) -> LoadedModel | None:
        found = storage.examine(self.subject, self.request.before, self.request.progress)
        self.report.add("weights", found.observations, found.summary)
        if found.loaded is not None:
            card = found.loaded.card
            self.about |= {
                "architecture": card.architecture,
                "dtype": self.request.dtype or card.dtype,
                "layers": card.layers,
                "vocab": card.vocab,
                "quantization": card.quantization,
            }
        return found.loaded

    def _is_fault(self, rung: str) -> bool:
        return self.report.rungs[rung].state == "fault"

    def _runs(self, model: LoadedModel) -> None:
        prompts = self._prompts(model)
        if not prompts:
            for rung in ("forward", "shadow", "patched", "metric", "recovery", "comparisons"):
                self.report.skip(rung, "no prompt was given")
            return
        misaligned = list(patched_rung.alignment(prompts["clean"], prompts["corrupted"])) if len(prompts) > 1 else []
        trails = self._forward(model, prompts)
        broken = self._is_fault("weights") or any(not each.finite or each.suspect for each in trails.values())
        self._shadow(model, trails)
        self._compare(model, prompts)
        if len(prompts) == 1:
            for rung in ("patched", "metric", "recovery"):
                self.report.skip(rung, "one prompt: nothing is patched")
            return
        if self.report.add("patched", misaligned, "prompts of equal length") if misaligned else False:
            return
        if broken and self.request.engine.is_native:
            return
        self._patched(model, prompts, trails, broken)

    def _prompts(self, model: LoadedModel) -> dict[str, Tokens]:
        request = self.request
        named = (
            {"clean": request.prompt}
            if request.clean is None
            else {"clean": request.clean, "corrupted": request.corrupted}
        )
        given = {name: prompt for name, prompt in named.items() if prompt is not None}
        read = {name: tokens_of(model, prompt, name) for name, prompt in given.items()}
        self.about["prompts"] = {name: list(tokens.ids) for name, tokens in read.items()}
        return read

    def _forward(self, model: LoadedModel, prompts: dict[str, Tokens]) -> dict[str, Trail]:
        trails: dict[str, Trail] = {}
        for run, tokens in prompts.items():
            each = trails[run] = _trail(model, tokens, run)
            self.frames += each.frames
            found = []
            if each.suspect is not None:
                found = [cause_of(model.module, each), *hidden(each)]
            else:
                found = [*silent_masks(each), *silent_norms(model.module, each)]
            self.report.add("forward", found, f"{run}: {_forward_summary(each)}")
        return trails

    def _shadow(self, model: LoadedModel, trails: dict[str, Trail]) -> None:
        guilty = next((each for each in trails.values() if each.suspect is not None), None)
        if guilty is None:
            self.report.skip("shadow", "every value of the runs is finite")
            return
        seen: Shadow = shadow(model, guilty)
        self.report.rungs["shadow"] = Rung("shadow", "ok" if seen.ran else "skipped", seen.summary)
        if seen.ran:
            self._tell(guilty.run, seen)

    def _tell(self, run: str, seen: Shadow) -> None:
        """Put what wider runs say beside the cause that they were made for."""
        for i, each in enumerate(self.report.findings):
            if each.place.rung == "forward" and each.place.run == run:
                self.report.findings[i] = replace(each, evidence={**each.evidence, "shadow": seen.evidence()})
                return

    def _compare(self, model: LoadedModel, prompts: dict[str, Tokens]) -> None:
        from harness.diagnosis import comparisons

        request = self.request
        asked = request.compare_compile or request.compare_device or request.lengths or request.repeat > 1
        if not asked:
            self.report.skip("comparisons", "not asked for")
            return
        for found, summary in comparisons.run(
            model,
            prompts["clean"].ids,
            compile=request.compare_compile,
            device=request.compare_device,
            lengths=request.lengths,
            repeat=request.repeat,
        ):
            self.report.add("comparisons", found, summary)

    def _patched(self, model: LoadedModel, prompts: dict[str, Tokens], trails: dict[str, Trail], broken: bool) -> None:
        metric, component = self.request.metric or "l2", self.request.component or _usual(model)
        self.about |= {"metric": metric, "component": component}
        question = Question(prompts["clean"], prompts["corrupted"], Sweep((component,)), (metric,))
        clean, corrupted = trails["clean"].logits[-1], trails["corrupted"].logits[-1]
        asked = self._ask(model, question, trails)
        if asked is None:
            return
        found = patched_rung.about_the_passes(question, asked)
        if not broken and not found:
            found = patched_rung.only_patched(model, question, asked)
        count = len(asked.curve.cells)
        if self.report.add("patched", found, f"{asked.name} patched {component} at {count} layers") and not broken:
            return
        self._metric(model, question, asked, (clean, corrupted), broken)

    def _ask(self, model: LoadedModel, question: Question, trails: dict[str, Trail]) -> Asked | None:
        name = self.request.engine.name
        try:
            return ask(self.request.engine, model, question)
        except EngineRaised as error:
            self.report.add("patched", [patched_rung.engine_raised(name, error)], f"{name} could not patch")
        except TapError as error:
            found = patched_rung.never_called(model, question, trails["corrupted"], str(error))
            self.report.add("patched", [found], f"{name} could not patch")
        except FindingError as error:
            raise UsageError(str(error)) from error
        return None

    def _metric(
        self, model: LoadedModel, question: Question, asked: Asked, ends: tuple[mx.array, mx.array], broken: bool
    ) -> None:
        metric, (clean, corrupted) = question.metrics[0], ends
        if METRICS[metric].needs_answers:
            self.report.skip("metric", f"{metric} reads two logits and sums nothing")
        else:
            found = metric_rung.measured(metric, clean, corrupted)
            wrong: Sequence[Observation] = () if broken else metric_rung.about_the_rows(found)
            wrong = [*wrong, *metric_rung.about_the_formula(found, asked.name, asked.disputed, clean)]
            zero = [each for each in wrong if each.place.rung == "recovery"]
            self.report.add("metric", [each for each in wrong if each not in zero], found.summary)
            if zero:
                self.report.add("recovery", zero, "no baseline")
        found_there = list(recovery_rung.examine(asked))
        if self.request.engine.is_native and not broken and not self.report.findings:
            found_there += recovery_rung.error_bars(model, question, asked)
        self.report.add("recovery", found_there, recovery_rung.summary(asked))


def _trail(model: LoadedModel, tokens: Tokens, run: str) -> Trail:
    """Return the trail of a run. Raises UsageError for a model that cannot run at all."""
    try:
        return trail(model.module, tokens.ids, run)
    except HarnessError:
        raise
    except Exception as error:
        raise UsageError(f"the model cannot run the {run} prompt: {type(error).__name__}: {error}") from error


def _forward_summary(each: Trail) -> str:
    if each.suspect is not None:
        return f"first not finite in {each.suspect.module or 'the model'}"
    rooms = [frame for frame in each.frames if frame.headroom]
    least = min(rooms, key=lambda frame: frame.headroom or 0.0, default=None)
    text = f"{len(each.frames)} modules finite"
    if least:
        text += f", least headroom {least.headroom:.3g} at {least.module or 'the model'} ({least.dtype})"
    if each.suppressed:
        text += f", {len(each.suppressed)} ids ruled out by -inf"
    return text


def _usual(model: LoadedModel) -> str:
    """Return what is patched where nobody says what: a model of mixers alone has no MLP."""
    usual = ("mlp_out", "attn_out", "resid_post")
    return next((component for component in usual if layers_with(model, component)), usual[0])
