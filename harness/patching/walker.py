"""One walk over the layers with a batch that grows: each layer's weights are read once, instead of once a cell.

`rows.py` plans which rows there are at which moment; here the plan is carried out. Nothing of a model's forward is
written again: a tap on each block lets the batch grow, taps on its parts hand activations over and leave out the rows
that are the target's still, and all rows go on together.

Only the last token's logits are asked for, so the last block's MLP is called with the last token, after two rows have
shown that it comes out the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map_with_path

from harness.intercept import Tap, resolve_positions, slice_of, tapped
from harness.metrics.tolerances import Work, equal
from harness.models.loaded import LoadedModel
from harness.patching.layout import BlockLayout, OnePassImpossible, Prefix
from harness.patching.patch import Patch
from harness.patching.rows import FIRST, SOURCE, TARGET, BlockPlan, Group, PartPlan, plan_walk
from harness.support import progress

Args = tuple[tuple[Any, ...], dict[str, Any]]
Call = Callable[..., Any]


class Through(Enum):
    """How the last block is gone through: the only thing that changes while a walk goes on."""

    ALL_TOKENS = "as every block"
    UNTOUCHED = "as if nobody walked: the source and the target row, to compare with"
    LAST_TOKEN = "its MLP with the last token alone"


class Walker:
    """One walk over a model, by a plan."""

    def __init__(
        self,
        model: LoadedModel,
        blocks: Sequence[Any],
        patches: Sequence[Patch],
        tokens: int,
        layout: BlockLayout,
        prefix: Prefix,
    ):
        self.model, self.prefix = model, prefix
        self.tokens = tokens - prefix.tokens
        self.plan = plan_walk(model, blocks, patches, self.tokens, layout)
        self.rows = self.plan.rows
        self.evaluated = _OneBehind()
        self.through = Through.ALL_TOKENS

    def run(self, source: Sequence[int], target: Sequence[int]) -> mx.array:
        """Return the last token's logits of every row, `[2 + patches, vocab]`, evaluated."""
        taps = [tap for layer in range(len(self.plan.blocks)) for tap in self._taps(layer)]
        with tapped(self.model.module, taps):
            batch = mx.array([list(ids)[self.prefix.tokens :] for ids in (source, target)])
            logits = _first(self.model.module(batch, **self.prefix.handed))
            last: mx.array = logits.squeeze(1) if logits.shape[1] == 1 else logits[:, -1]
            mx.eval(last)
        if any(not tap.fired for tap in taps):
            raise OnePassImpossible("a module of the sweep was never called")
        if last.shape[0] != FIRST + len(self.rows):
            raise OnePassImpossible(f"{last.shape[0]} rows came out, {FIRST + len(self.rows)} were walked")
        return last

    def _taps(self, layer: int) -> list[Tap]:
        plan = self.plan.blocks[layer]
        parts = [Tap(part.module, self._part(part, part.module is plan.last_token)) for part in plan.parts]
        return [*parts, Tap(plan.block, self._block(plan, len(self.plan.blocks)))]

    # -- a block: rows are added, then all go through it ---------------------------------------------------------------

    def _block(self, plan: BlockPlan, blocks: int) -> Call:
        axes, last = plan.call.axes, plan.layer == blocks - 1
        call_it = self._called if plan.last_token is None else self._shortened

        def handler(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            progress.say("layer", plan.layer + 1, blocks)
            came = _activation(args, kwargs)[1].shape
            if came[0] != plan.before:
                raise OnePassImpossible(f"{came} came to layer {plan.layer}, where a walk has {plan.before} rows")
            args, kwargs = _along(axes, lambda value, axis: _grown(value, axis, plan.rows), (args, kwargs))
            name, x = _activation(args, kwargs)
            self.evaluated(x)
            args, kwargs = _with_activation(args, kwargs, name, self._hand_over(x, plan.ends.entering))
            out = call_it(plan, call, (args, kwargs))
            out = _first_of(out, lambda value: self._extended(value, plan.after, plan.ends.leaving))
            # The norm and the head after the last block need the last token only.
            return _first_of(out, lambda value: value[:, -1:]) if last else out

        return handler

    def _called(self, plan: BlockPlan, call: Call, given: Args) -> Any:
        return call(*given[0], **given[1])

    def _shortened(self, plan: BlockPlan, call: Call, given: Args) -> Any:
        """Call the last block with its MLP computing the last token, where that gives two rows what they should get.

        The MLP's output is then one token long and the residual add repeats it: right at the last token, and nobody
        asks for the others.
        """
        few = _along(plan.call.axes, lambda value, axis: _cut(value, axis, FIRST), given)
        wanted = self._called_through(Through.UNTOUCHED, plan, call, few)
        try:
            out = self._called_through(Through.LAST_TOKEN, plan, call, given)
        except ValueError:  # MLX's word for shapes that do not fit: this block does not just add its MLP's output
            return self._called(plan, call, given)
        return out if self._agree(_first(wanted), _first(out)) else self._called(plan, call, given)

    def _called_through(self, way: Through, plan: BlockPlan, call: Call, given: Args) -> Any:
        self.through = way
        try:
            return self._called(plan, call, given)
        finally:
            self.through = Through.ALL_TOKENS

    def _agree(self, wanted: mx.array, got: mx.array) -> bool:
        rows = range(FIRST)
        return wanted.ndim == got.ndim == 3 and all(
            equal(wanted[row, -1], got[row, -1], Work.OTHER_BATCH, card=self.model.card) for row in rows
        )

    # -- a part of a block: called with the rows that need it ----------------------------------------------------------

    def _part(self, part: PartPlan, last_token: bool) -> Call:
        def handler(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self.through is Through.UNTOUCHED:
                return call(*args, **kwargs)
            name, x = _activation(args, kwargs)
            given = _with_activation(args, kwargs, name, self._hand_over(x, part.ends.entering))
            args, kwargs = self._needed(part, given, last_token and self.through is Through.LAST_TOKEN)
            out = call(*args, **kwargs)
            if part.call.separable:
                return self._extended(out, x.shape[0], part.ends.leaving)
            return _first_of(out, lambda value: self._hand_over(value, part.ends.leaving))

        return handler

    def _needed(self, part: PartPlan, given: Args, short: bool) -> Args:
        if part.call.separable:
            given = _along(part.call.axes, lambda value, axis: _cut(value, axis, part.rows), given)
        if short:
            name, x = _activation(*given)
            given = _with_activation(*given, name, x[:, -1:])
        return given

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _extended(self, value: mx.array, rows: int, groups: Sequence[Group]) -> mx.array:
        """Return `[rows, ...]`: what was computed, the groups' rows with what they are given, copies of the target's.

        The groups' rows were not computed: where nothing is handed over they are the target's.
        """
        target = value[TARGET : TARGET + 1]
        pieces = [value, *(self._given(group, value, target) for group in groups)]
        copies = rows - sum(piece.shape[0] for piece in pieces)
        if copies:
            pieces.append(mx.broadcast_to(target, (copies, *value.shape[1:])))
        return mx.concatenate(pieces) if len(pieces) > 1 else value

    def _hand_over(self, value: mx.array, groups: Sequence[Group]) -> mx.array:
        """Return `value` with the source's activation in the groups' rows, at their positions."""
        for group in groups:
            if value.shape[0] < group.end:
                raise OnePassImpossible(f"{group.point}: {value.shape} has no row {group.end - 1}")
            given = self._given(group, value, value[group.first : group.end])
            value = mx.concatenate([value[: group.first], given, value[group.end :]])
        return value

    def _given(self, group: Group, value: mx.array, own: mx.array) -> mx.array:
        """Return `[rows, tokens, width]`: what is made of the source row of `value` where it is handed over, and `own`
        elsewhere."""
        if value.ndim != 3 or value.shape[1] not in (self.tokens, 1):
            raise OnePassImpossible(f"{group.point}: {value.shape} has no axis of {self.tokens} tokens")
        mask = self._mask(group, value.shape[-1])[:, -value.shape[1] :]
        return mx.where(mask, group.point.given(value[SOURCE : SOURCE + 1]), own)

    def _mask(self, group: Group, width: int) -> mx.array:
        """Return where the source's activation goes, `[rows, tokens, width]` or broadcast to it."""
        before, end = self.prefix.tokens, self.prefix.tokens + self.tokens
        chosen = [set(resolve_positions(patch.positions, end)) for patch in group.patches]
        where = mx.array([[token in each for token in range(before, end)] for each in chosen])[..., None]
        if group.point.head is None:
            return where
        return where & mx.stack([slice_of(patch.point, width) for patch in group.patches])[:, None]


class _OneBehind:
    """Starts computing an array, and waits for the one before.

    Called with what each block is given: an interrupt waits for two blocks and not for the sweep, the buffers of
    earlier ones are free, and the next is prepared while this one is multiplied.
    """

    def __init__(self) -> None:
        self.behind: mx.array | None = None

    def __call__(self, x: mx.array) -> None:
        mx.async_eval(x)  # type: ignore[no-untyped-call]
        if self.behind is not None:
            mx.eval(self.behind)
        self.behind = x


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
