"""Running a model while activations are recorded or replaced.

All functions run one forward pass over token ids `[tokens]` and return the last token's logits `[vocab]`, evaluated.
Keyword and positional calls, tuples and modules called several times in a pass are all handled here, in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from harness.intercept.hookpoints import HookPoint
from harness.intercept.outputs import activation_of, editing
from harness.intercept.swap import Handler
from harness.intercept.taps import Tap, tapped
from harness.models.loaded import LoadedModel
from harness.vocabulary import Positions
from harness.vocabulary.errors import TapError, UsageError
from harness.vocabulary.words import number_of

Recording = Mapping[HookPoint, Sequence[mx.array]]
"""For every hook point the activations `[1, tokens, width]` in the order the module was called."""


def forward(model: LoadedModel, ids: Sequence[int]) -> mx.array:
    """Run the bare model."""
    return _last_row(model.module(mx.array([list(ids)])))


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
    for point, values in kept.items():
        if not values:
            raise TapError(
                f"{point}: the module was never called; it is bypassed, or was compiled before it was tapped"
            )
    return row, kept


def replace(
    model: LoadedModel, ids: Sequence[int], points: Sequence[HookPoint], source: Recording, positions: Positions
) -> mx.array:
    """Run the model with the recorded activations of `source` in place of its own at `positions`.

    Raises TapError when a module is called more or less often than it was recorded, or where a recorded activation
    differs from the one it replaces in shape or dtype: both would be broadcast or promoted in silence.
    """
    pending = {point: list(source[point]) for point in points}

    def replacer(point: HookPoint) -> Callable[[mx.array], mx.array]:
        def put(value: mx.array) -> mx.array:
            return _at(positions, value, _next(pending, source, point), point, len(ids))

        return put

    row = _run(model, ids, {point: replacer(point) for point in points})
    _all_used(pending, source)
    return row


def replace_each(
    model: LoadedModel, ids: Sequence[int], patches: Sequence[tuple[HookPoint, Positions]], source: Recording
) -> mx.array:
    """Run one batch of copies of `ids`, each with one patch of its own, row 0 with none: `[1 + patches, vocab]`.

    Raises TapError as `replace` does.
    """
    pending = {point: list(source[point]) for point, _ in patches}

    def replacer(point: HookPoint) -> Callable[[mx.array], mx.array]:
        rows = {row: positions for row, (each, positions) in enumerate(patches, 1) if each == point}

        def put(value: mx.array) -> mx.array:
            given = _next(pending, source, point)
            own = [value[row : row + 1] for row in range(value.shape[0])]
            return mx.concatenate(
                [_at(rows[i], x, given, point, len(ids)) if i in rows else x for i, x in enumerate(own)]
            )

        return put

    batch = [list(ids)] * (1 + len(patches))
    last = _run(model, batch, {point: replacer(point) for point in pending})
    _all_used(pending, source)
    return last


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
    """Return the last token's logits: `[vocab]` of ids `[tokens]`, `[rows, vocab]` of a batch of them."""
    taps = [Tap(point.module, _handler(point, edit)) for point, edit in edits.items()]
    with tapped(model.module, taps):
        return _last_rows(model.module(mx.array(ids)), len(ids)) if isinstance(ids[0], list) else forward(model, ids)


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
    if width % point.heads:
        raise TapError(f"{point}: a width of {width} is not {point.heads} heads")
    return mx.arange(width) // (width // point.heads) == point.head


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
        raise UsageError(f"position {outside[0]} is outside the prompt of {tokens} tokens")
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
