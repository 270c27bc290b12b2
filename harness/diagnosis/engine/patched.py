"""The patched rung: does the patch fire, in the right dtype, and does the tracing leave the forward pass as it is?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np

from harness import intercept
from harness.diagnosis.causes.cause import cause_of
from harness.diagnosis.engine.asked import Asked, ModuleCall, Pass, bare
from harness.diagnosis.outcome.nouns import PROVEN, SUSPECTED, Observation, Place
from harness.diagnosis.trail.flow import Trail, layer_of, trail
from harness.diagnosis.trail.statistics import host_values
from harness.intercept import HookPoint, Tap, resolve
from harness.metrics.tolerances import Work, equal, relative_difference, row_tolerance
from harness.models.loaded import LoadedModel
from harness.vocabulary import Question, Sweep, Tokens


def alignment(clean: Tokens, corrupted: Tokens) -> Iterator[Observation]:
    """Yield a finding when the prompts differ in length: where they first differ, and both tokenizations."""
    if len(clean.ids) == len(corrupted.ids):
        return
    pairs = zip(clean.ids, corrupted.ids, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(clean.ids), len(corrupted.ids)))
    yield Observation.of(
        "DIA304",
        f"clean is {len(clean.ids)} tokens {_quoted(clean)}, corrupted is {len(corrupted.ids)} {_quoted(corrupted)}; "
        f"they first differ at position {first}, and from there on positions do not correspond",
        Place("patched", "patched", token=first),
        PROVEN,
        clean=len(clean.ids),
        corrupted=len(corrupted.ids),
        first_difference=first,
    )


def about_the_passes(model: LoadedModel, question: Question, asked: Asked) -> list[Observation]:
    """Return what an observed function does to the forward pass: another answer, another dtype, no patch at all."""
    if asked.error is not None:
        return [Observation.of("DIA305", f"{asked.name} raised {asked.error}", Place("patched", "patched"))]
    if not asked.passes:
        return []
    clean, corrupted = bare(model.module, question.clean.ids), bare(model.module, question.corrupted.ids)
    return [
        *_perturbed(asked, clean, "clean"),
        *_dtype_drift(asked, corrupted),
        *_never_fired(asked, question, corrupted),
    ]


def _perturbed(asked: Asked, plain: Pass, run: str) -> Iterator[Observation]:
    """Of the engine's own runs of the clean prompt one must be the bare run."""
    own = [each for each in asked.passes if each.ids == plain.ids]
    if not own or any(equal(plain.logits, each.logits, Work.SAME, equal_nan=True) for each in own):
        return
    first = first_difference(own[0], plain)
    where = f"; the first part that differs is {first}" if first else ""
    difference = relative_difference(plain.logits, own[0].logits, equal_nan=True)
    yield Observation.of(
        "DIA209",
        f"{asked.name}: its run of the {run} prompt differs from the bare one by {100 * difference:.3g} % of the "
        f"largest logit{where}",
        Place("forward", run, first, layer_of(first) if first else None),
        PROVEN,
        engine=asked.name,
        difference=difference,
    )


def _dtype_drift(asked: Asked, plain: Pass) -> Iterator[Observation]:
    wanted = {part.module: part.dtype for part in plain.parts}
    for each in asked.passes:
        for part in each.parts:
            name, dtype = part.module, part.dtype
            if name in wanted and dtype != wanted[name]:
                yield Observation.of(
                    "DIA302",
                    f"{asked.name}: {name} returns {dtype} in one of its runs, {wanted[name]} in the bare model; a "
                    "wider run heals or hides what the model's own dtype does",
                    Place("patched", "patched", name, layer_of(name)),
                    PROVEN,
                    dtype=dtype,
                    bare=wanted[name],
                    engine=asked.name,
                )
                return


