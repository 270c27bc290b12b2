"""Quantised matrices: what they hold, group by group, and how far from a weight its nearest level may be.

A matrix is stored as packed words, scales and, in the affine mode, biases. With the number of its columns, mode, group
size and bits follow from the shapes and dtypes of the three, so that no configuration has to be believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import sqrt
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness.diagnosis.weights.tensors import Tensor
from harness.metrics.host import widened
from harness.metrics.layouts import LAYOUTS, layout_named
from harness.models.dequantised import quantised_layers

Values = npt.NDArray[np.float64]

CHUNK = 1 << 21
"""Values that are dequantised at once."""
ONE = 127
"""The byte of an E8M0 scale of 1."""


@dataclass(frozen=True)
class QuantisedMatrix:
    """A matrix `[rows, columns]` in groups along its columns; leading axes, such as experts, count as rows."""

    name: str
    packed: Tensor
    scales: Tensor
    biases: Tensor | None
    columns: int

    @classmethod
    def named(cls, name: str, tensors: Mapping[str, Tensor], columns: int) -> QuantisedMatrix | None:
        """Return the quantised matrix of a name, or None where it is none, or of a mode that is not known here."""
        stem = name.removesuffix("weight")
        packed, scales = tensors.get(name), tensors.get(f"{stem}scales")
        if packed is None or scales is None or packed.dtype != "uint32" or not name.endswith("weight"):
            return None
        found = cls(name, packed, scales, tensors.get(f"{stem}biases"), columns)
        return found if columns % scales.shape[-1] == 0 and found.mode else None

    @property
    def mode(self) -> str:
        """Affine, mxfp4, nvfp4 or mxfp8; nothing for a mode that is not known here."""
        if self.biases is not None:
            return "affine"
        return {(32, 4): "mxfp4", (16, 4): "nvfp4", (32, 8): "mxfp8"}.get((self.group, self.bits), "")

    @property
    def group(self) -> int:
        return self.columns // self.scales.shape[-1]

    @property
    def bits(self) -> int:
        return self.packed.shape[-1] * 32 // self.columns

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.packed.shape[:-1], self.columns)

    def pieces(self) -> Iterator[tuple[int, Values, Groups]]:
        """Yield (first row, values `[rows, groups, group]`, their groups), some rows at a time."""
        rows, per = int(np.prod(self.shape[:-1])), max(1, CHUNK // self.shape[-1])
        packed = self.packed.flat().reshape(rows, -1)
        scales, biases = (_matrix(each, rows) for each in (self.scales, self.biases))
        for start in range(0, rows, per):
            part = slice(start, start + per)
            words, some = mx.array(packed[part]), mx.array(scales[part])
            more = None if biases is None else mx.array(biases[part])
            values = mx.dequantize(words, some, more, self.group, self.bits, self.mode, dtype=mx.float32)
            shape = (len(packed[part]), -1, self.group)
            yield start, np.array(values).astype(np.float64).reshape(shape), self._groups(scales[part], more)

    def _groups(self, scales: Any, biases: Any) -> Groups:
        if self.mode == "affine":
            return _affine(scales, np.array(biases), 2**self.bits, self.scales.dtype)
        size = _levels("mxfp8", 8)[scales] if self.mode == "nvfp4" else np.exp2(scales.astype(np.float64) - ONE)
        codes = _levels(self.mode, self.bits)
        return Groups(size[..., None], np.unique(codes[np.isfinite(codes)]), self.mode)


@dataclass(frozen=True)
class Groups:
    """Some groups `[rows, groups, 1]` of a matrix: scale, and the levels that a scale of 1 has.

    Affine levels are `bias + scale x (0 ... last)`; `slack` is what one rounding to the dtype of scale and bias moves a
    level by at most. MLX rounds four times on the way: the range, the scale, the difference to the bias, the quotient.
    """

    scale: Values
    codes: Values
    mode: str
    bias: Values | None = None
    slack: Values | float = 0.0

    def excess(self, weights: Values, stored: Values) -> Values:
        """Return by how many half steps (the widest of the group) each stored value `[rows, groups, group]` is farther
        from its weight than the nearest level, beyond what rounding explains: at most 0 for what was quantised to it.

        What is outside of the levels is clipped to the outermost; more than a mode's own choice of the scale explains
        counts as well.
        """
        nearest = self._nearest(weights)
        widest = np.abs(self.scale) * (self.codes[-1] - self.codes[-2]) / 2
        low, high = self._ends()
        outside = np.maximum(np.maximum(low - weights, weights - high), 0) - self._clipped()
        beyond = np.abs(weights - stored) - np.abs(weights - nearest)
        rounding = self.slack * 2 + 1e-6 * (np.abs(weights) + np.abs(stored))
        return np.asarray((np.maximum(beyond, outside) - rounding) / np.where(widest > 0, widest, 1e-30))

    def _nearest(self, weights: Values) -> Values:
        if self.bias is not None:
            safe = np.where(self.scale == 0, 1, self.scale)
            code = np.clip(np.rint((weights - self.bias) / safe), 0, self.codes[-1])
            return np.asarray(self.bias + code * self.scale)
        scaled = weights / np.where(self.scale == 0, 1, self.scale)
        above = np.clip(np.searchsorted(self.codes, scaled), 1, len(self.codes) - 1)
        low, high = self.codes[above - 1], self.codes[above]
        return np.asarray(np.where(scaled - low <= high - scaled, low, high) * self.scale)

    def _ends(self) -> tuple[Values, Values]:
        ends = (self.codes[0] * self.scale, self.codes[-1] * self.scale)
        if self.bias is not None:
            ends = (ends[0] + self.bias, ends[1] + self.bias)
        return np.minimum(*ends), np.maximum(*ends)

    def _clipped(self) -> Values:
        """Return how far outside of its levels a group's own weights may be."""
        if self.bias is not None:
            # The edge is a multiple of the scale, rounded to one of at least half the levels: one step is lost at most.
            return np.asarray(np.abs(self.scale) / (1 - 1 / self.codes[-1]))
        size = np.abs(self.scale) * self.codes[-1]
        if self.mode == "nvfp4":
            return np.asarray(
                np.maximum(size / 16, self.codes[-1] * 2.0**-10)
            )  # the scale is E4M3, its smallest step 2^-9
        return np.asarray(size * (sqrt(2) - 1))  # the scale is a power of two, rounded by its logarithm


