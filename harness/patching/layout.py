"""How a model calls its blocks and their parts: what a walk has to know before it lets the batch grow.

The model is called with a batch of one and with a batch of two, under taps that note shapes and order. MLX is lazy, so
nothing is evaluated. Guessing from the number of axes would be wrong: a mask may be `[tokens, tokens]`,
`[batch, 1, tokens, tokens]`, or a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from harness.intercept import HookPoint, Tap, tapped
from harness.intercept.hookpoints import parts_of
from harness.models.loaded import LoadedModel
from harness.vocabulary.errors import HarnessError


class OnePassImpossible(HarnessError):
    """This model's blocks cannot be walked with a growing batch; the text says why."""


@dataclass(frozen=True)
class Prefix:
    """How many tokens both prompts begin with that are run once, and the model's caches that hold them."""

    tokens: int = 0
    caches: Any = field(default=None, repr=False)

    @property
    def handed(self) -> dict[str, Any]:
        """What the model is called with beside the rest of the tokens."""
        return {"cache": self.caches} if self.caches else {}


@dataclass(frozen=True)
class Call:
    """How one module is called within a forward pass: when, with what, and whether rows can be left out of it."""

    began: int
    ended: int
    axes: Mapping[str, int]
    """The path of each input that carries a batch axis, and which axis that is."""
    inputs: int = 1
    """How many arrays it is given."""
    separable: bool = False
    """It is given rows and returns one array of as many rows, so it can be called with fewer of them."""


@dataclass(frozen=True)
class BlockLayout:
    """The calls of the blocks, and for every block those of its parts that it calls exactly once, by module."""

    blocks: Sequence[Call]
    parts: Sequence[Mapping[int, Call]]
    modules: Sequence[Any] = field(repr=False)
    """Kept, so that no id is used again by another module while this layout lives."""

    def moment(self, point: HookPoint) -> float:
        """Return when a hook point's activation is there, within its layer's block."""
        call = self.parts[point.layer].get(id(point.module))
        if call is None:
            return -1.0 if point.is_input else float("inf")
        return call.began if point.is_input else call.ended

    def after(self, layer: int, mixers: Iterable[Any]) -> float:
        """Return when all of a layer's `mixers` have been called: infinity where that cannot be told."""
        calls = [self.parts[layer].get(id(mixer)) for mixer in mixers]
        return max((float("inf") if call is None else call.ended for call in calls), default=float("inf"))


def layout_of(
    model: LoadedModel, blocks: Sequence[Any], ids: Sequence[int], points: Iterable[HookPoint], prefix: Prefix
) -> BlockLayout:
    """Return how the blocks and their parts are called. Raises OnePassImpossible where a batch cannot grow.

    Remembered on the model for as long as its blocks and parts are the same modules.
    """
    inside = {(point.layer, id(point.module)): point.module for point in points}
    inside |= {(layer, id(each)): each for layer, block in enumerate(blocks) for each in parts_of(model, block)}
    inside = {(layer, key): each for (layer, key), each in inside.items() if each is not blocks[layer]}
    key = (len(ids), prefix.tokens, tuple(map(id, blocks)), tuple(inside))
    if key not in model.layouts:
        model.layouts[key] = _examined(model, blocks, ids[prefix.tokens :], inside, prefix)
    found: BlockLayout = model.layouts[key]
    missing = [p for p in points if p.module is not blocks[p.layer] and id(p.module) not in found.parts[p.layer]]
    if missing:
        raise OnePassImpossible(f"{missing[0]}: the module is not called exactly once in its block")
    return found


