"""The steps of a diagnosis: the question of each, the order in which they are asked, and when to stop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np

from harness.diagnosis import comparisons, reference
from harness.diagnosis import environment as environment_step
from harness.diagnosis.causes.cause import cause_of
from harness.diagnosis.causes.hidden import hidden
from harness.diagnosis.constancy import placed
from harness.diagnosis.engine import metric as metric_step
from harness.diagnosis.engine import patched as patched_step
from harness.diagnosis.engine import recovery as recovery_step
from harness.diagnosis.engine.arrays import diagnose_logits
from harness.diagnosis.engine.asked import Asked, EngineRaised, ask
from harness.diagnosis.outcome.diagnosis import Diagnosis, StepLog
from harness.diagnosis.outcome.nouns import Frame, Place, PlacedFinding
from harness.diagnosis.subject import ModelUnderTest, answers_of, cast_to, subject_of, tokens_of
from harness.diagnosis.trail.drift import drifting
from harness.diagnosis.trail.flow import Trail, trail
from harness.diagnosis.trail.forward import silent_masks, silent_norms
from harness.diagnosis.trail.shadow import shadow
from harness.diagnosis.weights import storage
from harness.engines import engine_of
from harness.intercept import forward
from harness.intercept.constancy import Constancy, another
from harness.intercept.hookpoints import layers_with
from harness.intercept.observer import watched
from harness.metrics import function
from harness.metrics.host import host_values
from harness.models.loaded import LoadedModel
from harness.models.padded import said_of, zero_row
from harness.vocabulary import (
    COMPONENTS,
    METRICS,
    Direction,
    Positions,
    Question,
    Sweep,
    Tokens,
    code_refusal,
    is_code,
    metric_named,
)
from harness.vocabulary.errors import HarnessError, TapError, UsageError, described
from harness.vocabulary.raised import FindingError, refuse_device_failure, suppressed
from harness.vocabulary.words import number_of


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
    answers: tuple[Any, Any] | None = None
    logits: Any = None
    before: Any = None
    dtype: str | None = None
    compare_compile: bool = False
    compare_device: str | None = None
    lengths: tuple[int, int] | None = None
    repeat: int = 1
    reference: str | None = None
    progress: Callable[[str, int, int], None] | None = None


def diagnosed(request: DiagnosisRequest) -> Diagnosis:
    """Take the steps until one ends the diagnosis. Raises UsageError for a request that makes no sense."""
    _refuse(request)
    request = replace(request, engine=engine_of(request.engine, request.allow_code))
    if request.logits is not None:
        clean, corrupted = request.logits
        return diagnose_logits(clean, corrupted, request.metric or "l2", request.answers)
    so_far = Examination(request, subject_of(request.model, request.tokenizer, request.dtype))
    with so_far.until_the_end:
        for step in STEPS:
            so_far.progress(step.name, 0, 0)
            if not step.take(so_far):
                break
    return so_far.log.finished(so_far.frames, so_far.about)


def _refuse(request: DiagnosisRequest) -> None:
    if (request.model is None) == (request.logits is None):
        raise UsageError("give a model, or logits of a clean and a corrupted run, and not both")
    if request.logits is not None and any(each is not None for each in (request.prompt, request.clean, request.before)):
        raise UsageError("logits are measured as they are; prompts and `before` are for a model")
    if (request.clean is None) != (request.corrupted is None):
        raise UsageError("clean and corrupted come together; for one prompt alone use `prompt`")
    if request.prompt is not None and request.clean is not None:
        raise UsageError("give `prompt`, or `clean` and `corrupted`, and not both")
    if request.metric is not None and metric_named(request.metric) and is_code(request.metric):
        if not request.allow_code:
            raise UsageError(code_refusal("metric", request.metric, "allow_code=True"))
        function.load(request.metric)  # what cannot be imported is said before a model is loaded
    if request.answers is not None and request.clean is None and request.logits is None:
        raise UsageError("answers stand after two prompts; give `clean` and `corrupted`")
    if request.repeat < 1:
        raise UsageError(f"repeat is {request.repeat}; give 1 or more")


class Examination:
    """What a diagnosis knows so far. Each step reads it, and adds what the later ones need."""

    prompts: dict[str, Tokens]
    trails: dict[str, Trail]
    question: Question
    asked: Asked
    without_prompt = ""

    def __init__(self, request: DiagnosisRequest, subject: ModelUnderTest):
        self.request, self.subject = request, subject
        self.log, self.frames, self.until_the_end = StepLog(), list[Frame](), ExitStack()
        self.about: dict[str, Any] = {"model": subject.name, "engine": request.engine.name}
        if request.dtype:
            self.about["dtype"] = request.dtype

    @property
    def model(self) -> LoadedModel:
        return self.subject.load()

    def progress(self, what: str, done: int, total: int) -> None:
        """Tell whoever waits how far a phase is; of 0 where nobody knows how many there are."""
        if self.request.progress:
            self.request.progress(what, done, total)

    @property
    def is_native(self) -> bool:
        """Whether no other engine is asked what it makes of a broken model."""
        return bool(self.request.engine.is_native)

    @property
    def broken(self) -> bool:
        """Whether the model or one of its own runs is not sound."""
        runs = self.trails.values()
        return self.log.is_fault("weights") or any(not each.finite or each.suspect for each in runs)


def _environment(so_far: Examination) -> bool:
    found, so_far.about["versions"], detectors = environment_step.examine()
    so_far.log.add("environment", found, detectors)
    return True


def _weights(so_far: Examination) -> bool:
    found = storage.examine(so_far.subject, so_far.request.before, so_far.request.progress)
    so_far.log.add("weights", found.findings, found.summary)
    if found.loaded is None:
        return False
    card, dtype = found.loaded.card, so_far.request.dtype
    so_far.about |= {
        "architecture": card.architecture,
        "dtype": dtype or card.dtype,
        "layers": card.layers,
        "vocab": card.vocab,
        "quantization": card.quantization,
    }
    if so_far.is_native and so_far.log.is_fault("weights"):
        return False
    so_far.until_the_end.enter_context(cast_to(found.loaded.module, dtype))
    return True


def _forward(so_far: Examination) -> bool:
    so_far.prompts = _prompts(so_far)
    constancy = Constancy(so_far.model)
    so_far.trails = {}
    for number, (run, tokens) in enumerate(so_far.prompts.items(), 1):
        so_far.trails[run] = _trail(so_far.model, tokens, run)
        so_far.progress("forward pass", number, len(so_far.prompts))
    _run_another(so_far)
    again: dict[str, mx.array] = {}
    said = {run: _about_the_run(so_far, each, again) for run, each in so_far.trails.items()}
    if _is_inconstant(so_far, constancy, again.get("clean")):
        return False
    seen: dict[str, list[str]] = {}
    for run, each in so_far.trails.items():
        so_far.frames += each.frames
        seen.setdefault(_forward_summary(each), []).append(run)
    summary = "; ".join(f"{' and '.join(runs)}: {text}" for text, runs in seen.items())
    so_far.log.add("forward", itertools.chain.from_iterable(said.values()), summary + so_far.without_prompt)
    if padded := list(_padded(so_far)):
        so_far.log.add("forward", padded, "a padded id wins")
    if dropped := reference.ignored(so_far.model, max(len(tokens.ids) for tokens in so_far.prompts.values())):
        so_far.log.add("forward", dropped, f"of config.json is ignored: {', '.join(map(_key, dropped))}")
    return True


def _padded(so_far: Examination) -> Iterator[PlacedFinding]:
    """Yield the runs whose largest logit is that of a row of zeros."""
    for run, each in so_far.trails.items():
        token = int(np.argmax(host_values(each.logits[-1]))) if each.finite else 0
        head = zero_row(so_far.model.module, token) if each.finite else None
        if head:
            place = Place.of_module("forward", run, head, len(each.ids) - 1, token)
            yield PlacedFinding.of(
                "DIA223", f"the {run} run prefers token {token}{said_of(so_far.model.module, token)}", place
            )


def _key(found: PlacedFinding) -> str:
    return str(found.evidence["key"])


def _about_the_run(so_far: Examination, each: Trail, again: dict[str, mx.array]) -> list[PlacedFinding]:
    """Return what is wrong with a run; `again` gets the logits of its repetition, where one is made for that."""
    root, earlier = so_far.model.module, [other for other in so_far.trails.values() if other is not each]
    if each.suspect is not None:
        return [cause_of(root, each, earlier), *hidden(root, each)]
    with watched(root) as watch:
        norms = silent_norms(root, each)
    again.update((each.run, run.logits) for run in watch.seen if run.ids == each.ids)
    return [*silent_masks(each), *norms, *drifting(each, so_far.request.dtype)]


def _other_ids(so_far: Examination) -> Sequence[int]:
    other = so_far.trails.get("corrupted")
    return another(so_far.trails["clean"].ids) if other is None else other.ids


def _run_another(so_far: Examination) -> None:
    """Run a prompt between two runs of the one that is asked, where there is none yet."""
    if "corrupted" not in so_far.trails:
        with suppressed():  # whether it can be run is no question of the prompt that is asked
            forward(so_far.model, _other_ids(so_far))


def _is_inconstant(so_far: Examination, constancy: Constancy, again: mx.array | None) -> bool:
    """Note what a model that is asked A, B, A answers to A the second time; return whether that is the model's fault.

    A run that looked for norms is the second A, so that it costs nothing; with one prompt, B is made of it.
    """
    first = so_far.trails["clean"]
    found = constancy.judged(first.logits[-1], first.ids, _other_ids(so_far), again, watched=True)
    if found is None:
        return False
    so_far.frames += first.frames
    seen = placed(found, "clean")
    return so_far.log.add(seen.place.step, [seen], "A, B, A: two answers to the clean prompt")


_SOME_IDS = 4
"""Ids that are run where no prompt is given: a model that answers only NaN does so to any."""


def _prompts(so_far: Examination) -> dict[str, Tokens]:
    request = so_far.request
    named = {"clean": request.prompt if request.clean is None else request.clean, "corrupted": request.corrupted}
    given = {name: prompt for name, prompt in named.items() if prompt is not None}
    if not given:
        some = tuple(range(min(_SOME_IDS, so_far.model.card.vocab)))
        given, so_far.without_prompt = {"clean": some}, f"; no prompt was given: token ids {list(some)} were run"
    read = {name: tokens_of(so_far.model, prompt, name) for name, prompt in given.items()}
    so_far.about["prompts"] = {name: list(tokens.ids) for name, tokens in read.items()}
    return read


def _shadow(so_far: Examination) -> bool:
    guilty = next((each for each in so_far.trails.values() if each.suspect is not None), None)
    if guilty is None:
        so_far.log.skip("every value of the runs is finite", "shadow")
        return True
    seen = shadow(so_far.model, guilty, so_far.progress)
    if not seen.ran:
        so_far.log.skip(seen.summary, "shadow")
        return True
    so_far.log.add("shadow", (), seen.summary)
    # What wider runs say belongs to the cause that they were made for.
    findings = so_far.log.findings
    for i, each in enumerate(findings):
        if each.place.step == "forward" and each.place.run == guilty.run:
            findings[i] = replace(each, evidence={**each.evidence, "shadow": seen.evidence()})
            break
    return True


def _comparisons(so_far: Examination) -> bool:
    request = so_far.request
    asked = request.compare_compile or request.compare_device or request.lengths or request.reference
    if not (asked or request.repeat > 1):
        so_far.log.skip("not asked for", "comparisons")
        return True
    if request.reference:
        ids = so_far.prompts["clean"].ids
        so_far.log.add("comparisons", *reference.against(so_far.model, ids, request.reference, comparisons.RUN))
    for found, summary in comparisons.run(
        so_far.model,
        so_far.prompts["clean"].ids,
        compile=request.compare_compile,
        device=request.compare_device,
        lengths=request.lengths,
        repeat=request.repeat,
    ):
        so_far.log.add("comparisons", found, summary)
    return True


def _patched(so_far: Examination) -> bool:
    log, prompts = so_far.log, so_far.prompts
    if len(prompts) == 1:
        log.skip("one prompt: nothing is patched", "patched", "metric", "recovery")
        return False
    if misaligned := list(patched_step.alignment(prompts["clean"], prompts["corrupted"])):
        log.add("patched", misaligned, "prompts of equal length")
        return False
    if so_far.is_native and so_far.broken:
        return False
    question = _usual(so_far.request, so_far.model, prompts["clean"], prompts["corrupted"])
    answers = answers_of(so_far.model, so_far.request.clean, so_far.request.corrupted, so_far.request.answers)
    question = so_far.question = replace(question, answers=answers)
    (component,) = question.sweep.components
    so_far.about |= {"metric": question.metrics[0], "component": component}
    so_far.progress(f"patching of {component}", 0, 1)
    asked = _ask(so_far)
    so_far.progress(f"patching of {component}", 1, 1)
    if asked is None:
        return False
    so_far.asked = asked
    found = patched_step.about_the_passes(so_far.question, asked)
    if not so_far.broken and not found:
        found = patched_step.only_patched(so_far.model, so_far.question, asked)
    summary = f"{asked.name} patched {component} at {number_of(len(asked.curve.cells), 'layer')}"
    return not log.add("patched", found, summary) or so_far.broken


def _ask(so_far: Examination) -> Asked | None:
    engine, model, question = so_far.request.engine, so_far.model, so_far.question
    try:
        return ask(engine, model, question)
    except EngineRaised as error:
        found = patched_step.engine_raised(error)
        so_far.log.add("patched", [found], f"{engine.name} could not patch")
    except TapError as error:
        found = patched_step.never_called(model, question, so_far.trails["corrupted"], str(error))
        so_far.log.add("patched", [found], f"{engine.name} could not patch")
    except FindingError as error:
        raise UsageError(str(error)) from error
    return None


def _metric(so_far: Examination) -> bool:
    metric, asked = so_far.question.metrics[0], so_far.asked
    clean, corrupted = (so_far.trails[run].logits[-1] for run in ("clean", "corrupted"))
    found = metric_step.measured(metric, clean, corrupted, asked.answer.answers)
    about_the_rows = [] if so_far.broken else metric_step.about_the_rows(found)
    # The engine's formula is held against its own logits: by rounding alone they may differ from those of the trail.
    own = replace(found, true=asked.curve.oracle_baseline)
    formula = metric_step.about_the_formula(own, asked.name, asked.disputed, clean, asked.mistake)
    if not so_far.broken:
        formula = formula or metric_step.about_the_recoveries(found, asked, asked.mistake)
    wrong = [*about_the_rows, *formula]
    zero = [each for each in wrong if each.place.step == "recovery"]
    if metric_named(metric).needs_answers and not formula:
        so_far.log.skip(f"{metric} reads two logits and sums nothing", "metric")
    else:
        so_far.log.add("metric", [each for each in wrong if each not in zero], found.summary)
    if zero:
        so_far.log.add("recovery", zero, "no baseline")
    return True


def _recovery(so_far: Examination) -> bool:
    asked = so_far.asked
    found = [*patched_step.missing(asked), *recovery_step.examine(asked)]
    found += recovery_step.wide_bars(so_far.question, asked)
    if so_far.is_native and not so_far.broken and not so_far.log.findings and not found:
        found += recovery_step.error_bars(so_far.model, so_far.question, asked)
    cells = asked.curve.cells
    sound = not cells or any(cell.recovery.finite for cell in cells)
    so_far.log.add("recovery", found, recovery_step.summary(asked), sound)
    return True


@dataclass(frozen=True)
class Step:
    """One step: `take` examines the model further and returns whether a later step can still learn anything."""

    name: str
    question: str
    take: Callable[[Examination], bool]


STEPS = (
    Step("environment", "can this build be believed at all?", _environment),
    Step("weights", "is every stored number a number?", _weights),
    Step("forward", "where in the clean and the corrupted run does the first non-finite value appear?", _forward),
    Step("shadow", "is it the dtype's range, or does float32 see it as well?", _shadow),
    Step("comparisons", "does the answer depend on compiling, the device, the length, the repetition?", _comparisons),
    Step("patched", "does the patch fire, in the right dtype, and does only the patched run break?", _patched),
    Step("metric", "does the engine's number follow from its own logits?", _metric),
    Step("recovery", "does a recovery exist, or does a guard hide that none does?", _recovery),
)
"""The steps in the order in which they are taken, cheapest and most basic first."""


def _trail(model: LoadedModel, tokens: Tokens, run: str) -> Trail:
    """Return the trail of a run. Raises UsageError for a model that cannot run at all."""
    try:
        return trail(model.module, tokens.ids, run)
    except HarnessError:
        raise
    except Exception as error:
        refuse_device_failure(error)
        raise UsageError(f"the model cannot run the {run} prompt: {described(error)}") from error


def _forward_summary(each: Trail) -> str:
    if each.suspect is not None:
        return f"first not finite in {each.suspect.module or 'the model'}"
    rooms = [frame for frame in each.frames if frame.headroom]
    least = min(rooms, key=lambda frame: frame.headroom or 0.0, default=None)
    text = f"{number_of(len(each.frames), 'module')} finite"
    if least:
        text += f", least headroom {least.headroom:.3g} at {least.module or 'the model'} ({least.dtype})"
    if each.suppressed:
        text += f", {number_of(len(each.suppressed), 'id')} ruled out by -inf"
    return text


def _usual(request: DiagnosisRequest, model: LoadedModel, clean: Tokens, corrupted: Tokens) -> Question:
    """Return what the engine is asked where the request leaves it open: what is usual, of what the engine does."""
    engine = request.engine
    metric = request.metric or next(name for name in (*METRICS, *engine.metrics) if engine.knows(name))
    components = [request.component] if request.component else _components(model)
    positions: list[Positions] = ["all", "last", (len(clean.ids) - 1,), "each"]
    sweeps = [
        Sweep((component,), None, direction, at)
        for direction, at in itertools.product(Direction, positions)
        for component in components
    ]
    sweep = next((each for each in sweeps if not engine.cannot(model, each)), sweeps[0])
    return Question(clean, corrupted, sweep, (metric,))


def _components(model: LoadedModel) -> list[str]:
    """Return what is patched where nobody says what, the usual first: a model of mixers alone has no MLP."""
    every = dict.fromkeys(("mlp_out", "attn_out", "resid_post", *COMPONENTS))
    return [component for component in every if layers_with(model, component)] or ["mlp_out"]