def _never_fired(asked: Asked, question: Question, plain: Pass) -> Iterator[Observation]:
    if not asked.cells or question.clean.ids == question.corrupted.ids:
        return
    over = [each for each in asked.passes if each.ids == question.corrupted.ids]
    component = question.sweep.components[0]
    unmoved = [each for each in over if _identical(each.logits, plain.logits)]
    if len(over) > 1 and len(unmoved) == len(over):
        yield Observation.of(
            "DIA301",
            f"{asked.name}: all {len(over)} runs of the corrupted prompt give the unpatched logits bit for bit, so "
            f"nothing that it patches as {component!r} is called",
            Place("patched", "patched", component),
            PROVEN,
            passes=len(over),
            component=component,
            engine=asked.name,
        )


def never_called(model: LoadedModel, question: Question, trail: Trail, reason: str) -> Observation:
    """Return the finding about a component that the model never calls: the first such module."""
    names = {id(module): name for name, module in reversed(list(model.module.named_modules()))}
    called = {frame.module for frame in trail.frames}
    points = [(names.get(id(point.module), ""), point.layer) for point in resolve(model, question.sweep)]
    component = question.sweep.components[0]
    module, layer = next(((name, layer) for name, layer in points if name not in called), (component, None))
    text = f"the patch of {component!r} at {module} cannot fire: {reason}"
    return Observation.of("DIA301", text, Place("patched", "patched", module, layer), PROVEN, component=component)


def only_patched(model: LoadedModel, question: Question, asked: Asked) -> list[Observation]:
    """Return the cause where patched runs are not finite: the trail of the first of them, patch and all."""
    broken = [site for site, row in asked.patched.items() if not row.finite]
    if not broken:
        return []
    site = broken[0]
    point = resolve(model, Sweep((site.component,), (site.layer,)))[0]
    found = patched_trail(model, question, point)
    message = (
        f"{len(broken)} of {len(asked.patched)} patched runs are not finite, both unpatched ones are; first {site}"
    )
    if found.suspect is None:
        place = Place("patched", "patched", str(site.component), site.layer)
        return [Observation.of("DIA303", message, place, SUSPECTED, sites=[str(each) for each in broken])]
    inside = cause_of(model.module, found)
    place = Place(
        "patched", "patched", inside.place.module, inside.place.layer, inside.place.token, inside.place.dimension
    )
    moved = Observation(inside.code, inside.message, place, inside.evidence, inside.confidence, inside.fault)
    told = Observation.of("DIA303", f"{message}: {inside.message}", place, PROVEN, sites=[str(each) for each in broken])
    return [told, moved]


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


def first_difference(one: Pass, other: Pass, last: bool = False) -> str | None:
    """Return the first module whose output differs in size, in the order of execution."""
    calls = by_call(other)
    for key, part in by_call(one).items():
        wanted = calls.get(key)
        if wanted and (part.dtype != wanted.dtype or not _close(*_sizes(part, wanted, last), part.dtype)):
            return part.module
    return None


def _sizes(one: ModuleCall, other: ModuleCall, last: bool) -> tuple[float, float]:
    return (one.last, other.last) if last else (one.size, other.size)


def by_call(each: Pass) -> dict[tuple[str, int], ModuleCall]:
    """Return the parts of a pass by module and by how often it had been called before."""
    found: dict[tuple[str, int], ModuleCall] = {}
    seen: dict[str, int] = {}
    for part in each.parts:
        count = seen[part.module] = seen.get(part.module, 0) + 1
        found[part.module, count] = part
    return found


def _close(one: float, other: float, dtype: str) -> bool:
    if one != one and other != other:
        return True
    return one == other or abs(one - other) <= row_tolerance(Work.SAME, dtype) * max(abs(other), 1e-30)


def _identical(a: mx.array, b: mx.array) -> bool:
    return bool(np.array_equal(host_values(a), host_values(b), equal_nan=True))


def _quoted(tokens: Tokens) -> str:
    return "[" + " ".join(repr(text) for text in tokens.texts) + "]"
