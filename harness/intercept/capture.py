"""Running a model while activations are recorded or replaced.

All functions run one forward pass over token ids `[tokens]` and return the last token's logits `[vocab]`, evaluated.
Keyword and positional calls, tuples and modules called several times in a pass are all handled here, in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from harness.intercept.hookpoints import HookPoint
from harness.intercept.outputs import activation_of, editing, with_activation
from harness.intercept.swap import Handler
from harness.intercept.taps import Tap, tapped
from harness.models.architectures import blocks_of
from harness.models.loaded import LoadedModel
from harness.vocabulary import Positions
from harness.vocabulary.errors import TapError, UsageError
from harness.vocabulary.words import number_of

Recording = Mapping[HookPoint, Sequence[mx.array]]
"""For every hook point the activations `[1, tokens, width]` in the order the module was called."""


def forward(model: LoadedModel, ids: Sequence[int]) -> mx.array:
    """Run the bare model."""
    return _last_row(model.module(mx.array([list(ids)])))


def edited(
    model: LoadedModel, ids: Sequence[int], edits: Sequence[tuple[HookPoint, Callable[[mx.array], mx.array]]]
) -> mx.array:
    """Run the model with every edit of an activation, those of one hook point in their order; not evaluated, so that
    MLX can go back through it."""
    # The first of several taps on a module is the innermost: the first to see what it returns, the last on its way in.
    inputs = [each for each in edits if each[0].is_input]
    inside_out = [*(each for each in edits if not each[0].is_input), *reversed(inputs)]
    taps = [Tap(point.module, _handler(point, edit)) for point, edit in inside_out]
    with tapped(model.module, taps):
        return _last_rows(model.module(mx.array([list(ids)])), 1)[0]


def record(model: LoadedModel, ids: Sequence[int], points: Sequence[HookPoint]) -> tuple[mx.array, Recording]:
    """Run the model and keep the activations at every hook point."""
    kept: dict[HookPoint, list[mx.array]] = {point: [] for point in points}

    def keeper(point: HookPoint) -> Callable[[mx.array], mx.array]:
        def keep(value: mx.array) -> mx.array:
            kept[point].append(_unshared(value))
            return value

        return keep

    row = _run(model, ids, {point: keeper(point) for point in points})
    mx.eval([value for values in kept.values() for value in values])
    _all_called({point: len(values) for point, values in kept.items()})
    return row, kept


def put_back(model: LoadedModel, ids: Sequence[int], points: Sequence[HookPoint], positions: Positions) -> mx.array:
    """Run the model with its own activations put back at `positions` of every hook point, in the pass that made them.

    Raises TapError as `record` and `replace` do.
    """
    calls = dict.fromkeys(points, 0)

    def putter(point: HookPoint) -> Callable[[mx.array], mx.array]:
        def put(value: mx.array) -> mx.array:
            calls[point] += 1
            return _at(positions, value, _unshared(value), point, len(ids))

        return put

    row = _run(model, ids, {point: putter(point) for point in points})
    _all_called(calls)
    return row


def replace(
    model: LoadedModel, ids: Sequence[int], points: Sequence[HookPoint], source: Recording, positions: Positions
) -> mx.array:
    """Run the model with the recorded activations of `source`, or what the points make of them, in place of its own at
    `positions`.

    Raises TapError when a module is called more or less often than it was recorded, or where a recorded activation
    differs from the one it replaces in shape or dtype: both would be broadcast or promoted in silence.
    """
    pending = {point: list(source[point]) for point in points}

    def replacer(point: HookPoint) -> Callable[[mx.array], mx.array]:
        def put(value: mx.array) -> mx.array:
            return _at(positions, value, point.given(_next(pending, source, point)), point, len(ids))

        return put

    row = _run(model, ids, {point: replacer(point) for point in points})
    _all_used(pending, source)
    return row


def run_together(
    model: LoadedModel, source: Sequence[int], target: Sequence[int], patches: Sequence[tuple[HookPoint, Positions]]
) -> tuple[mx.array, mx.array, mx.array]:
    """Run both prompts and all patches in one forward pass: the source's logits `[vocab]`, the target's, the patches'.

    The batch keeps its size: a row for each patch, the target's, and last the source's, whose activations the patched
    rows are given. Up to its own block a patched row would be the target's; it is NaN instead, so that a row which sees
    it is NaN as well. A patch in the last block gets a row only there: the block is called once more with the same
    batch, for that patch of the target's row alone. What follows the last block is given every token, as in a bare
    run, and a row of NaN: a walk gives it the last token, and a norm or a head may mix tokens or go by their places.
    Raises TapError as `replace` does.
    """
    blocks = blocks_of(model.module)
    together = _Together(patches, len(blocks) - 1, len(target))
    points = dict.fromkeys(point for point, _ in patches)
    taps = [Tap(point.module, _handler(point, together.replacer(point))) for point in points]
    for layer in sorted({0, *(point.layer for point in points), len(blocks) - 1}):
        entry = HookPoint("resid_pre", layer, blocks[layer], is_input=True)
        taps.append(Tap(blocks[layer], _handler(entry, together.entering(layer))))
    taps.append(Tap(blocks[-1], together.last_block))
    with tapped(model.module, taps):
        batch = mx.array([list(target)] * together.source + [list(source)])
        logits = _last_rows(model.module(batch), len(patches) + 3)
    if any(not tap.fired for tap in taps):
        raise TapError("a module of the sweep was never called")
    return logits[together.source], logits[together.target], logits[mx.array(together.rows(patches))]


class _Together:
    """The rows of one batch: patches before the last block, the target, the source; then those in the last block."""

    def __init__(self, patches: Sequence[tuple[HookPoint, Positions]], last: int, tokens: int):
        self.early = [patch for patch in patches if patch[0].layer < last]
        self.late = [patch for patch in patches if patch[0].layer == last]
        self.target, self.source, self.tokens = len(self.early), len(self.early) + 1, tokens
        self.active = dict(enumerate(self.early))
        """Row -> the patch that it is given as things stand."""

    def rows(self, patches: Sequence[tuple[HookPoint, Positions]]) -> list[int]:
        row_of = {patch: row for row, patch in enumerate([*self.early, "target", "source", *self.late])}
        return [row_of[patch] for patch in patches]

    def replacer(self, point: HookPoint) -> Callable[[mx.array], mx.array]:
        def put(value: mx.array) -> mx.array:
            rows = [value[row : row + 1] for row in range(value.shape[0])]
            for row, (each, positions) in self.active.items():
                if each == point:
                    rows[row] = _at(positions, rows[row], each.given(rows[self.source]), point, self.tokens)
            return mx.concatenate(rows)

        return put

    def entering(self, layer: int) -> Callable[[mx.array], mx.array]:
        """Return what is done to the rows that come to a block: those of later blocks' patches are NaN from the first
        on, a row is the target's where its patch is, and while the last block is called once more all are NaN."""

        def enter(value: mx.array) -> mx.array:
            rows = [value[row : row + 1] for row in range(value.shape[0])]
            for row, (point, _) in enumerate(self.early):
                if self.active.get(row) is None or layer == 0 < point.layer:
                    rows[row] = _nan_like(rows[row])
                elif layer == point.layer:
                    rows[row] = rows[self.target]
            return mx.concatenate(rows)

        return enter

    def last_block(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out, more = call(*args, **kwargs), []
        for patch in self.late:
            self.active = {self.target: patch}
            more.append(activation_of(call(*args, **kwargs))[self.target : self.target + 1])
        return with_activation(out, lambda value: mx.concatenate([value, *more, _nan_like(value[:1])]))


def _nan_like(value: mx.array) -> mx.array:
    return mx.full(value.shape, float("nan"), dtype=value.dtype)


def _all_called(calls: Mapping[HookPoint, int]) -> None:
    for point, times in calls.items():
        if not times:
            raise TapError(
                f"{point}: the module was never called; it is bypassed, or was compiled before it was tapped"
            )


def _next(pending: Mapping[HookPoint, list[mx.array]], source: Recording, point: HookPoint) -> mx.array:
    if not pending[point]:
        raise TapError(f"{point}: called more often than recorded ({number_of(len(source[point]), 'time')})")
    return pending[point].pop(0)


def _all_used(pending: Mapping[HookPoint, Sequence[mx.array]], source: Recording) -> None:
    for point, left in pending.items():
        if left:
            called = len(source[point]) - len(left)
            raise TapError(
                f"{point}: called {number_of(called, 'time')}, recorded {number_of(len(source[point]), 'time')}"
            )


def _run(model: LoadedModel, ids: Any, edits: Mapping[HookPoint, Callable[[mx.array], mx.array]]) -> mx.array:
    """Return the last token's logits `[vocab]`."""
    taps = [Tap(point.module, _handler(point, edit)) for point, edit in edits.items()]
    with tapped(model.module, taps):
        return forward(model, ids)


def _handler(point: HookPoint, edit: Callable[[mx.array], mx.array]) -> Handler:
    def on_input(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return call(edit(args[0]), *args[1:], **kwargs)
        name = next((name for name, value in kwargs.items() if isinstance(value, mx.array) and value.ndim == 3), None)
        if name is None:
            raise TapError(f"{point}: the block was called without an activation")
        return call(**{**kwargs, name: edit(kwargs[name])})

    return on_input if point.is_input else editing(edit)


def _at(positions: Positions, value: mx.array, put: mx.array, point: HookPoint, tokens: int) -> mx.array:
    if value.shape != put.shape or value.dtype != put.dtype:
        raise TapError(f"{point}: {put.shape} {put.dtype} was recorded, {value.shape} {value.dtype} is replaced")
    if positions == "all" and point.head is None:
        return _unshared(put)
    if value.ndim != 3 or value.shape[1] != tokens:
        raise TapError(f"{point}: an activation {value.shape} has no axis of {tokens} tokens to patch some of")
    chosen = resolve_positions(positions, tokens)
    mask = mx.array([position in chosen for position in range(tokens)])[None, :, None]
    return mx.where(mask & slice_of(point, value.shape[-1]), put, value)


def slice_of(point: HookPoint, width: int) -> mx.array:
    """Return a mask `[width]` of the part of an activation that belongs to a hook point: one head's slice, or all."""
    if point.head is None:
        return mx.ones((1,), dtype=mx.bool_)
    if width % point.slices:
        raise TapError(f"{point}: a width of {width} is not {point.slices} slices of equal width")
    return mx.arange(width) // (width // point.slices) == point.slot


def _unshared(value: mx.array) -> mx.array:
    """Return the same data under a handle of its own: a model's `x += y` changes the handle it holds."""
    return mx.array(value)


def resolve_positions(positions: Positions, tokens: int) -> list[int]:
    """Return token indices in 0..tokens-1. Raises UsageError for one outside the prompt, and where there is none."""
    if isinstance(positions, str):
        return list(range(tokens)) if positions == "all" else [tokens - 1]
    if not positions:
        raise UsageError("no position is given, so nothing would be patched; give 'all', 'last' or token indices")
    outside = [position for position in positions if not -tokens <= position < tokens]
    if outside:
        raise UsageError(f"position {outside[0]} is outside the prompt of {number_of(tokens, 'token')}")
    return [position % tokens for position in positions]


def _last_row(logits: Any) -> mx.array:
    row = _last_rows(logits, 1)[0]
    mx.eval(row)
    return row


def _last_rows(logits: Any, rows: int) -> mx.array:
    logits = activation_of(logits)
    if not isinstance(logits, mx.array) or logits.ndim != 3 or logits.shape[0] != rows:
        shape = getattr(logits, "shape", type(logits).__name__)
        raise UsageError(f"the model returned {shape}; logits of shape [{rows}, tokens, vocab] are needed")
    last = logits[:, -1]
    mx.eval(last)
    return last
