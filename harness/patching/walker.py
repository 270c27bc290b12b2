"""One walk over the layers with a batch that grows: each layer's weights are read once, instead of once a cell.

The batch starts as two rows, the source run and the target run. Before block k a row is appended for every cell at
layer k, a copy of the target's; inside block k that row is given the source row's activation; and all rows go on
together. Nothing of a model's forward is written again: taps on the blocks let the batch grow, taps on the components
hand the activations over.

    row 0   source run            rows 2..   one patched run each, in the order in which they part from the target
    row 1   target run

What need not be computed is not. Until its activation is handed over, a row is the target's row: the parts of block k
that come before are called without it, and their output for it is the target's. And only the last token's logits are
asked for, so the last block's MLP is called with the last token, after two rows have shown that it comes out the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map_with_path

from harness.intercept import HookPoint, Tap, resolve_positions, slice_of, tapped
from harness.intercept.hookpoints import mlp_of
from harness.metrics.tolerances import Work, equal
from harness.models.loaded import LoadedModel
from harness.patching.layout import BlockLayout, Call, OnePassImpossible, Prefix
from harness.patching.patch import Patch
from harness.support import progress

SOURCE, TARGET = 0, 1
FIRST = 2
"""Rows before the first patched one."""

Args = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Group:
    """Rows that one module's activation is handed over to: contiguous, each with positions and a head of its own."""

    point: HookPoint
    first: int
    patches: Sequence[Patch]
    tokens: int
    before: int = 0
    """Tokens of the prompt before the `tokens` that are walked."""

    @property
    def end(self) -> int:
        return self.first + len(self.patches)

    def mask(self, width: int) -> mx.array:
        """Return where the source's activation goes, `[rows, tokens, width]` or broadcast to it."""
        end = self.before + self.tokens
        chosen = [set(resolve_positions(patch.positions, end)) for patch in self.patches]
        where = mx.array([[token in each for token in range(self.before, end)] for each in chosen])[..., None]
        if self.point.head is None:
            return where
        return where & mx.stack([slice_of(patch.point, width) for patch in self.patches])[:, None]

    def given(self, value: mx.array, own: mx.array) -> mx.array:
        """Return `[rows, tokens, width]`: the source row of `value` where it is handed over, and `own` elsewhere."""
        if value.ndim != 3 or value.shape[1] not in (self.tokens, 1):
            raise OnePassImpossible(f"{self.point}: {value.shape} has no axis of {self.tokens} tokens")
        mask = self.mask(value.shape[-1])[:, -value.shape[1] :]
        return mx.where(mask, value[SOURCE : SOURCE + 1], own)


