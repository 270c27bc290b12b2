"""The patched step: does the patch fire, in the right dtype, and does the tracing leave the forward pass as it is?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import mlx.core as mx
import numpy as np

from harness import intercept
from harness.diagnosis.causes.cause import cause_of
from harness.diagnosis.engine.asked import Asked, EngineRaised
from harness.diagnosis.outcome.nouns import PROVEN, SUSPECTED, Place, PlacedFinding
from harness.diagnosis.trail.flow import Trail, trail
from harness.engines.foreign import ObservedRuns
from harness.intercept import HookPoint, Tap, resolve
from harness.intercept.observer import ModuleCall, ObservedRun
from harness.metrics.host import host_values
from harness.metrics.tolerances import Work, equal, relative_difference, row_tolerance
from harness.models.loaded import LoadedModel
from harness.patching.sweep import misalignment
from harness.vocabulary import Answer, Question, Site, Sweep, Tokens
from harness.vocabulary.errors import traceback_of
from harness.vocabulary.words import number_of


def alignment(clean: Tokens, corrupted: Tokens) -> Iterator[PlacedFinding]:
    """Yield a finding when the prompts differ in length: where they first differ, and both tokenizations."""
    found = misalignment(clean, corrupted)
    if found is not None:
        yield PlacedFinding.of(
            "DIA304",
            f"{found.message}, and from there on positions do not correspond",
            Place("patched", "patched", token=found.evidence["first_difference"]),
            PROVEN,
            **found.evidence,
        )


def engine_raised(error: EngineRaised) -> PlacedFinding:
    """Return the finding about an engine, or a metric, that raised."""
    return PlacedFinding.of("DIA305", str(error), Place("patched", "patched"), traceback=traceback_of(error))


def about_the_passes(question: Question, asked: Asked) -> list[PlacedFinding]:
    """Return what an observed engine does to the forward pass: another answer, another dtype, no patch at all."""
    if asked.runs is None:
        return []
    own, target = asked.runs.own, asked.runs.bare.target
    found = [
        *islice(_perturbed(asked.name, asked.answer, asked.runs, question), 1),
        *_dtype_drift(asked.name, own, target),
        # Where no run is known as a patched one, the engine may make those by itself.
        *(_never_fired(asked.name, question, own, target) if asked.answer.patched else ()),
    ]
    return found or list(islice(_attributed(asked, _ELSEWHERE), 1))


_ELSEWHERE = {"ATR003": PROVEN, "ATR002": PROVEN, "ATR006": SUSPECTED}
"""What is said of an engine's runs where they are not those of the patch."""
_MISSING = {"ATR004": PROVEN}


def missing(asked: Asked) -> list[PlacedFinding]:
    """Return that cells asked for are not in the engine's answer."""
    return list(_attributed(asked, _MISSING))


def _attributed(asked: Asked, codes: Mapping[str, str]) -> Iterator[PlacedFinding]:
    """Yield what is attributed to the engine: other tokens or another place, missing cells, or wrong numbers behind
    which no run was seen."""
    for code, confidence in codes.items():
        for each in (found for found in asked.answer.attribution if found.code == code):
            component, layer = (each.site.component, each.site.layer) if each.site else (asked.curve.component, None)
            yield PlacedFinding.of(
                "DIA306",
                f"{asked.name}: {each.message}",
                Place("patched", "patched", component, layer),
                PROVEN if "mistake" in each.evidence else confidence,
                each.site,
                engine=asked.name,
                **each.evidence,
            )


def _perturbed(name: str, given: Answer, runs: ObservedRuns, question: Question) -> Iterator[PlacedFinding]:
    """Yield the unpatched runs of the engine that differ from the bare ones by more than rounding."""
    for role in (each.evidence["run"] for each in given.attribution if each.code == "ATR001"):
        plain: ObservedRun = getattr(runs.bare, role)
        own = next((each for each in runs.own if each.ids == plain.ids and not _same(plain, each)), None)
        if own is None:
            continue
        prompt = "clean" if plain.ids == question.clean.ids else "corrupted"
        first, difference = first_difference(own, plain), relative_difference(plain.logits, own.logits, equal_nan=True)
        where = f"; the first part that differs is {first}" if first else ""
        yield PlacedFinding.of(
            "DIA209",
            f"{name}: its run of the {prompt} prompt differs from the bare one by {100 * difference:.3g} % of "
            f"the largest logit{where}",
            Place.of_module("forward", prompt, first),
            PROVEN if difference > row_tolerance(Work.OTHER_KERNELS, plain.logits.dtype) else SUSPECTED,
            engine=name,
            difference=difference,
        )


def _same(plain: ObservedRun, own: ObservedRun) -> bool:
    return equal(plain.logits, own.logits, Work.SAME, equal_nan=True)


