"""The one count of what is not finite: NaN, +inf, -inf, the first of them, and the largest finite magnitude.

It is taken on the host and by the bits, whatever the dtype and wherever the numbers come from: a row of logits, what a
module returned, a weight in a file. A detector that only asks whether there is anything to count compares with the same
integers (`FloatLayout.infinity`).
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness.metrics.host import host_bits
from harness.metrics.layouts import FLOAT64, Bits, FloatLayout, layout_of
from harness.vocabulary import RowSummary

CHUNK = 1 << 22
"""Values looked at in one go: in float32 their magnitudes take 16 MB."""


def summarize(values: mx.array | npt.NDArray[np.float64]) -> RowSummary:
    """Count what is not finite in an array of any shape; `first` is a flat index.

    Takes an `mx.array`, in which integers are not looked at, or float64 of the host.
    """
    if isinstance(values, mx.array):
        layout = layout_of(values)
        return _counted(host_bits(values), layout) if layout else RowSummary(size=values.size)
    return _counted(np.asarray(values, np.float64).view(FLOAT64.unsigned), FLOAT64)


def _counted(bits: Bits, layout: FloatLayout) -> RowSummary:
    tally = Tally(layout)
    tally.add(bits.reshape(-1))
    return tally.summary()


class Tally:
    """A count that grows by the pieces of an array, in their order."""

    def __init__(self, layout: FloatLayout):
        self.layout, self.size = layout, 0
        self.nan = self.pos_inf = self.neg_inf = 0
        self.first: int | None = None
        self._largest = -1

    def add(self, bits: Bits) -> None:
        """Count flat bits, those that follow what was counted."""
        for start in range(0, bits.size, CHUNK):
            self._add(bits[start : start + CHUNK])

    def _add(self, bits: Bits) -> None:
        infinity = self.layout.infinity
        magnitudes = self.layout.magnitudes(bits)
        largest = int(magnitudes.max())
        if largest >= infinity:
            finite = magnitudes < infinity
            if self.first is None:
                self.first = self.size + int(finite.argmin())
            self.nan += int((magnitudes > infinity).sum())
            self.pos_inf += int((bits == infinity).sum())
            self.neg_inf += int((bits == (infinity | self.layout.sign)).sum())
            largest = int(magnitudes[finite].max()) if finite.any() else -1
        self._largest = max(self._largest, largest)
        self.size += bits.size

    def summary(self) -> RowSummary:
        absmax = None if self._largest < 0 else self.layout.value(self._largest)
        return RowSummary(self.nan, self.pos_inf, self.neg_inf, absmax, self.first, self.size)