class Walker:
    """One walk over a model: which patches start at which layer, and which row each of them is."""

    def __init__(
        self,
        model: LoadedModel,
        blocks: Sequence[Any],
        patches: Sequence[Patch],
        tokens: int,
        layout: BlockLayout,
        prefix: Prefix,
    ):
        self.model, self.blocks, self.layout, self.prefix = model, blocks, layout, prefix
        self.tokens = tokens - prefix.tokens
        self.rows: dict[Patch, int] = {}
        self.groups: list[Group] = []
        together: dict[tuple[int, float, str], list[Patch]] = {}
        for patch in patches:
            key = (patch.point.layer, layout.moment(patch.point), patch.point.component)
            together.setdefault(key, []).append(patch)
        for key in sorted(together):
            first = FIRST + len(self.rows)
            self.rows |= {patch: first + i for i, patch in enumerate(together[key])}
            self.groups.append(Group(together[key][0].point, first, together[key], self.tokens, prefix.tokens))
        self.apart = FIRST
        """Rows that may differ from the target's by now; those after them are copies of it."""
        self.resting = self.short = False
        self.behind: mx.array | None = None

    def run(self, source: Sequence[int], target: Sequence[int]) -> mx.array:
        """Return the last token's logits of every row, `[2 + patches, vocab]`, evaluated."""
        taps = [tap for layer in range(len(self.blocks)) for tap in self._taps(layer)]
        with tapped(self.model.module, taps):
            batch = mx.array([list(ids)[self.prefix.tokens :] for ids in (source, target)])
            logits = self.model.module(batch, **self.prefix.handed)
            logits = logits[0] if isinstance(logits, tuple) else logits
            last: mx.array = logits.squeeze(1) if logits.shape[1] == 1 else logits[:, -1]
            mx.eval(last)
        if any(not tap.fired for tap in taps):
            raise OnePassImpossible("a module of the sweep was never called")
        if last.shape[0] != FIRST + len(self.rows):
            raise OnePassImpossible(f"{last.shape[0]} rows came out, {FIRST + len(self.rows)} were walked")
        return last

    def _taps(self, layer: int) -> list[Tap]:
        block, here = self.blocks[layer], [group for group in self.groups if group.point.layer == layer]
        modules = {id(group.point.module): group.point.module for group in here if group.point.module is not block}
        latest = max((self.layout.moment(group.point) for group in here), default=-1.0)
        for module in self.layout.modules:
            call = self.layout.parts[layer].get(id(module))
            if call is not None and call.separable and call.ended < latest:
                modules[id(module)] = module
        mlp = self._last_token_part(layer)
        if mlp is not None:
            modules[id(mlp)] = mlp
        parts = [Tap(module, self._part(layer, module, here)) for module in modules.values()]
        return [*parts, Tap(block, self._block(layer, block, here, shortens=mlp is not None))]

    def _last_token_part(self, layer: int) -> Any:
        """Return the last block's MLP, if it is given nothing but the activation."""
        if layer < len(self.blocks) - 1 or self.tokens == 1:
            return None
        mlp = mlp_of(self.model, self.blocks[layer])
        call = self.layout.parts[layer].get(id(mlp))
        return mlp if call is not None and call.separable and call.inputs == 1 else None

    def _block(self, layer: int, block: Any, here: Sequence[Group], *, shortens: bool) -> Callable[..., Any]:
        entering, leaving = _at_its_ends(block, here)
        more = sum(len(group.patches) for group in here if group not in leaving)
        axes, last = self.layout.blocks[layer].axes, layer == len(self.blocks) - 1

        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            progress.say("layer", layer + 1, len(self.blocks))
            before = _activation(args, kwargs)[1].shape[0]
            args, kwargs = _along(axes, lambda value, axis: _grown(value, axis, before + more), (args, kwargs))
            name, x = _activation(args, kwargs)
            self._evaluated(x)
            self.apart = before
            args, kwargs = _with_activation(args, kwargs, name, self._hand_over(x, entering))
            out = self._shortened(call, args, kwargs, axes) if shortens else call(*args, **kwargs)
            return _first_of(out, lambda out: self._left(out, leaving, last))

        return handler

    def _evaluated(self, x: mx.array) -> None:
        """Start computing `x`, and wait for the block before: an interrupt waits for two blocks and not for the sweep,
        the buffers of earlier ones are free, and the next is prepared while this one is multiplied."""
        mx.async_eval(x)  # type: ignore[no-untyped-call]
        if self.behind is not None:
            mx.eval(self.behind)
        self.behind = x

    def _left(self, out: mx.array, leaving: Sequence[Group], last: bool) -> mx.array:
        out = self._extended(out, out.shape[0] + sum(len(group.patches) for group in leaving), leaving)
        # The norm and the head after the last block need the last token only.
        return out[:, -1:] if last else out

    def _shortened(self, call: Callable[..., Any], args: Any, kwargs: Any, axes: Any) -> Any:
        """Call the last block with its MLP computing the last token, where that gives two rows what they should get.

        The MLP's output is then one token long and the residual add repeats it: right at the last token, and nobody
        asks for the others.
        """
        apart, self.resting = self.apart, True
        few, few_more = _along(axes, lambda value, axis: _cut(value, axis, FIRST), (args, kwargs))
        wanted = _first(call(*few, **few_more))
        self.resting, self.short = False, True
        try:
            out = call(*args, **kwargs)
        except ValueError:  # MLX's word for shapes that do not fit: this block does not just add its MLP's output
            out = None
        self.short = False
        if out is not None and self._agree(wanted, _first(out)):
            return out
        self.apart = apart
        return call(*args, **kwargs)

    def _agree(self, wanted: mx.array, got: mx.array) -> bool:
        rows = range(FIRST)
        return wanted.ndim == got.ndim == 3 and all(
            equal(wanted[row, -1], got[row, -1], Work.OTHER_BATCH, card=self.model.card) for row in rows
        )

    def _part(self, layer: int, module: Any, here: Sequence[Group]) -> Callable[..., Any]:
        entering, leaving = _at_its_ends(module, here)
        own = self.layout.parts[layer][id(module)]
        below = {id(each) for _, each in module.named_modules()} - {id(module)}
        nested = sum(len(group.patches) for group in here if id(group.point.module) in below)
        last_only = module is self._last_token_part(layer)

        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self.resting:
                return call(*args, **kwargs)
            name, x = _activation(args, kwargs)
            args, kwargs = _with_activation(args, kwargs, name, self._hand_over(x, entering))
            args, kwargs = self._needed(own, args, kwargs, self.apart + nested, last_only and self.short)
            out = call(*args, **kwargs)
            if own.separable:
                return self._extended(out, x.shape[0], leaving)
            return _first_of(out, lambda out: self._hand_over(out, leaving))

        return handler

    def _needed(self, own: Call, args: Any, kwargs: Any, rows: int, short: bool) -> Args:
        if own.separable:
            args, kwargs = _along(own.axes, lambda value, axis: _cut(value, axis, rows), (args, kwargs))
        if short:
            name, x = _activation(args, kwargs)
            args, kwargs = _with_activation(args, kwargs, name, x[:, -1:])
        return args, kwargs

    def _extended(self, value: mx.array, rows: int, leaving: Sequence[Group]) -> mx.array:
        """Return `[rows, ...]`: what was computed, what is handed over to new rows, and copies of the target's row."""
        target = value[TARGET : TARGET + 1]
        new = [group for group in leaving if group.first >= value.shape[0]]
        pieces = [self._hand_over(value, [group for group in leaving if group not in new])]
        pieces += [group.given(value, target) for group in new]
        self._note(leaving)
        copies = rows - sum(piece.shape[0] for piece in pieces)
        if copies:
            pieces.append(mx.broadcast_to(target, (copies, *value.shape[1:])))
        return mx.concatenate(pieces) if len(pieces) > 1 else pieces[0]

    def _hand_over(self, value: mx.array, groups: Sequence[Group]) -> mx.array:
        """Return `value` with the source's activation in the groups' rows, at their positions."""
        for group in groups:
            if value.shape[0] < group.end:
                raise OnePassImpossible(f"{group.point}: {value.shape} has no row {group.end - 1}")
            given = group.given(value, value[group.first : group.end])
            value = mx.concatenate([value[: group.first], given, value[group.end :]])
        self._note(groups)
        return value

    def _note(self, groups: Sequence[Group]) -> None:
        self.apart = max([self.apart, *(group.end for group in groups)])


