"""A census of a tensor: what is not finite in it, what its run's dtype cannot hold, read a piece at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.diagnosis.weights.initialised import initial
from harness.diagnosis.weights.tensors import Tensor
from harness.metrics.finiteness import CHUNK, Tally
from harness.metrics.layouts import LAYOUTS, Bits, FloatLayout, layout_named
from harness.vocabulary import RowSummary

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Census:
    """What one tensor holds. `over` and `flushed` count values that the run's dtype makes infinite or zero."""

    tensor: Tensor
    counts: RowSummary
    all_zero: bool = False
    over: int = 0
    flushed: int = 0
    first_over: int | None = None
    start: str = ""
    """What MLX starts such a tensor with, where it is that: `initialised.py`."""


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
    layout = layout_named(tensor.dtype)
    if layout is None:
        return _integers(tensor)
    tally = Tally(layout)
    cast = _Cast(layout, LAYOUTS[dtype]) if dtype and dtype != tensor.dtype else None
    for start, piece in tensor.pieces():
        tally.add(piece)
        if cast:
            cast.add(start, piece)
    counts = tally.summary()
    zero = counts.finite and counts.absmax == 0
    lost = (cast.over, cast.flushed, cast.first_over) if cast else (0, 0, None)
    return Census(tensor, counts, zero, *lost, start=initial(tensor, counts))


class _Cast:
    """How many values of a tensor another dtype makes infinite or zero."""

    def __init__(self, layout: FloatLayout, target: FloatLayout):
        self.layout = layout
        # Rounding to nearest: half of the smallest number is still zero.
        self.high = _bits_at(layout, target.overflow)
        self.low = _bits_at(layout, math.nextafter(target.smallest / 2, 1.0))
        self.over = self.flushed = 0
        self.first_over: int | None = None

    def add(self, start: int, piece: Bits) -> None:
        for at in range(0, piece.size, CHUNK):
            magnitude = self.layout.magnitudes(piece[at : at + CHUNK])
            too_large = (magnitude >= self.high) & (magnitude < self.layout.infinity)
            if self.first_over is None and too_large.any():
                self.first_over = start + at + int(too_large.argmax())
            self.over += int(too_large.sum())
            self.flushed += int(((magnitude > 0) & (magnitude < self.low)).sum())


def not_finite(tensor: Tensor) -> Iterator[int]:
    """Yield the flat index of every value of a float tensor that is not finite, a piece at a time."""
    layout = layout_named(tensor.dtype)
    if layout is None:
        return
    for start, piece in tensor.pieces():
        for at in range(0, piece.size, CHUNK):
            found = np.flatnonzero(layout.not_finite(piece[at : at + CHUNK]))
            yield from (start + at + int(i) for i in found)


def _integers(tensor: Tensor) -> Census:
    zero = True
    for _, piece in tensor.pieces():
        zero = zero and not piece.any()
    size = math.prod(tensor.shape)
    return Census(tensor, RowSummary(size=size), all_zero=zero and size > 0)


def _bits_at(layout: FloatLayout, value: float) -> int:
    """Return the bits of the smallest magnitude of a layout that is at least `value`."""
    if value > layout.limit:
        return layout.infinity
    low, high = 0, layout.infinity
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if layout.value(middle) < value else (low, middle)
    return low