def _dtype_drift(name: str, runs: Sequence[ObservedRun], plain: ObservedRun) -> Iterator[PlacedFinding]:
    wanted = {call.module: call.dtype for call in plain.calls}
    drifted = (call for run in runs for call in run.calls if call.dtype != wanted.get(call.module, call.dtype))
    for call in islice(drifted, 1):
        bare = wanted[call.module]
        yield PlacedFinding.of(
            "DIA302",
            f"{name}: {call.module} returns {call.dtype} in one of its runs, {bare} in the bare model; a "
            "wider run heals or hides what the model's own dtype does",
            Place.of_module("patched", "patched", call.module),
            PROVEN,
            dtype=call.dtype,
            bare=bare,
            engine=name,
        )


def _never_fired(
    name: str, question: Question, runs: Sequence[ObservedRun], plain: ObservedRun
) -> Iterator[PlacedFinding]:
    if question.clean.ids == question.corrupted.ids:
        return
    over = [each for each in runs if each.ids == plain.ids]
    component = question.sweep.components[0]
    unmoved = [each for each in over if _identical(each.logits, plain.logits)]
    if len(over) > 1 and len(unmoved) == len(over):
        yield PlacedFinding.of(
            "DIA301",
            f"{name}: all {number_of(len(over), 'run')} of the corrupted prompt give the unpatched "
            "logits bit for bit, so "
            f"nothing that it patches as {component!r} is called",
            Place("patched", "patched", component),
            PROVEN,
            passes=len(over),
            component=component,
            engine=name,
        )


def never_called(model: LoadedModel, question: Question, trail: Trail, reason: str) -> PlacedFinding:
    """Return the finding about a component that the model never calls: the first such module."""
    names = {id(module): name for name, module in reversed(list(model.module.named_modules()))}
    called = {frame.module for frame in trail.frames}
    points = [(names.get(id(point.module), ""), point.layer) for point in resolve(model, question.sweep)]
    component = question.sweep.components[0]
    module, layer = next(((name, layer) for name, layer in points if name not in called), (component, None))
    text = f"the patch of {component!r} at {module} cannot fire: {reason}"
    site = None if layer is None else Site(component, layer)
    return PlacedFinding.of(
        "DIA301", text, Place("patched", "patched", module, layer), PROVEN, site, component=component
    )


def only_patched(model: LoadedModel, question: Question, asked: Asked) -> list[PlacedFinding]:
    """Return the cause where patched runs are not finite: the trail of the first of them, patch and all."""
    patched = asked.answer.patched
    broken = [site for site, row in patched.items() if not row.finite]
    if not broken:
        return []
    site = broken[0]
    point = resolve(model, Sweep((site.component,), (site.layer,)))[0]
    found = patched_trail(model, question, point)
    message = f"{len(broken)} of {len(patched)} patched runs are not finite, both unpatched ones are; first {site}"
    if found.suspect is None:
        place = Place("patched", "patched", str(site.component), site.layer)
        return [PlacedFinding.of("DIA303", message, place, SUSPECTED, site, sites=[str(each) for each in broken])]
    inside = cause_of(model.module, found)
    place = replace(inside.place, step="patched", run="patched")
    told = PlacedFinding.of(
        "DIA303", f"{message}: {inside.message}", place, PROVEN, site, sites=[str(each) for each in broken]
    )
    return [told, replace(inside, place=place)]


def patched_trail(model: LoadedModel, question: Question, point: HookPoint) -> Trail:
    """Return the trail of the corrupted run with the clean activation of one hook point put in."""
    _, recording = intercept.record(model, question.clean.ids, [point])

    def taps() -> list[Tap]:
        values = list(recording[point])

        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            put = mx.array(values.pop(0))
            if point.is_input:
                return call(put, *args[1:], **kwargs)
            out = call(*args, **kwargs)
            return (put, *out[1:]) if isinstance(out, tuple) else put

        return [Tap(point.module, handler)]

    return trail(model.module, question.corrupted.ids, "patched", taps)


def first_difference(one: ObservedRun, other: ObservedRun, last: bool = False) -> str | None:
    """Return the first module whose output differs in size, in the order of execution."""
    calls = other.by_call()
    for key, call in one.by_call().items():
        wanted = calls.get(key)
        if wanted and (call.dtype != wanted.dtype or not _close(*_sizes(call, wanted, last), call.dtype)):
            return call.module
    return None


def _sizes(one: ModuleCall, other: ModuleCall, last: bool) -> tuple[float, float]:
    return (one.last, other.last) if last else (one.size, other.size)


def _close(one: float, other: float, dtype: str) -> bool:
    if one != one and other != other:
        return True
    return one == other or abs(one - other) <= row_tolerance(Work.SAME, dtype) * max(abs(other), 1e-30)


def _identical(a: mx.array, b: mx.array) -> bool:
    return bool(np.array_equal(host_values(a), host_values(b), equal_nan=True))