def _at_its_ends(module: Any, groups: Sequence[Group]) -> tuple[list[Group], list[Group]]:
    """Return the groups that are handed over on the module's way in, and on its way out."""
    own = [group for group in groups if group.point.module is module]
    return [each for each in own if each.point.is_input], [each for each in own if not each.point.is_input]


def _along(axes: Any, edit: Callable[[mx.array, int], mx.array], given: Args) -> Args:
    """Edit the inputs that have a batch axis."""
    edited: Args = tree_map_with_path(lambda path, value: edit(value, axes[path]) if path in axes else value, given)
    return edited


def _grown(value: mx.array, axis: int, rows: int) -> mx.array:
    """Return an input with copies of the target's row appended along its batch axis, until there are `rows`.

    The residual stream comes with the rows of the block before; a mask that the model made once comes with two.
    """
    more = rows - value.shape[axis]
    if more < 0:
        raise OnePassImpossible(f"an input {value.shape} has a row too many for a walk of {rows}")
    if not more:
        return value
    target = mx.take(value, mx.array([TARGET]), axis=axis)
    shape = (*target.shape[:axis], more, *target.shape[axis + 1 :])
    return mx.concatenate([value, mx.broadcast_to(target, shape)], axis=axis)


def _cut(value: mx.array, axis: int, rows: int) -> mx.array:
    return value if value.shape[axis] <= rows else value[(slice(None),) * axis + (slice(rows),)]


def _activation(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str | None, mx.array]:
    if args and isinstance(args[0], mx.array):
        return None, args[0]
    for name, value in kwargs.items():
        if isinstance(value, mx.array) and value.ndim == 3:
            return name, value
    raise OnePassImpossible("a block was called without an activation")


def _with_activation(args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None, x: mx.array) -> Args:
    return ((x, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: x})


def _first(out: Any) -> mx.array:
    first: mx.array = out[0] if isinstance(out, tuple) else out
    return first


def _first_of(out: Any, edit: Callable[[mx.array], mx.array]) -> Any:
    return (edit(out[0]), *out[1:]) if isinstance(out, tuple) else edit(out)
