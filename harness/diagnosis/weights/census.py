"""A census of a tensor: what is not finite in it, what its run's dtype cannot hold, read a piece at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.diagnosis.trail.statistics import CHUNK, LAYOUTS, Counts, FloatLayout, counts_of_bits
from harness.diagnosis.weights.tensors import Tensor

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Census:
    """What one tensor holds. `over` and `flushed` count values that the run's dtype makes infinite or zero."""

    tensor: Tensor
    counts: Counts
    all_zero: bool = False
    over: int = 0
    flushed: int = 0
    first_over: int | None = None
    fresh: bool = False


def scan(tensors: Sequence[Tensor], dtype: str | None, progress: Progress | None = None) -> Iterator[Census]:
    """Yield a census of each tensor, held against the dtype it will run in. Raises BrokenFile while it reads."""
    total, done = sum(tensor.nbytes for tensor in tensors), 0
    for tensor in tensors:
        yield census(tensor, dtype)
        done += tensor.nbytes
        if progress:
            progress("weights", done, total)


def census(tensor: Tensor, dtype: str | None = None) -> Census:
    """Count what is in one tensor, a piece at a time."""
    layout = LAYOUTS.get(tensor.dtype)
    if layout is None:
        return _integers(tensor)
    target = LAYOUTS[dtype] if dtype and dtype != tensor.dtype else None
    bad, largest, over, flushed, first_over = Counts(0, None), -1, 0, 0, None
    for start, piece in tensor.pieces():
        for at in range(0, piece.size, CHUNK):
            part = piece[at : at + CHUNK]
            magnitude = part & layout.unsigned_mask
            top = int(magnitude.max())
            if top < layout.infinity:
                largest = max(largest, top)
            else:
                bad = _joined(bad, counts_of_bits(part, layout, part.shape), start + at)
            if target:
                high, low = _edges(layout, target)
                too_large = (magnitude >= high) & (magnitude < layout.infinity)
                if first_over is None and too_large.any():
                    first_over = start + at + int(too_large.argmax())
                over += int(too_large.sum())
                flushed += int(((magnitude > 0) & (magnitude < low)).sum())
    index = None if bad.first is None else tuple(int(i) for i in np.unravel_index(bad.first[0], tensor.shape or (1,)))
    size = math.prod(tensor.shape)
    finite = [value for value in (bad.absmax, layout.value(largest) if largest >= 0 else None) if value is not None]
    counts = Counts(size, max(finite, default=None), bad.nan, bad.pos_inf, bad.neg_inf, index)
    zero = size > 0 and index is None and largest == 0
    return Census(tensor, counts, zero, over, flushed, first_over, _is_fresh(tensor, counts))


def not_finite(tensor: Tensor) -> Iterator[int]:
    """Yield the flat index of every value that is not finite, a piece at a time."""
    layout = LAYOUTS[tensor.dtype]
    for start, piece in tensor.pieces():
        for at in range(0, piece.size, CHUNK):
            found = np.flatnonzero((piece[at : at + CHUNK] & layout.unsigned_mask) >= layout.infinity)
            yield from (start + at + int(i) for i in found)


def _is_fresh(tensor: Tensor, counts: Counts) -> bool:
    """Whether a matrix fills [-1/sqrt(inputs), 1/sqrt(inputs)] to the edge and evenly: kurtosis 1.8."""
    if (
        len(tensor.shape) != 2
        or not tensor.name.endswith(".weight")
        or counts.absmax is None
        or not counts.finite
        or counts.size < 1024
    ):
        return False
    bound = tensor.shape[-1] ** -0.5
    if not 0.995 * bound < counts.absmax <= 1.005 * bound:
        return False
    layout = LAYOUTS[tensor.dtype]
    bits = next(tensor.pieces())[1][:65536]
    wide = (bits.astype(np.uint32) << 16).view(np.float32) if layout.name == "bfloat16" else bits.view(layout.name)
    values = wide.astype(np.float64)
    variance = float((values**2).mean())
    return variance > 0 and 1.7 < float((values**4).mean()) / variance**2 < 1.9


def _integers(tensor: Tensor) -> Census:
    zero = True
    for _, piece in tensor.pieces():
        zero = zero and not piece.any()
    size = math.prod(tensor.shape)
    return Census(tensor, Counts(size, None), all_zero=zero and size > 0)


def _edges(layout: FloatLayout, target: FloatLayout) -> tuple[int, int]:
    """Return the bits from which a magnitude becomes infinite in the target dtype, and below which it becomes zero.

    Rounding to nearest: half a step above the limit, and half of the smallest number.
    """
    step = 2.0 ** (math.floor(math.log2(target.limit)) + 1 - target.mantissa)
    high, low = target.limit + step / 2, target.smallest / 2
    return _bits_at(layout, high), _bits_at(layout, math.nextafter(low, 1.0))


def _bits_at(layout: FloatLayout, value: float) -> int:
    """Return the bits of the smallest magnitude of a layout that is at least `value`."""
    if value > layout.limit:
        return layout.infinity
    low, high = 0, layout.infinity
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if layout.value(middle) < value else (low, middle)
    return low


def _joined(a: Counts, b: Counts, offset: int) -> Counts:
    first = a.first if a.first is not None else None if b.first is None else (offset + b.first[0],)
    largest = [value for value in (a.absmax, b.absmax) if value is not None]
    return Counts(0, max(largest, default=None), a.nan + b.nan, a.pos_inf + b.pos_inf, a.neg_inf + b.neg_inf, first)
