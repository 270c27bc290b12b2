"""Is a model still what it was? Parameter names, order, shapes, dtypes, bits, and the class of every module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx

_WORD = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}


@dataclass(frozen=True)
class Fingerprint:
    """Two models with equal fingerprints compute the same; the sums wrap, so any single changed bit shows."""

    parameters: tuple[tuple[Any, ...], ...]
    classes: tuple[tuple[str, type], ...]

    def difference(self, later: Fingerprint) -> str | None:
        """Return what changed, or None."""
        for what, before, after in (
            ("parameter", self.parameters, later.parameters),
            ("module class", self.classes, later.classes),
        ):
            if before == after:
                continue
            if len(before) == len(after) and set(before) == set(after):
                moved = next(a[0] for b, a in zip(before, after, strict=True) if b != a)
                return f"the order of the {what} entries changed, from {moved!r} on; every value is what it was"
            changed = [b[0] for b, a in zip(before, after, strict=False) if b != a]
            if not changed:
                return f"{len(after)} {what} entries instead of {len(before)}"
            return f"{what} {changed[0]!r} changed ({len(changed)} in all)"
        return None


def fingerprint(module: Any) -> Fingerprint:
    """Read every parameter once, on the device that holds it."""
    from mlx.utils import tree_flatten

    named = tree_flatten(module.parameters())
    sums = [_sums(value) for _, value in named]
    mx.eval(sums)
    parameters = tuple(
        (name, str(value.dtype), tuple(value.shape), plain.item(), weighted.item())
        for (name, value), (plain, weighted) in zip(named, sums, strict=True)
    )
    return Fingerprint(parameters, tuple((name, type(child)) for name, child in module.named_modules()))


def _sums(value: mx.array) -> tuple[mx.array, mx.array]:
    words = value.view(_WORD[value.dtype.size]).flatten().astype(mx.uint32)
    weights = mx.arange(words.size, dtype=mx.uint32) * 2 + 1
    return mx.sum(words), mx.sum(words * weights)
