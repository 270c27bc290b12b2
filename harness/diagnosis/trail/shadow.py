"""The shadow: is it the dtype's range, and which blocks need the wider one?

The run is repeated with every block in float32, and in bfloat16. If float32 is not finite either, the range is not the
cause. If it is, blocks are taken back into the run's own dtype until none can be taken back any more (Zeller's delta
debugging): what is left is a set of blocks that need the wider dtype, from which no member can be dropped.

Most of that is known from one run in float32 in which every block is called a second time, narrow, on the same input: a
block that is not finite there cannot be taken back, whatever the others do. That this reaches the output is tried out
on some of them; where it does not, every block is tried. What follows from runs already made is not run again: a larger
set than one that is enough is enough, a smaller one than one that is not is not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx

from harness.diagnosis.subject import cast_to
from harness.diagnosis.trail.flow import Trail
from harness.diagnosis.trail.statistics import StatisticsProbe
from harness.intercept import Tap, tapped
from harness.intercept.outputs import activation_of
from harness.metrics import summarize
from harness.metrics.layouts import layout_of
from harness.models.architectures import blocks_of
from harness.models.loaded import LoadedModel
from harness.support.ranges import ranges
from harness.vocabulary.errors import UsageError, described

REST = -1
"""The unit that is everything after the last block: the last norm and the head."""


@dataclass(frozen=True)
class Shadow:
    """What wider runs say: `needed` are the layers that need float32 (REST for what follows the last block)."""

    ran: bool
    summary: str
    float32: bool | None = None
    bfloat16: bool | None = None
    needed: tuple[int, ...] = ()

    def evidence(self) -> dict[str, Any]:
        """Return what the runs in other dtypes gave, as JSON types."""
        said = {True: "finite", False: "not finite", None: "not run"}
        units = ["rest" if unit == REST else unit for unit in self.needed]
        return {"float32": said[self.float32], "bfloat16": said[self.bfloat16], "needs_float32": units}


Progress = Callable[[str, int, int], None]
_WIDE = ("float32", "bfloat16")


def shadow(model: LoadedModel, trail: Trail, progress: Progress) -> Shadow:
    """Repeat a run that is not finite in wider dtypes; `progress` is told (what, done, of how many, 0 for unknown)."""
    narrow = trail.suspect.frame.dtype if trail.suspect else model.card.dtype
    if narrow == "float32":
        return Shadow(False, "the run is in float32 already, so its range is not the cause")
    if trail.inner():
        return Shadow(False, "a patched run has activations of its own dtype")
    try:
        wide = {}
        for number, dtype in enumerate(_WIDE, 1):
            wide[dtype] = _finite_in(model.module, trail.ids, dtype)
            progress("run in a wider dtype", number, len(_WIDE))
        if not wide["float32"]:
            return Shadow(
                True, "float32 is not finite either, so the dtype's range is not the cause", False, wide["bfloat16"]
            )
        needed = tuple(_needed(model.module, trail.ids, narrow, progress))
    except (ValueError, RuntimeError, UsageError, AttributeError) as error:
        return Shadow(False, f"no wider run could be made ({described(error)})")
    said = "float32 and bfloat16 are finite" if wide["bfloat16"] else "float32 is finite, bfloat16 is not"
    every = ", and none of them can be left out" if len(needed) > 1 else ""
    which = f"; it is enough to run {_named(needed)} in float32{every}" if needed else ""
    return Shadow(
        True,
        f"{said}: {narrow}'s range is the cause{which}",
        True,
        wide["bfloat16"],
        needed,
    )


def _named(units: Sequence[int]) -> str:
    layers = [unit for unit in units if unit != REST]
    blocks = f"block{'s' if len(layers) > 1 else ''} {ranges(layers, ' to ')}" if layers else ""
    return " and ".join(filter(None, (blocks, "the last norm and head" if REST in units else "")))


def _finite_in(root: Any, ids: Sequence[int], dtype: str) -> bool:
    with cast_to(root, dtype):
        return _finite(root, ids)


def _finite(root: Any, ids: Sequence[int]) -> bool:
    logits = activation_of(root(mx.array([list(ids)])))
    layout = layout_of(logits)
    if layout is None:
        return False
    if StatisticsProbe(logits, layout).magnitude() < layout.infinity:
        return True
    return summarize(logits).only_neg_inf


def _needed(root: Any, ids: Sequence[int], narrow: str, progress: Progress) -> list[int]:
    units, runs = [*range(len(blocks_of(root))), REST], itertools.count(1)
    seen: set[int] = set()

    def finite(kept: frozenset[int], watch: Callable[[int], None] | None = None) -> bool:
        progress("search for the blocks that need it", next(runs), 0)
        with mixed(root, kept, narrow, watch):
            return _finite(root, ids)

    if not finite(frozenset(units), seen.add):
        return []
    known, alone = WideSets(finite, [frozenset(units)]), sorted(seen)
    if not any(known(_without(units, unit)) for unit in _some(alone)):
        known.not_enough += [frozenset(_without(units, unit)) for unit in alone]
        needed = alone if known(_without(units, REST)) else [*alone, REST]
        if known(needed):
            return needed
    return minimal(units, known)


_TRIED = 4
"""Blocks that are taken back by themselves, to see that what is not finite reaches the output."""


def _some(alone: Sequence[int]) -> list[int]:
    """Return the first, the last and some between: a model that makes it finite again does so somewhere."""
    step = max(1, (len(alone) - 1) / (_TRIED - 1))
    return sorted({alone[round(i * step)] for i in range(min(_TRIED, len(alone)))})


def _without(units: Sequence[int], one: int) -> list[int]:
    return [unit for unit in units if unit != one]


@dataclass
class WideSets:
    """Whether a set of wide blocks is enough, as `finite` runs it where that does not follow from earlier runs."""

    finite: Callable[[frozenset[int]], bool]
    enough: list[frozenset[int]] = field(default_factory=list)
    not_enough: list[frozenset[int]] = field(default_factory=lambda: [frozenset()])
    """None of them is not enough: that is the run which is diagnosed."""

    def __call__(self, kept: Sequence[int]) -> bool:
        wide = frozenset(kept)
        if any(wide >= each for each in self.enough):
            return True
        if any(wide <= each for each in self.not_enough):
            return False
        found = self.finite(wide)
        (self.enough if found else self.not_enough).append(wide)
        return found


def minimal(units: list[int], enough: Callable[[Sequence[int]], bool]) -> list[int]:
    """Return a part of the units that is enough and from which no member can be dropped. `units` must be enough."""
    kept, size = list(units), len(units)
    while size:
        start = 0
        while start < len(kept):
            without = kept[:start] + kept[start + size :]
            if without and enough(without):
                kept = without
            else:
                start += size
        # A member that had to stay next to another may go without it: the last pass is repeated until nothing goes.
        size = size // 2 if size > 1 else 0
    return _settled(kept, enough)


def _settled(kept: list[int], enough: Callable[[Sequence[int]], bool]) -> list[int]:
    for unit in list(kept):
        without = [other for other in kept if other != unit]
        if without and enough(without):
            return _settled(without, enough)
    return kept


@contextmanager
def mixed(root: Any, wide: frozenset[int], narrow: str, watch: Callable[[int], None] | None = None) -> Iterator[None]:
    """Run the units of `wide` in float32 and the others in `narrow`, activations included, for the block's duration.

    `watch` is told the blocks that are wide and finite, and narrow on the same input are not.
    """
    from mlx.utils import tree_flatten, tree_unflatten

    blocks = blocks_of(root)
    inside = {id(module) for block in blocks for _, module in block.named_modules()}
    before = tree_flatten(root.parameters())
    dtypes = {REST: mx.float32 if REST in wide else getattr(mx, narrow)}
    taps = []
    try:
        for layer, block in enumerate(blocks):
            dtype = mx.float32 if layer in wide else getattr(mx, narrow)
            own = tree_flatten(block.parameters())
            block.set_dtype(dtype)
            if watch is not None and layer in wide:
                taps.append(Tap(block, _both(block, own, getattr(mx, narrow), partial(watch, layer))))
            taps.append(Tap(block, _converting(dtype)))
        for module in _after(root, inside):
            module.set_dtype(dtypes[REST])
            taps.append(Tap(module, _converting(dtypes[REST])))
        with tapped(root, taps):
            yield
    finally:
        root.update(tree_unflatten(before))


def _after(root: Any, inside: set[int]) -> Iterator[Any]:
    """The modules outside the blocks that hold weights of their own, but for embeddings."""
    for _, module in root.named_modules():
        leaf = not list(module.children().values()) or not any(module.children().values())
        if id(module) in inside or not leaf or "mbed" in type(module).__name__:
            continue
        yield module


def _both(block: Any, own: list[tuple[str, Any]], narrow: mx.Dtype, tell: Callable[[], None]) -> Callable[..., Any]:
    """Return a handler that calls a wide block, and once more as it was, in its own dtype."""
    from mlx.utils import tree_flatten, tree_unflatten

    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = call(*args, **kwargs)
        wide = tree_flatten(block.parameters())
        block.update(tree_unflatten(own))
        block.set_dtype(narrow)
        try:
            again = _converting(narrow)(call, args, kwargs)
            if _all_finite(out) and not _all_finite(again):
                tell()
        finally:
            block.update(tree_unflatten(wide))
        return out

    return handler


def _all_finite(out: Any) -> bool:
    value = activation_of(out)
    layout = layout_of(value)
    return layout is None or StatisticsProbe(value, layout).magnitude() < layout.infinity


def _converting(dtype: mx.Dtype) -> Callable[..., Any]:
    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        def convert(value: Any) -> Any:
            floating = isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.floating)
            return value.astype(dtype) if floating else value

        return call(*map(convert, args), **{name: convert(value) for name, value in kwargs.items()})

    return handler
