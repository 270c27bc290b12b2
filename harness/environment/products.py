"""Whether float32 matrix products keep the digits of float32: M5 GPUs multiply it at 11 bits (TF32) unless told not to.

A matrix with a single 1 in each column picks one factor for each sum. All other terms are 0, so that a float32 kernel
returns the factor itself to the last bit, in whatever order it sums; a kernel that shortens its factors does not.
Kernels are chosen by shape, so several shapes are asked, each with the picked factor on either side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx
import numpy as np

WHOLE = 24
"""Bits of a float32 significand, the leading one counted."""

ENOUGH = 22
"""Fewer are no float32 product. Float32 put together from three shorter products may lose the last bit or two."""

TF32 = range(10, 15)
"""Bits of a product whose factors were rounded to TF32's 11 bits; noise of that size on a sum may leave some more."""

SHAPES: Mapping[str, tuple[int, ...]] = {
    "a row": (1, 1024, 256),
    "a few rows": (4, 512, 1024),
    "many rows": (128, 512, 512),
    "a long sum": (16, 8192, 16),
    "a batch": (3, 64, 128, 48),
}
"""`[..., rows, summed, columns]`: what matrix-vector, wide matrix-vector, matrix-matrix, split-K and batched kernels
take."""


@dataclass(frozen=True)
class ProductBits:
    """How many bits the worst of the products kept, and which that was."""

    bits: float
    worst: str

    @property
    def whole(self) -> bool:
        return self.bits >= ENOUGH

    def __str__(self) -> str:
        kept = f"{self.bits:.0f} of {WHOLE} bits"
        if self.whole:
            return f"{kept} kept in products of {len(SHAPES)} shapes"
        name = " (TF32)" if int(self.bits) in TF32 else ""
        return (
            f"a float32 product ({self.worst}) keeps {kept}{name}, fewer than float32 has; "
            "set MLX_ENABLE_TF32=0 before Python imports MLX"
        )


def examine() -> ProductBits:
    """Multiply in every shape and return how many bits are left in the worst.

    A process asks once for each device, and again where a product was replaced: a kernel does not change.
    """
    return _examined(str(mx.default_device()), (mx.matmul, mx.addmm))


@lru_cache(maxsize=4)
def _examined(device: str, in_use: tuple[Callable[..., mx.array], ...]) -> ProductBits:
    return min((ProductBits(bits, name) for name, bits in _kept()), key=lambda each: each.bits)


def _kept() -> Iterator[tuple[str, float]]:
    generator = np.random.default_rng(0)
    for name, (*batch, rows, summed, columns) in SHAPES.items():
        left, right = (*batch, rows, summed), (*batch, summed, columns)
        shown = f"{name} {list(left)} x {list(right)}"
        picked = generator.integers(summed, size=columns)
        values, ones = _factors(generator, left), np.zeros(right, np.float32)
        ones[..., picked, np.arange(columns)] = 1
        wanted = values[..., picked]
        for op, product in (("", mx.matmul), (" added to 0", _added)):
            yield shown + op, _bits(product(mx.array(values), mx.array(ones)), wanted)
        picked = generator.integers(summed, size=rows)
        values, ones = _factors(generator, right), np.zeros(left, np.float32)
        ones[..., np.arange(rows), picked] = 1
        yield shown, _bits(mx.matmul(mx.array(ones), mx.array(values)), values[..., picked, :])


def _factors(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 values between 1/2 and 1 that need the last of their 24 bits."""
    return ((generator.integers(2**22, 2**23, shape) * 2 + 1) / 2.0**24).astype(np.float32)


def _added(left: mx.array, right: mx.array) -> mx.array:
    return mx.addmm(mx.zeros((1,)), left, right)


def _bits(got: mx.array, wanted: np.ndarray) -> float:
    exact = wanted.astype(np.float64)
    off = float(np.max(np.abs(np.array(got).astype(np.float64) - exact) / exact))
    return WHOLE if off == 0 else max(0.0, -math.log2(off)) if math.isfinite(off) else 0.0
