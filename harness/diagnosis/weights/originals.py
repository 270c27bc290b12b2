"""Weights held against those that they were made from: how far from its original may a weight be?

A cast moves a weight by half a unit in the last place. Quantising puts it on the nearest level of its group, half a
step away at most (`quantised.py`). What is farther was made of something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.diagnosis.outcome.nouns import SUSPECTED, PlacedFinding
from harness.diagnosis.weights.naming import listed, place_of, role_of
from harness.diagnosis.weights.quantised import QuantisedMatrix, Values
from harness.diagnosis.weights.tensors import Tensor
from harness.metrics.host import widened
from harness.metrics.layouts import layout_named

RELATED = 0.5
"""Share of a weight's size from which a difference is no change of it any more."""


@dataclass(frozen=True)
class _Apart:
    """How a tensor differs from an original: groups (of one row, unquantised: values), by how many half steps, and the
    size of the difference as a share of the original's."""

    name: str
    bad: int
    total: int
    most: float
    share: float
    quantised: bool
    first: int

    def __str__(self) -> str:
        size = f"and by {100 * self.share:.3g} % of its size"
        if not self.quantised:
            return f"{self.bad:,} of {self.total:,} values by more than a rounding, {size}"
        return (
            f"{self.bad:,} of {self.total:,} groups by more than half a step, up to {1 + self.most:.3g} of them, {size}"
        )


def against_originals(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> list[PlacedFinding]:
    """Return the tensors that were not made of their originals, the first by name, the others counted."""
    pairs = [(name, before[original]) for name in after if (original := _original(name)) in before]
    if not pairs:
        place = place_of(next(iter(after), ""))
        text = "no tensor of the folder that the weights are said to come from has the name of one here"
        return [PlacedFinding.of("DIA110", text, place, SUSPECTED, tensors=[], of=len(after))]
    apart, shapes = [], []
    for name, tensor in pairs:
        found = _apart(name, after, tensor)
        if isinstance(found, str):
            shapes.append((name, found))
        elif found is not None and found.bad:
            apart.append(found)
    return [*_told(apart, after, before, len(pairs)), *_shapes(shapes)]


def _told(
    apart: Sequence[_Apart], after: Mapping[str, Tensor], before: Mapping[str, Tensor], pairs: int
) -> Iterator[PlacedFinding]:
    if not apart:
        return
    first = max(apart, key=lambda each: (each.share > RELATED, -apart.index(each)))
    why = _recognised(first, after, before) or (
        "as if an adapter was left out or put in, or as another method of quantising chooses its levels"
        if first.share <= RELATED
        else "it has nothing of its original"
    )
    others = [each.name for each in apart if each is not first]
    more = f"; so do {len(others)} more of {pairs}: {listed(others)}" if others else f"; the other {pairs - 1} agree"
    message = f"{first.name} differs from its original in {first}: {why}{more}"
    yield PlacedFinding.of(
        "DIA110",
        message,
        place_of(first.name, first.first),
        groups=first.bad,
        of=first.total,
        half_steps=1 + first.most,
        share=first.share,
        tensors=[each.name for each in apart],
    )


def _shapes(found: Sequence[tuple[str, str]]) -> Iterator[PlacedFinding]:
    for name, text in found[:1]:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        yield PlacedFinding.of("DIA110", f"{name} {text}{more}", place_of(name), tensors=[each for each, _ in found])


def _apart(name: str, after: Mapping[str, Tensor], original: Tensor) -> _Apart | str | None:
    """Compare a tensor with an original; text for other shapes, None for what cannot be compared."""
    mine = after[name]
    if layout_named(original.dtype) is None or not original.shape:
        return None
    quantised = QuantisedMatrix.named(name, after, original.shape[-1])
    if quantised is None and layout_named(mine.dtype) is None:
        return None
    shape = quantised.shape if quantised else mine.shape
    if tuple(shape) != tuple(original.shape):
        if shape == original.shape[::-1]:
            return f"has the shape {list(shape)} of the transpose of its original"
        return f"has the shape {list(shape)}, its original {list(original.shape)}"
    return (
        _counted(quantised, _values(original).reshape(-1, quantised.columns))
        if quantised
        else _of_values(mine, original)
    )


def _counted(mine: QuantisedMatrix, wanted: Values) -> _Apart:
    bad = total = first = 0
    most, square, size = 0.0, 0.0, 0.0
    for start, stored, groups in mine.pieces():
        weights = wanted[start : start + len(stored)].reshape(stored.shape)
        with np.errstate(invalid="ignore", over="ignore"):
            known = np.isfinite(weights) & np.isfinite(stored)
            excess = np.where(known, groups.excess(weights, stored), 0).max(axis=-1)
            square += float(np.where(known, (weights - stored) ** 2, 0).sum())
            size += float(np.where(known, weights**2, 0).sum())
        if not bad and (excess > 0).any():
            first = start + int(np.argwhere(excess > 0)[0][0])
        bad, total, most = bad + int((excess > 0).sum()), total + excess.size, max(most, float(excess.max()))
    return _Apart(mine.name, bad, total, most, _share(square, size), True, first)


def _of_values(mine: Tensor, original: Tensor) -> _Apart:
    a, b = _values(mine), _values(original)
    layouts = [layout for each in (mine, original) if (layout := layout_named(each.dtype)) is not None]
    unit = max(2.0**-layout.mantissa for layout in layouts)
    least = max(layout.smallest for layout in layouts)
    rounding = unit * np.abs(b) + least / 2
    with np.errstate(invalid="ignore", over="ignore"):
        known = np.isfinite(a) & np.isfinite(b)
        excess = np.where(known, np.abs(a - b) / (1.01 * rounding) - 1, 0)
        share = _share(float(np.where(known, (a - b) ** 2, 0).sum()), float(np.where(known, b**2, 0).sum()))
    bad = excess > 0
    first = int(bad.argmax()) // (mine.shape[-1] if len(mine.shape) > 1 else 1)
    return _Apart(mine.name, int(bad.sum()), a.size, float(excess.max(initial=0)), share, False, first)


def _share(square: float, size: float) -> float:
    return float(np.sqrt(square / size)) if size else float(square > 0)


def _recognised(found: _Apart, after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> str:
    """Return which other original a tensor was made of: that of another layer, or its own transposed."""
    name, own = found.name, before[_original(found.name)]
    for other, tensor in before.items():
        if other != _original(name) and role_of(other) == role_of(_original(name)) and tensor.shape == own.shape:
            match = _apart(name, after, tensor)
            if isinstance(match, _Apart) and not match.bad:
                return f"it is {other} of the originals"
    if len(own.shape) == 2 and own.shape[0] == own.shape[1] and _is_transposed(name, after, own):
        return "it is its original transposed"
    return ""


def _is_transposed(name: str, after: Mapping[str, Tensor], own: Tensor) -> bool:
    turned = np.ascontiguousarray(_values(own).reshape(own.shape).T)
    quantised = QuantisedMatrix.named(name, after, own.shape[-1])
    if quantised is not None:
        return not _counted(quantised, turned).bad
    mine = _values(after[name]).reshape(own.shape)
    return bool(np.allclose(mine, turned, rtol=1e-2, atol=1e-6))


def _original(name: str) -> str:
    """Return what a tensor was called before an adapter was put around its layer."""
    return re.sub(r"\.(linear|embedding)\.(?=[^.]+$)", ".", name)


def _values(tensor: Tensor) -> Any:
    layout = layout_named(tensor.dtype)
    assert layout is not None
    return widened(layout.floats(tensor.flat()))
