"""The shadow: is it the dtype's range, and which blocks need the wider one?

The run is repeated with every block in float32, and in bfloat16. If float32 is not finite either, the range is not the
cause. If it is, blocks are taken back into the run's own dtype until none can be taken back any more (Zeller's delta
debugging): what is left is a set of blocks that need the wider dtype, from which no member can be dropped.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

    def enough(kept: Sequence[int]) -> bool:
        progress("search for the blocks that need it", next(runs), 0)
        with mixed(root, frozenset(kept), narrow):
            return _finite(root, ids)

    return minimal(units, enough) if enough(units) else []


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
def mixed(root: Any, wide: frozenset[int], narrow: str) -> Iterator[None]:
    """Run the units of `wide` in float32 and the others in `narrow`, activations included, for the block's duration."""
    from mlx.utils import tree_flatten, tree_unflatten

    blocks = blocks_of(root)
    inside = {id(module) for block in blocks for _, module in block.named_modules()}
    before = tree_flatten(root.parameters())
    dtypes = {REST: mx.float32 if REST in wide else getattr(mx, narrow)}
    taps = []
    try:
        for layer, block in enumerate(blocks):
            dtype = mx.float32 if layer in wide else getattr(mx, narrow)
            block.set_dtype(dtype)
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


def _converting(dtype: mx.Dtype) -> Callable[..., Any]:
    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        def convert(value: Any) -> Any:
            floating = isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.floating)
            return value.astype(dtype) if floating else value

        return call(*map(convert, args), **{name: convert(value) for name, value in kwargs.items()})

    return handler