def _examined(
    model: LoadedModel,
    blocks: Sequence[Any],
    ids: Sequence[int],
    inside: Mapping[tuple[int, int], Any],
    prefix: Prefix,
) -> BlockLayout:
    one, two = (_Watch(model, blocks, inside).run([list(ids)] * batch, prefix) for batch in (1, 2))
    if len(one) != len(two) or any(a.who != b.who or a.shapes.keys() != b.shapes.keys() for a, b in zip(one, two)):  # noqa: B905  lengths are compared first
        raise OnePassImpossible("the blocks get other inputs for a batch of two than for a batch of one")
    pairs = list(zip(one, two, strict=True))
    of_blocks = [_call(a, b) for a, b in pairs if a.module is None]
    parts: list[dict[int, Call]] = [{} for _ in blocks]
    times = [a.who for a, _ in pairs]
    for a, b in pairs:
        if a.module is not None and times.count(a.who) == 1 and a.layer == a.within:
            parts[a.layer][a.module] = _part(a, b)
    return BlockLayout(of_blocks, parts, [*blocks, *inside.values()])


@dataclass
class _Seen:
    """One call, as a watch saw it; a block has no `module`. `within` is the block it happened in."""

    layer: int
    module: int | None
    within: int
    began: int
    shapes: Mapping[str, tuple[int, ...]]
    ended: int = 0
    out: tuple[int, ...] | None = None

    @property
    def who(self) -> tuple[int, int | None]:
        return self.layer, self.module


class _Watch:
    """Taps that note every call of the blocks and their parts."""

    def __init__(self, model: LoadedModel, blocks: Sequence[Any], inside: Mapping[tuple[int, int], Any]):
        self.model, self.blocks = model, blocks
        self.seen: list[_Seen] = []
        self.clock, self.within = 0, -1
        self.taps = [Tap(module, self._noter(layer, key)) for (layer, key), module in inside.items()]
        self.taps += [Tap(block, self._noter(layer, None)) for layer, block in enumerate(blocks)]

    def run(self, batch: list[list[int]], prefix: Prefix) -> list[_Seen]:
        with tapped(self.model.module, self.taps):
            self.model.module(mx.array(batch), **prefix.handed)
        order = [seen.layer for seen in self.seen if seen.module is None]
        if order != list(range(len(self.blocks))):
            ran = f"run in the order {order}" if order else "are not called as wholes"
            raise OnePassImpossible(f"the blocks {ran}, not each once from first to last")
        return self.seen

    def _noter(self, layer: int, module: int | None) -> Callable[..., Any]:
        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self.within = layer if module is None else self.within
            flat = tree_flatten((args, kwargs))
            shapes = {path: tuple(leaf.shape) for path, leaf in flat if isinstance(leaf, mx.array)}
            seen = _Seen(layer, module, self.within, self._tick(), shapes)
            self.seen.append(seen)
            out = call(*args, **kwargs)
            seen.ended = self._tick()
            seen.out = tuple(out.shape) if isinstance(out, mx.array) else None
            return out

        return handler

    def _tick(self) -> int:
        self.clock += 1
        return self.clock


def _call(one: _Seen, two: _Seen) -> Call:
    axes = {path: axis for path in one.shapes if (axis := _axis(one.shapes[path], two.shapes[path])) is not None}
    # Inputs without a batch axis are the same for every row; outputs with one have it in front.
    separable = bool(axes) and one.out is not None and two.out == (2 * one.out[0], *one.out[1:]) and one.out[0] == 1
    return Call(one.began, one.ended, axes, len(one.shapes), separable)


def _part(one: _Seen, two: _Seen) -> Call:
    """Return the call of a part, which is given all rows where its batch axes are not clear."""
    try:
        return _call(one, two)
    except OnePassImpossible:
        return Call(one.began, one.ended, {}, len(one.shapes))


def _axis(one: tuple[int, ...], two: tuple[int, ...]) -> int | None:
    if one == two:
        return None
    if len(one) == len(two):
        grown = [axis for axis, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        if len(grown) == 1 and two[grown[0]] == 2 * one[grown[0]] == 2:
            return grown[0]
    raise OnePassImpossible(f"an input of shape {one} becomes {two} for a batch of two")