def columns_of(root: Any) -> dict[str, int]:
    """Return weight -> how many columns it has, of every quantised layer of a module."""
    layers = quantised_layers(root)
    return {f"{name}.weight": layer.scales.shape[-1] * layer.group_size for name, layer in layers.items()}


def _affine(scales: Any, biases: Any, levels: int, dtype: str) -> Groups:
    scale, bias = (widened(each)[..., None] for each in (scales, biases))
    layout = LAYOUTS[dtype]
    slack = 2.0**-layout.mantissa * (np.abs(scale) * (levels - 1) + np.abs(bias)) + layout.smallest * levels / 2
    return Groups(scale, np.arange(levels, dtype=np.float64), "affine", bias, slack)


def _matrix(tensor: Tensor | None, rows: int) -> Any:
    """Return scales or biases `[rows, groups]`: floats in float32, shared exponents as they are."""
    if tensor is None:
        return None
    layout, bits = layout_named(tensor.dtype), tensor.flat().reshape(rows, -1)
    return bits if layout is None else layout.floats(bits).astype(np.float32)


@cache
def _levels(mode: str, bits: int) -> Values:
    """Return what MLX makes of every code under a scale of 1, by code; of 4 bits twice."""
    codes = np.arange(2**bits, dtype=np.uint8)
    if bits == 4:
        codes = np.tile(codes, 2)
        packed = (codes[0::2] | codes[1::2] << 4).astype(np.uint8)
    else:
        packed = codes
    words = mx.array(packed.view(np.uint32).reshape(1, -1))
    group = 16 if mode == "nvfp4" else 32
    one = mx.full((1, len(codes) // group), 0x38 if mode == "nvfp4" else ONE, mx.uint8)
    values = np.array(mx.dequantize(words, one, None, group, bits, mode, dtype=mx.float32)).reshape(-1)
    return values.astype(np.float64)
