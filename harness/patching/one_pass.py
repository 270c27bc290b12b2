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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map_with_path

from harness import progress
from harness.errors import HarnessError
from harness.intercept import HookPoint, Tap, resolve_positions, slice_of, tapped
from harness.models.architectures import blocks_of
from harness.models.loaded import LoadedModel
from harness.patching.memory import rows_within
from harness.patching.patch import Patch

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


@dataclass(frozen=True)
class Group:
    """Rows that one module's activation is handed over to: contiguous, each with positions and a head of its own."""

    point: HookPoint
    first: int
    patches: Sequence[Patch]
    tokens: int

    @property
    def end(self) -> int:
        return self.first + len(self.patches)

    def mask(self, width: int) -> mx.array:
        """Return where the source's activation goes, `[rows, tokens, width]` or broadcast to it."""
        chosen = [set(resolve_positions(patch.positions, self.tokens)) for patch in self.patches]
        where = mx.array([[token in each for token in range(self.tokens)] for each in chosen])[..., None]
        if self.point.head is None:
            return where
        return where & mx.stack([slice_of(patch.point, width) for patch in self.patches])[:, None]


class Walker:
    """One walk over a model: which patches start at which layer, and which row each of them is."""

    def __init__(self, model: LoadedModel, patches: Sequence[Patch], tokens: int, axes: Axes):
        self.model, self.tokens, self.axes = model, tokens, axes
        together: dict[tuple[str, int], list[Patch]] = {}
        for patch in sorted(patches, key=lambda patch: patch.point.layer):
            together.setdefault((patch.point.component, patch.point.layer), []).append(patch)
        self.rows: dict[Patch, int] = {}
        self.groups: list[Group] = []
        for group in together.values():
            first = _FIRST + len(self.rows)
            self.rows |= {patch: first + i for i, patch in enumerate(group)}
            self.groups.append(Group(group[0].point, first, group, tokens))

    def run(self, source: Sequence[int], target: Sequence[int]) -> mx.array:
        """Return the last token's logits of every row, `[2 + patches, vocab]`, evaluated."""
        blocks = blocks_of(self.model.module)
        inside = [group for group in self.groups if group.point.module is not blocks[group.point.layer]]
        taps = [Tap(group.point.module, self._component(group)) for group in inside]
        taps += [Tap(block, self._block(layer, block)) for layer, block in enumerate(blocks)]
        with tapped(self.model.module, taps):
            logits = self.model.module(mx.array([list(source), list(target)]))
            logits = logits[0] if isinstance(logits, tuple) else logits
            last: mx.array = logits.squeeze(1) if logits.shape[1] == 1 else logits[:, -1]
            mx.eval(last)
        if any(not tap.fired for tap in taps):
            raise OnePassImpossible("a module of the sweep was never called")
        if last.shape[0] != _FIRST + len(self.rows):
            raise OnePassImpossible(f"{last.shape[0]} rows came out, {_FIRST + len(self.rows)} were walked")
        return last

    def _block(self, layer: int, block: Any) -> Callable[..., Any]:
        here = [group for group in self.groups if group.point.layer == layer]
        more = sum(len(group.patches) for group in here)
        on_input = [group for group in here if group.point.module is block and group.point.is_input]
        on_output = [group for group in here if group.point.module is block and not group.point.is_input]
        axes, last = self.axes[layer], layer == len(self.axes) - 1

        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            progress.say("layer", layer + 1, len(self.axes))
            rows = _activation(args, kwargs)[1].shape[0] + more
            args, kwargs = tree_map_with_path(
                lambda path, value: _grown(value, axes[path], rows) if path in axes else value, (args, kwargs)
            )
            name, x = _activation(args, kwargs)
            mx.eval(x)  # one block at a time: an interrupt waits for a block, and its buffers are free for the next
            args, kwargs = _with_activation(args, kwargs, name, self._hand_over(x, on_input))
            return _first_of(call(*args, **kwargs), lambda out: self._finished(out, on_output, last))

        return handler

    def _finished(self, out: mx.array, groups: Sequence[Group], last: bool) -> mx.array:
        out = self._hand_over(out, groups)
        # The norm and the head after the last block need the last token only.
        return out[:, -1:] if last else out

    def _component(self, group: Group) -> Callable[..., Any]:
        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if group.point.is_input:
                return call(self._hand_over(args[0], [group]), *args[1:], **kwargs)
            return _first_of(call(*args, **kwargs), lambda out: self._hand_over(out, [group]))

        return handler

    def _hand_over(self, value: mx.array, groups: Sequence[Group]) -> mx.array:
        """Return `[rows, tokens, width]` with the source's activation in the groups' rows, at their positions."""
        for group in groups:
            first, end = group.first, group.end
            if value.ndim != 3 or value.shape[0] < end or value.shape[1] != self.tokens:
                raise OnePassImpossible(f"{group.point}: {value.shape} has no row {end - 1} of {self.tokens} tokens")
            given = mx.where(group.mask(value.shape[-1]), value[SOURCE : SOURCE + 1], value[first:end])
            value = mx.concatenate([value[:first], given, value[end:]])
        return value


def one_pass(
    model: LoadedModel,
    source: Sequence[int],
    target: Sequence[int],
    patches: Sequence[Patch],
    budget: int | None = None,
) -> Iterator[tuple[mx.array, dict[Patch, mx.array]]]:
    """Walk a sweep and yield, for each walk over the layers, the unpatched rows `[2, vocab]` and the patched ones.

    There is one walk, unless its rows would take more than `budget` bytes (default: 1 GiB, or half of what is free);
    then there are as many as it takes. Raises OnePassImpossible where the model does not lend itself to it.
    """
    try:
        axes = batch_axes(model, target)
        walked = [patch for patch in patches if not _idle(patch, len(axes), len(target))]
        limit = rows_within(model, len(target), budget)
        ordered = sorted(walked, key=lambda patch: patch.point.layer)
        chunks = [ordered[i : i + limit] for i in range(0, len(ordered), limit)] or [[]]
        for i, chunk in enumerate(chunks):
            walker = Walker(model, chunk, len(target), axes)
            logits = walker.run(source, target)
            rows = {patch: logits[row] for patch, row in walker.rows.items()}
            if i == 0:
                rows |= {patch: logits[TARGET] for patch in patches if patch not in set(walked)}
            ends = logits[:_FIRST]
            mx.eval(ends)
            del logits, walker  # the rows own what is left: once they are read, the next walk has the memory
            yield ends, rows
            del rows
    except HarnessError:
        raise
    except Exception as error:
        # Whatever a model does with a batch it did not expect: stepwise decides whose fault it is.
        raise OnePassImpossible(f"{type(error).__name__}: {error}") from error


_PER_TOKEN = frozenset({"mlp_out", "mlp", "resid_post", "output"})
"""Components after which no block mixes tokens. Attention is not among them: some blocks attend twice (longcat_flash),
some shift tokens in their MLP (rwkv7)."""


def _idle(patch: Patch, layers: int, tokens: int) -> bool:
    """Return whether a patch cannot reach the last token: after the last MLP, tokens keep to themselves."""
    at_the_end = patch.point.layer == layers - 1 and patch.point.component in _PER_TOKEN
    return at_the_end and tokens - 1 not in resolve_positions(patch.positions, tokens)


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


def _first_of(out: Any, edit: Callable[[mx.array], mx.array]) -> Any:
    return (edit(out[0]), *out[1:]) if isinstance(out, tuple) else edit(out)
