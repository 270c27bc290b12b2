"""The whole sweep in one walk: each layer's weights are read once, instead of once for every cell.

The batch starts as two rows, the source run and the target run. Before block k a row is appended for every cell at
layer k, a copy of the target's; inside block k that row is given the source row's activation; and all rows go on
together. Nothing of a model's forward is written again: taps on the blocks let the batch grow, taps on the components
hand the activations over.

    row 0   source run            rows 2..   one patched run each, in the order of their layers
    row 1   target run

A row depends on the others only through the hand-over, so the logits are those of `stepwise`, up to the rounding of a
kernel that treats batches differently. What cannot grow this way (a block called twice, an input whose batch axis is
not clear) raises OnePassImpossible, before or during the walk, and never yields a wrong number in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map_with_path

from harness.errors import HarnessError
from harness.intercept import HookPoint, Tap, resolve_positions, tapped
from harness.models.architectures import blocks_of
from harness.models.loaded import LoadedModel
from harness.vocabulary import Positions

SOURCE, TARGET = 0, 1
_FIRST = 2
"""Rows before the first patched one."""


class OnePassImpossible(HarnessError):
    """This model's blocks cannot be walked with a growing batch; the text says why."""


Axes = Sequence[Mapping[str, int]]
"""For every block, the path of each input that carries a batch axis, and which axis that is."""


def batch_axes(model: LoadedModel, ids: Sequence[int]) -> Axes:
    """Find the inputs of every block that grow with the batch, by comparing a batch of one with a batch of two.

    Only the shapes are asked for, so nothing is evaluated. Guessing from the number of axes would be wrong: a mask may
    be `[tokens, tokens]`, `[batch, 1, tokens, tokens]`, or a word.
    """
    one, two = (_input_shapes(model, [list(ids)] * batch) for batch in (1, 2))
    if len(one) != len(two) or any(a.keys() != b.keys() for a, b in zip(one, two, strict=True)):
        raise OnePassImpossible("the blocks get other inputs for a batch of two than for a batch of one")
    return [
        {path: axis for path in a if (axis := _axis(a[path], b[path])) is not None}
        for a, b in zip(one, two, strict=True)
    ]


def _input_shapes(model: LoadedModel, batch: list[list[int]]) -> list[dict[str, tuple[int, ...]]]:
    blocks = blocks_of(model.module)
    seen: list[dict[str, tuple[int, ...]]] = []
    order: list[int] = []

    def note(layer: int) -> Callable[..., Any]:
        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            order.append(layer)
            flat = tree_flatten((args, kwargs))
            seen.append({path: tuple(leaf.shape) for path, leaf in flat if isinstance(leaf, mx.array)})
            return call(*args, **kwargs)

        return handler

    with tapped(model.module, [Tap(block, note(layer)) for layer, block in enumerate(blocks)]):
        model.module(mx.array(batch))
    if order != list(range(len(blocks))):
        raise OnePassImpossible(f"the blocks run in the order {order}, not each once from first to last")
    return seen


