"""Which rows a walk has at which moment: its plan, made before the walk and never changed.

    row 0   source run            rows 2..   one patched run each, in the order in which they part from the target
    row 1   target run

The life of a patched row:

    it begins    before the block of its layer, or after the block whose output is patched: a copy of the target's row
    a copy       until its moment. What a part of the block gives it is what the part gives the target, so a part that
                 ends before the moment is called without the row
    its moment   the source's activation is handed over, on the way into a module or out of it
    apart        from there to the logits the row is computed as every other

Rows are numbered by layer and moment. So those that are apart come first, at any moment, and those that are copies
last: how many rows a call needs is one number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.intercept import HookPoint
from harness.intercept.hookpoints import mlp_of
from harness.models.loaded import LoadedModel
from harness.patching.layout import BlockLayout, Call
from harness.patching.patch import Patch

SOURCE, TARGET = 0, 1
FIRST = 2
"""Rows before the first patched one."""


@dataclass(frozen=True)
class Group:
    """Rows with one moment: contiguous, each with positions and a head of its own."""

    point: HookPoint
    moment: float
    first: int
    patches: tuple[Patch, ...]

    @property
    def end(self) -> int:
        return self.first + len(self.patches)


@dataclass(frozen=True)
class GroupEnds:
    """Groups with their moment on the way into one module, and on the way out of it."""

    entering: tuple[Group, ...]
    leaving: tuple[Group, ...]


@dataclass(frozen=True)
class PartPlan:
    """One part of a block, and the rows it is called with: those with their moment before it ends."""

    module: Any
    call: Call
    rows: int
    ends: GroupEnds


@dataclass(frozen=True)
class BlockPlan:
    """One block: the rows that come in, those it is called with and those that go out, and the parts to tap."""

    layer: int
    block: Any
    call: Call
    before: int
    rows: int
    after: int
    ends: GroupEnds
    parts: tuple[PartPlan, ...]
    last_token: Any = None
    """The part that can be tried with the last token alone: the last block's MLP."""


@dataclass(frozen=True)
class WalkPlan:
    """Every block in order, and which row each patch is."""

    rows: Mapping[Patch, int]
    blocks: tuple[BlockPlan, ...]


def plan_walk(
    model: LoadedModel, blocks: Sequence[Any], patches: Sequence[Patch], tokens: int, layout: BlockLayout
) -> WalkPlan:
    """Return the plan of a walk of `tokens` tokens."""
    groups = _groups(patches, layout)
    last = _last_mlp(model, blocks, layout) if tokens > 1 else None
    plans, before = [], FIRST
    for layer, block in enumerate(blocks):
        here = [group for group in groups if group.point.layer == layer]
        plans.append(_block_plan(layer, block, before, here, layout, last if layer == len(blocks) - 1 else None))
        before = plans[-1].after
    return WalkPlan({patch: group.first + i for group in groups for i, patch in enumerate(group.patches)}, tuple(plans))


def _groups(patches: Sequence[Patch], layout: BlockLayout) -> list[Group]:
    together: dict[tuple[int, float, str], list[Patch]] = {}
    for patch in patches:
        key = (patch.point.layer, layout.moment(patch.point), patch.point.component)
        together.setdefault(key, []).append(patch)
    groups: list[Group] = []
    for key in sorted(together):
        first = groups[-1].end if groups else FIRST
        groups.append(Group(together[key][0].point, key[1], first, tuple(together[key])))
    return groups


def _block_plan(
    layer: int, block: Any, before: int, here: Sequence[Group], layout: BlockLayout, last_token: Any
) -> BlockPlan:
    ends, after = _ends(block, here), before + sum(len(group.patches) for group in here)
    rows = after - sum(len(group.patches) for group in ends.leaving)
    parts = [
        PartPlan(module, call, max((group.end for group in here if group.moment < call.ended), default=before),
                 _ends(module, here))
        for module in _to_tap(layer, block, here, layout, last_token)
        for call in [layout.parts[layer][id(module)]]
    ]  # fmt: skip
    return BlockPlan(layer, block, layout.blocks[layer], before, rows, after, ends, tuple(parts), last_token)


def _to_tap(layer: int, block: Any, here: Sequence[Group], layout: BlockLayout, last_token: Any) -> list[Any]:
    """Return the parts at which something is handed over, those that can be called without some row, and the last."""
    modules = {id(group.point.module): group.point.module for group in here if group.point.module is not block}
    latest = max((group.moment for group in here), default=-1.0)
    for module in layout.modules:
        call = layout.parts[layer].get(id(module))
        if call is not None and call.separable and call.ended < latest:
            modules[id(module)] = module
    if last_token is not None:
        modules[id(last_token)] = last_token
    return list(modules.values())


def _last_mlp(model: LoadedModel, blocks: Sequence[Any], layout: BlockLayout) -> Any:
    """Return the last block's MLP, if it is given nothing but the activation."""
    mlp = mlp_of(model, blocks[-1])
    call = layout.parts[-1].get(id(mlp))
    return mlp if call is not None and call.separable and call.inputs == 1 else None


def _ends(module: Any, groups: Sequence[Group]) -> GroupEnds:
    own = [group for group in groups if group.point.module is module]
    return GroupEnds(tuple(g for g in own if g.point.is_input), tuple(g for g in own if not g.point.is_input))
