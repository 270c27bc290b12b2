"""Comparisons on demand: the same run compiled, on another device, at other lengths, again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from harness.diagnosis.engine.patched import first_difference
from harness.diagnosis.engine.recovery import can_be_widened
from harness.diagnosis.outcome.nouns import PROVEN, SUSPECTED, Place, PlacedFinding
from harness.diagnosis.subject import cast_to
from harness.diagnosis.trail.flow import trail
from harness.diagnosis.trail.masks import UNTRACEABLE
from harness.diagnosis.trail.operations import uncompiled
from harness.intercept import Tap, tapped
from harness.intercept.observer import NotedCalls, ObservedRun, bare, noted_calls
from harness.intercept.outputs import activation_of
from harness.metrics import summarize
from harness.metrics.host import host_row
from harness.metrics.tolerances import BEYOND, Work, equal, relative_difference, row_tolerance, same_bits
from harness.models.loaded import LoadedModel
from harness.models.prompt_cache import prompt_cache
from harness.vocabulary import ModelCard
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
        yield _compiled(model, ids)
    if device:
        yield _devices(model, ids, device)
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


def _compiled(model: LoadedModel, ids: Sequence[int]) -> Said:
    root, card = model.module, model.card
    with uncompiled():
        eager = bare(root, ids)
    as_is = bare(root, ids)
    if not equal(eager.logits, as_is.logits, Work.OTHER_KERNELS, equal_nan=True, card=card):
        module = first_difference(as_is, eager)
        difference = _apart(eager.logits, as_is.logits)
        text = f"the model compiles parts of itself, and differs from eager by {difference:.3g} of the largest logit"
        return [_by_kernel("DIA602", text, module, difference, eager, card)], text
    try:
        whole = compiled(root, ids)
    except (ValueError, RuntimeError, TypeError) as error:
        return [], f"the model cannot be compiled as a whole ({type(error).__name__})"
    if not equal(eager.logits, whole.logits, Work.OTHER_KERNELS, equal_nan=True, card=card):
        difference = _apart(eager.logits, whole.logits)
        text = f"compiled as a whole, the model differs from eager by {difference:.3g} of the largest logit"
        return [_by_kernel("DIA602", text, first_difference(whole, eager), difference, eager, card)], text
    return [], "compiled and eager agree"


def _devices(model: LoadedModel, ids: Sequence[int], device: str) -> Said:
    root, card = model.module, model.card
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
    if equal(here.logits, there.logits, Work.OTHER_KERNELS, equal_nan=True, card=card):
        return [], f"the {device} agrees"
    difference = _apart(here.logits, there.logits)
    text = f"the {device} differs by {difference:.3g} of the largest logit"
    return [_by_kernel("DIA603", text, first_difference(there, here), difference, here, card, device=device)], text


def _lengths(model: LoadedModel, ids: Sequence[int], low: int, high: int) -> Said:
    """Bisect to the smallest length that fails, between one that passes and one that does not."""
    if not 1 <= low <= high:
        raise UsageError(f"lengths {low}..{high}: give the shortest and the longest, from 1")
    pieces = ReadInPieces(model, ids)
    found = _smallest(pieces, low, high)
    if not found:
        return [], f"{low} and {high} tokens pass{pieces.without}"
    # The halves differ by up to a fifth in what is the same: where float32 fails as well, it says from which length on.
    if can_be_widened(model):
        with cast_to(model.module, "float32"):
            if wide := _smallest(pieces, low, found[0]):
                return [_too_long(*wide, pieces)], _passes(low, wide[0])
    return [_too_long(*found, pieces)], _passes(low, found[0])


def _passes(low: int, fails: int) -> str:
    return f"{low} tokens fail already" if fails == low else f"{fails - 1} tokens pass, {fails} fail"


def _smallest(pieces: ReadInPieces, low: int, high: int) -> tuple[int, str] | None:
    """Return the smallest length that fails and why, found by bisection, or None where the longest passes."""
    if reason := pieces.why(low):
        return low, reason
    reason = pieces.why(high)
    if not reason:
        return None
    passes, fails = low, high
    while fails - passes > 1:
        middle = (passes + fails) // 2
        found = pieces.why(middle)
        passes, fails, reason = (passes, middle, found) if found else (middle, fails, reason)
    return fails, reason


def _too_long(length: int, reason: str, pieces: ReadInPieces) -> PlacedFinding:
    """Return what is wrong from this length on: a kernel, the way through the cache, or a mask.

    A kernel is proven wrong where the module that differs first returns something else for the last token alone.
    """
    module, token = pieces.broken_part(length)
    alone = pieces.differs_alone(length, module)
    text = f"the smallest length that fails is {length} tokens: {reason}"
    if pieces.is_finite(length) and not alone:
        if module and alone is False:
            module = module.rpartition(".")[0]  # it is right, so what its parent gives it is not
        if length - 1 in pieces.windows:
            return _disagree(length, reason, module, token, _MASK.format(window=length - 1), PROVEN)
        if pieces.a_cache_changes(length):
            return _disagree(length, reason, module, token, _FRESH, PROVEN)
        if length == 2:
            return _disagree(length, reason, module, token, _CACHE, PROVEN)
        return _placed(
            "DIA601", f"{text}, which nothing shows to be a kernel's", module, token, SUSPECTED, length=length
        )
    if not pieces.is_finite(length) and not pieces.is_finite(length, whole=False):
        remedy = "the same tokens fail in pieces as well, so it is what they are and not how many: diagnose this prompt"
        return _placed("DIA601", text, module, token, SUSPECTED, length=length, remedy=remedy)
    return _placed("DIA601", text, module, token, PROVEN, length=length)


_CACHE = "from the second token on, so the way through the cache is wrong, and not the whole run that is patched"
_FRESH = "and an empty cache alone changes the whole run: without a cache the model computes something else"
_MASK = "one token past the window of {window}, so the two ways mask otherwise"


def _disagree(length: int, reason: str, module: str | None, token: int, why: str, how: str) -> PlacedFinding:
    remedy = {_CACHE: "look at the keys, offsets and state that a cache keeps", _FRESH: "run the model with a cache"}
    shown = remedy.get(why, "compare the masks of the two ways at this length")
    return _placed("DIA606", f"{reason}, {why}", module, token, how, length=length, remedy=f"{shown}; report it")


def _placed(code: str, text: str, module: str | None, token: int | None, how: str, **evidence: Any) -> PlacedFinding:
    found = _found(code, text, module, **evidence)
    return replace(found, place=replace(found.place, token=token), confidence=how)


class ReadInPieces:
    """A prompt of any length, whole and read in pieces through a cache, in which every kernel sees a small size."""

    def __init__(self, model: LoadedModel, ids: Sequence[int]):
        self.model, self.ids = model, ids
        self.ignored = self._ignores_cache()

    @property
    def without(self) -> str:
        return "; the model ignores `cache`, so nothing was read in pieces" if self.ignored else ""

    @property
    def windows(self) -> set[int]:
        """The lengths after which attention forgets, as the configuration and the caches name them."""
        root = self.model.module
        owners = [each for each in (getattr(root, "args", None), *root.modules(), *self._cache()) if each is not None]
        named = [vars(owner) | (dict(owner) if isinstance(owner, dict) else {}) for owner in owners]
        return {
            value
            for each in named
            for name, value in each.items()
            if type(value) is int and ("window" in name or "chunk" in name or name == "max_size")
        }

    def _cache(self) -> list[Any]:
        try:
            return list(prompt_cache(self.model.module))
        except (TypeError, ValueError, AttributeError, IndexError):
            return []

    def why(self, length: int) -> str:
        """Return why a prompt of this length fails, or nothing."""
        prompt = _repeated_ids(self.ids, length)
        rows = activation_of(self.model.module(mx.array([prompt])))[0]
        # Without attention nothing carries a fault of an earlier token to the last one.
        found, row = summarize(rows), rows[-1]
        if found.nan or found.pos_inf:
            return found.text()
        pieces = self.last_piece(prompt)
        if pieces is None or equal(pieces.logits, row, Work.IN_PIECES, equal_nan=True):
            return ""
        apart = _apart(pieces.logits, row)
        return f"the logits differ by {apart:.3g} of the largest from the same prompt read in pieces"

    def is_finite(self, length: int, whole: bool = True) -> bool:
        prompt = _repeated_ids(self.ids, length)
        if whole:
            found = summarize(activation_of(self.model.module(mx.array([prompt])))[0])
            return not (found.nan or found.pos_inf)
        pieces = self.last_piece(prompt)
        return pieces is None or not (np.isnan(host_row(pieces.logits)).any())

    def last_piece(self, prompt: Sequence[int], size: int = 64) -> ObservedRun | None:
        """Return the run of the last token, which is a piece of its own; None for a model that cannot be read so."""
        if len(prompt) <= 1 or self.ignored:
            return None
        step = min(size, max(1, len(prompt) // 2))
        try:
            cache = prompt_cache(self.model.module)
            for start in range(0, len(prompt) - 1, step):
                bare(self.model.module, prompt[start : min(start + step, len(prompt) - 1)], cache=cache)
            return bare(self.model.module, prompt[-1:], cache=cache)
        except (TypeError, ValueError, AttributeError, IndexError):
            return None

    def a_cache_changes(self, length: int) -> bool:
        """Whether the whole prompt gives other logits with an empty cache than without any."""
        prompt = _repeated_ids(self.ids, length)
        try:
            fresh = bare(self.model.module, prompt, cache=prompt_cache(self.model.module))
        except (TypeError, ValueError, AttributeError, IndexError):
            return False
        return not equal(fresh.logits, bare(self.model.module, prompt).logits, Work.IN_PIECES, equal_nan=True)

    def _ignores_cache(self) -> bool:
        """Whether a token after others gives the bits that it gives alone, cache or not."""
        first, second = _repeated_ids(self.ids, 1), _repeated_ids(self.ids, 2)[1:]
        try:
            cache = prompt_cache(self.model.module)
            bare(self.model.module, first, cache=cache)
            after = bare(self.model.module, second, cache=cache)
        except (TypeError, ValueError, AttributeError, IndexError):
            return False
        return same_bits(after.logits, bare(self.model.module, second).logits)

    def broken_part(self, length: int) -> tuple[str | None, int]:
        """Return the first module that is not finite, or differs when read in pieces, and the token where it is."""
        prompt = _repeated_ids(self.ids, length)
        suspect = trail(self.model.module, prompt, RUN).suspect
        if suspect:
            token = (suspect.frame.first or (None, None))[0]
            return suspect.module, length - 1 if token is None else token
        pieces = self.last_piece(prompt)
        whole = bare(self.model.module, prompt)
        return (first_difference(whole, pieces, last=True) if pieces else None), length - 1

    def differs_alone(self, length: int, module: str | None) -> bool | None:
        """Whether a module that works token by token returns something else for the last token among all of them and
        alone: equal work at another size, and no cache in it. None for a module that cannot be asked so.
        """
        if not module:
            return None
        found, seen = dict(self.model.module.named_modules())[module], list[tuple[mx.array, mx.array]]()

        def noting(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            out = call(*args, **kwargs)
            if len(args) == 1 and not kwargs and isinstance(out, mx.array):
                alone = call(args[0][:, -1:])
                seen.append((out[0, -1], alone[0, -1]))
            return out

        try:
            with tapped(self.model.module, [Tap(found, noting)]):
                self.model.module(mx.array([_repeated_ids(self.ids, length)]))
        except (TypeError, ValueError, IndexError):
            return None
        return any(not equal(alone, among, Work.IN_PIECES) for among, alone in seen) if seen else None


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


def _by_kernel(
    code: str, text: str, module: str | None, difference: float, run: ObservedRun, card: ModelCard, **evidence: Any
) -> PlacedFinding:
    """Return what is said of other kernels: they are proven wrong only beyond what any rounding makes of the dtype."""
    usual = row_tolerance(Work.OTHER_KERNELS, run.logits.dtype, card)
    found = _found(code, f"{text}, where rounding makes up to {usual:.2g}", module, difference=difference, **evidence)
    return found if difference > BEYOND * usual else replace(found, confidence=SUSPECTED)


def _found(code: str, text: str, module: str | None, **evidence: Any) -> PlacedFinding:
    place = Place.of_module("comparisons", RUN, module)
    return PlacedFinding.of(
        code, text + (f"; the first part that differs is {module}" if module else ""), place, PROVEN, **evidence
    )