def _axis(one: tuple[int, ...], two: tuple[int, ...]) -> int | None:
    if one == two:
        return None
    if len(one) == len(two):
        grown = [axis for axis, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        if len(grown) == 1 and two[grown[0]] == 2 * one[grown[0]] == 2:
            return grown[0]
    raise OnePassImpossible(f"an input of shape {one} becomes {two} for a batch of two")


@dataclass
class Walker:
    """One walk over a model: which cells start at which layer, and which row each of them is."""

    model: LoadedModel
    points: Sequence[HookPoint]
    positions: Positions
    tokens: int
    axes: Axes
    rows: dict[HookPoint, int] = field(init=False)

    def __post_init__(self) -> None:
        ordered = sorted(self.points, key=lambda point: point.layer)
        self.rows = {point: _FIRST + i for i, point in enumerate(ordered)}
        chosen = set(resolve_positions(self.positions, self.tokens))
        self.mask = mx.array([position in chosen for position in range(self.tokens)])[None, :, None]

    def run(self, source: Sequence[int], target: Sequence[int]) -> mx.array:
        """Return the last token's logits of every row, `[2 + cells, vocab]`, evaluated."""
        blocks = blocks_of(self.model.module)
        taps = [self._component(point) for point in self.points if not _is_block_point(point, blocks)]
        taps += [Tap(block, self._block(layer, len(blocks))) for layer, block in enumerate(blocks)]
        with tapped(self.model.module, taps):
            logits = self.model.module(mx.array([list(source), list(target)]))
            logits = logits[0] if isinstance(logits, tuple) else logits
            last: mx.array = logits[:, -1]
            mx.eval(last)
        if any(not tap.fired for tap in taps):
            raise OnePassImpossible("a module of the sweep was never called")
        if last.shape[0] != _FIRST + len(self.points):
            raise OnePassImpossible(f"{last.shape[0]} rows came out, {_FIRST + len(self.points)} were walked")
        return last

    def _block(self, layer: int, count: int) -> Callable[..., Any]:
        here = [point for point in self.points if point.layer == layer]

        axes = self.axes[layer]

        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            rows = _activation(args, kwargs)[1].shape[0] + len(here)
            args, kwargs = tree_map_with_path(
                lambda path, value: _grown(value, axes[path], rows) if path in axes else value, (args, kwargs)
            )
            name, x = _activation(args, kwargs)
            mx.eval(x)  # one block at a time: an interrupt waits for a block, and its buffers are free for the next
            for point in here:
                if point.is_input:
                    x = self._hand_over(x, self.rows[point])
            args, kwargs = _with_activation(args, kwargs, name, x)
            return self._block_output(call(*args, **kwargs), here, last=layer == count - 1)

        return handler

    def _block_output(self, out: Any, here: Sequence[HookPoint], last: bool) -> Any:
        def finish(value: mx.array) -> mx.array:
            for point in here:
                if not point.is_input and _names_block(point):
                    value = self._hand_over(value, self.rows[point])
            # The norm and the head after the last block need the last token only.
            return value[:, -1:] if last else value

        return (finish(out[0]), *out[1:]) if isinstance(out, tuple) else finish(out)

    def _component(self, point: HookPoint) -> Tap:
        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            out = call(*args, **kwargs)
            row = self.rows[point]
            return (self._hand_over(out[0], row), *out[1:]) if isinstance(out, tuple) else self._hand_over(out, row)

        return Tap(point.module, handler)

    def _hand_over(self, value: mx.array, row: int) -> mx.array:
        """Return `[rows, tokens, width]` with the source's activation in one row, at the positions of the sweep."""
        if value.ndim != 3 or value.shape[0] <= row or value.shape[1] != self.tokens:
            raise OnePassImpossible(f"an activation of shape {value.shape} has no row {row} of {self.tokens} tokens")
        given = mx.where(self.mask, value[SOURCE : SOURCE + 1], value[row : row + 1])
        return mx.concatenate([value[:row], given, value[row + 1 :]])


def one_pass(
    model: LoadedModel,
    source: Sequence[int],
    target: Sequence[int],
    points: Sequence[HookPoint],
    positions: Positions,
) -> tuple[mx.array, mx.array, Mapping[HookPoint, mx.array]]:
    """Return the source's, the target's and every patched run's last-token logits `[vocab]`.

    Raises OnePassImpossible where the model does not lend itself to it.
    """
    try:
        walker = Walker(model, points, positions, len(target), batch_axes(model, target))
        logits = walker.run(source, target)
    except HarnessError:
        raise
    except Exception as error:
        raise OnePassImpossible(f"{type(error).__name__}: {error}") from error
    return logits[SOURCE], logits[TARGET], {point: logits[row] for point, row in walker.rows.items()}


def _grown(value: mx.array, axis: int, rows: int) -> mx.array:
    """Return an input with copies of the target's row appended along its batch axis, until there are `rows`.

    The residual stream comes with the rows of the block before; a mask that the model made once comes with two.
    """
    target = mx.take(value, mx.array([TARGET]), axis=axis)
    return mx.concatenate([value, mx.repeat(target, rows - value.shape[axis], axis=axis)], axis=axis)


def _activation(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str | None, mx.array]:
    if args and isinstance(args[0], mx.array):
        return None, args[0]
    for name, value in kwargs.items():
        if isinstance(value, mx.array) and value.ndim == 3:
            return name, value
    raise OnePassImpossible("a block was called without an activation")


def _with_activation(
    args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None, x: mx.array
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ((x, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: x})


def _names_block(point: HookPoint) -> bool:
    return point.component in ("resid_post", "output")


def _is_block_point(point: HookPoint, blocks: Sequence[Any]) -> bool:
    return point.module is blocks[point.layer]
