"""The bits of float dtypes.

A float is looked at as the integer that holds its bits. Without the sign bit these integers order like the magnitudes,
infinity is one fixed integer and every NaN is a larger one. So a comparison of integers tells what is finite, and no
build has dropped an integer from a maximum, as some have dropped NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[Any]
"""Unsigned integers, as wide as the floats whose bits they are."""


@dataclass(frozen=True)
class FloatLayout:
    """A float dtype: its width, the integer that is +inf, and the numbers that it can hold."""

    name: str
    bits: int
    infinity: int
    limit: float
    """The largest finite value."""
    smallest: float
    mantissa: int

    @property
    def unsigned(self) -> str:
        return f"uint{self.bits}"

    @property
    def sign(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def overflow(self) -> float:
        """The smallest magnitude that rounds to infinity: half a last digit beyond the largest value."""
        return self.limit + 2.0 ** (math.floor(math.log2(self.limit)) - self.mantissa)

    def magnitudes(self, bits: Bits) -> Bits:
        """Return the bits without their sign."""
        magnitudes: Bits = bits & (self.sign - 1)
        return magnitudes

    def not_finite(self, bits: Bits) -> npt.NDArray[np.bool_]:
        """Return where bits are those of a NaN or an infinity."""
        found: npt.NDArray[np.bool_] = self.magnitudes(bits) >= self.infinity
        return found

    def floats(self, bits: Bits) -> npt.NDArray[Any]:
        """Return the floats that have these bits; those of bfloat16, which NumPy lacks, as float32."""
        # A bfloat16 is the upper half of a float32.
        return (bits.astype(np.uint32) << 16).view(np.float32) if self.name == "bfloat16" else bits.view(self.name)

    def value(self, magnitude: int) -> float:
        """Return the float that has these bits."""
        return float(self.floats(np.array([magnitude], self.unsigned))[0])


LAYOUTS: Mapping[str, FloatLayout] = {
    layout.name: layout
    for layout in (
        FloatLayout("float16", 16, 0x7C00, 65504.0, 2.0**-24, 11),
        FloatLayout("bfloat16", 16, 0x7F80, 3.3895313892515355e38, 2.0**-133, 8),
        FloatLayout("float32", 32, 0x7F800000, 3.4028234663852886e38, 2.0**-149, 24),
    )
}
"""What models are run in."""

FLOAT64 = FloatLayout("float64", 64, 0x7FF << 52, 1.7976931348623157e308, 2.0**-1074, 53)
"""What the harness computes in, and the CPU device can."""


def dtype_name(array: mx.array) -> str:
    return str(array.dtype).removeprefix("mlx.core.")


def layout_named(dtype: str) -> FloatLayout | None:
    """Return the layout of a float dtype; None for any other."""
    return FLOAT64 if dtype == "float64" else LAYOUTS.get(dtype)


def layout_of(array: mx.array) -> FloatLayout | None:
    """Return the layout of a float array; None for integers, truth values and complex numbers."""
    return layout_named(dtype_name(array))
