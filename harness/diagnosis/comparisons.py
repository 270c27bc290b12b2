"""Comparisons on demand: the same run compiled, on another device, at other lengths, again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from harness.diagnosis.engine.patched import first_difference
from harness.diagnosis.outcome.nouns import PROVEN, Place, PlacedFinding
from harness.diagnosis.trail.flow import trail
from harness.diagnosis.trail.masks import UNTRACEABLE
from harness.diagnosis.trail.operations import uncompiled
from harness.intercept.observer import NotedCalls, ObservedRun, bare, noted_calls
from harness.intercept.outputs import activation_of
from harness.metrics import summarize
from harness.metrics.tolerances import Work, equal, relative_difference, row_tolerance, same_bits
from harness.models.loaded import LoadedModel
from harness.models.prompt_cache import prompt_cache
from harness.vocabulary.errors import UsageError

Said = tuple[list[PlacedFinding], str]

RUN = "clean"


def run(
    model: LoadedModel,
    ids: Sequence[int],
    *,
    compile: bool,
    device: str | None,
    lengths: tuple[int, int] | None,
    repeat: int,
) -> Iterator[Said]:
    """Yield what each comparison that is asked for found."""
    if repeat > 1:
        yield _repeated(model.module, ids, repeat)
    if compile:
        yield _compiled(model.module, ids)
    if device:
        yield _devices(model.module, ids, device)
    if lengths:
        yield _lengths(model, ids, *lengths)


def _repeated(root: Any, ids: Sequence[int], repeat: int) -> Said:
    first, others = bare(root, ids), [bare(root, ids) for _ in range(repeat - 1)]
    differing = [each for each in others if not same_bits(each.logits, first.logits)]
    if not differing:
        return [], f"{repeat} runs give the same bits"
    module = differing[0].first_call_unlike(first)
    most = max(_apart(first.logits, each.logits) for each in differing)
    text = f"{len(differing)} of {repeat} runs differ from the first, by up to {most:.3g} of the largest logit"
    code = "DIA607" if most <= row_tolerance(Work.OTHER_BATCH, first.logits.dtype) else "DIA604"
    return [_found(code, text, module, differing=len(differing), runs=repeat)], text


def _apart(wanted: mx.array, got: mx.array) -> float:
    return relative_difference(wanted, got, equal_nan=True)


def _compiled(root: Any, ids: Sequence[int]) -> Said:
    with uncompiled():
        eager = bare(root, ids)
    as_is = bare(root, ids)
    if not equal(eager.logits, as_is.logits, Work.OTHER_KERNELS, equal_nan=True):
        module = first_difference(as_is, eager)
        difference = _apart(eager.logits, as_is.logits)
        text = f"the model compiles parts of itself, and differs from eager by {difference:.3g} of the largest logit"
        return [_found("DIA602", text, module, difference=difference)], text
    try:
        whole = compiled(root, ids)
    except (ValueError, RuntimeError, TypeError) as error:
        return [], f"the model cannot be compiled as a whole ({type(error).__name__})"
    if not equal(eager.logits, whole.logits, Work.OTHER_KERNELS, equal_nan=True):
        difference = _apart(eager.logits, whole.logits)
        text = f"compiled as a whole, the model differs from eager by {difference:.3g} of the largest logit"
        return [_found("DIA602", text, first_difference(whole, eager), difference=difference)], text
    return [], "compiled and eager agree"


def _devices(root: Any, ids: Sequence[int], device: str) -> Said:
    kinds = {"cpu": mx.cpu, "gpu": mx.gpu}
    if device not in kinds:
        raise UsageError(f"{device!r} is not a device to compare with; known: cpu, gpu")
    here = bare(root, ids)
    if str(mx.default_device()).startswith(f"Device({device}"):
        return [], f"the run is on the {device} already"
    try:
        with mx.stream(kinds[device]):
            there = bare(root, ids)
    except (RuntimeError, ValueError) as error:
        return [], f"the {device} is not there ({error})"
    if equal(here.logits, there.logits, Work.OTHER_KERNELS, equal_nan=True):
        return [], f"the {device} agrees"
    text = f"the {device} differs by {_apart(here.logits, there.logits):.3g} of the largest logit"
    return [_found("DIA603", text, first_difference(there, here), device=device)], text


def _lengths(model: LoadedModel, ids: Sequence[int], low: int, high: int) -> Said:
    """Bisect to the smallest length that fails, between one that passes and one that does not."""
    if not 1 <= low <= high:
        raise UsageError(f"lengths {low}..{high}: give the shortest and the longest, from 1")
    if reason := _why(model, ids, low):
        return [_too_long(low, reason, model, ids)], f"{low} tokens fail already"
    reason = _why(model, ids, high)
    if not reason:
        return [], f"{low} and {high} tokens pass"
    passes, fails = low, high
    while fails - passes > 1:
        middle = (passes + fails) // 2
        found = _why(model, ids, middle)
        passes, fails, reason = (passes, middle, found) if found else (middle, fails, reason)
    return [_too_long(fails, reason, model, ids)], f"{passes} tokens pass, {fails} fail"


def _too_long(length: int, reason: str, model: LoadedModel, ids: Sequence[int]) -> PlacedFinding:
    module, token = _broken_part(model, _repeated_ids(ids, length))
    found = _found("DIA601", f"the smallest length that fails is {length} tokens: {reason}", module, length=length)
    return replace(found, place=replace(found.place, token=token))


def _why(model: LoadedModel, ids: Sequence[int], length: int) -> str:
    """Return why a prompt of this length fails, or nothing.

    A run that is finite is held against the same prompt read in pieces of 64 tokens through a cache, in which every
    kernel sees a small size.
    """
    prompt = _repeated_ids(ids, length)
    rows = activation_of(model.module(mx.array([prompt])))[0]
    # Without attention nothing carries a fault of an earlier token to the last one.
    found, row = summarize(rows), rows[-1]
    if found.nan or found.pos_inf:
        return found.text()
    pieces = _in_pieces(model, prompt)
    if pieces is None or equal(pieces.logits, row, Work.IN_PIECES, equal_nan=True):
        return ""
    return f"the logits differ by {_apart(pieces.logits, row):.3g} of the largest from the same prompt read in pieces"


def _in_pieces(model: LoadedModel, prompt: Sequence[int], size: int = 64) -> ObservedRun | None:
    """Return the run of the last piece, or None for a model that cannot be read in pieces."""
    if len(prompt) <= 1:
        return None
    try:
        cache, step = prompt_cache(model.module), min(size, max(1, len(prompt) // 2))
        for start in range(0, len(prompt), step):
            last = bare(model.module, prompt[start : start + step], cache=cache)
    except (TypeError, ValueError, AttributeError, IndexError):
        return None
    return last


def _broken_part(model: LoadedModel, prompt: Sequence[int]) -> tuple[str | None, int | None]:
    """Return the first module that is not finite, or differs when read in pieces, and the token where it is."""
    suspect = trail(model.module, prompt, RUN).suspect
    if suspect:
        return suspect.module, (suspect.frame.first or (None, None))[0]
    pieces = _in_pieces(model, prompt)
    return (first_difference(bare(model.module, prompt), pieces, last=True) if pieces else None), len(prompt) - 1


def compiled(root: Any, ids: Sequence[int]) -> ObservedRun:
    """Run the model once, compiled as a whole, with its modules' sizes among the outputs where they can be."""
    noted = NotedCalls()

    def whole(x: mx.array, observe: bool) -> list[mx.array]:
        nonlocal noted
        with noted_calls(root) if observe else nullcontext(NotedCalls()) as noted:
            logits = activation_of(root(x))
        return [logits[0, -1], *noted.sizes]

    for observe in (True, False):
        try:
            row, *sizes = mx.compile(partial(whole, observe=observe))(mx.array([list(ids)]))
            mx.eval(row, sizes)
        except UNTRACEABLE:
            if observe:
                continue  # An array traced inside a module's own mx.compile cannot be returned from it.
            raise
        return ObservedRun(tuple(ids), row, (), noted.read(sizes))
    raise AssertionError("the second attempt returns or raises")


def _repeated_ids(ids: Sequence[int], length: int) -> list[int]:
    return [int(i) for i in np.resize(np.array(list(ids)), length)]


def _found(code: str, text: str, module: str | None, **evidence: Any) -> PlacedFinding:
    place = Place.of_module("comparisons", RUN, module)
    return PlacedFinding.of(
        code, text + (f"; the first part that differs is {module}" if module else ""), place, PROVEN, **evidence
    )
