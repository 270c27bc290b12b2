"""When are two rows of logits equal?

Two orders of work over the same numbers round differently, and a deep model carries that on. Equal means: the largest
difference is at most this share of the largest logit. A wrong row, layer or position is off by tens of percent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from harness.metrics import host_row

EQUAL: Mapping[Any, float] = {mx.float32: 1e-5, mx.float16: 2e-2, mx.bfloat16: 1e-1}
"""For float32 DESIGN's figure; the halves by their unit roundoff (2^13 and 2^16 times larger), capped at what is still
far below the effect of a wrong row."""


def same_bits(a: mx.array, b: mx.array) -> bool:
    """Return whether two rows agree in shape, dtype and every bit; NaN equals itself here."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    word = {2: mx.uint16, 4: mx.uint32, 8: mx.uint64}[a.dtype.size]
    return bool(mx.array_equal(a.view(word), b.view(word)))


def relative_difference(a: mx.array, b: mx.array) -> float:
    """Return the largest difference as a share of the largest logit, on the host, where no build drops a NaN.

    Infinities of the same sign at the same ids do not differ; any other value that is not finite makes it inf.
    """
    rows = host_row(a), host_row(b)
    equal = rows[0] == rows[1]
    with np.errstate(invalid="ignore"):
        apart = np.where(equal, 0.0, np.abs(rows[0] - rows[1]))
    if not np.isfinite(apart).all():
        return float("inf")
    largest = float(np.max(np.abs(rows[0]), where=np.isfinite(rows[0]), initial=0.0))
    return float(apart.max()) / largest if largest else float(apart.max() > 0)


def equal(a: mx.array, b: mx.array, most: float = math.inf) -> bool:
    """Return whether two rows are equal up to rounding in their dtype, and up to `most` of the largest logit."""
    return same_bits(a, b) or relative_difference(a, b) <= min(EQUAL.get(a.dtype, 1e-5), most)


def tellable(source: mx.array, target: mx.array) -> float:
    """Return what two rows may differ by, as a share of the largest logit, where these are to be told apart.

    Where the unpatched runs of a sweep are hardly apart, rows that are wrong differ by less than rounding may.
    """
    return relative_difference(source, target) / 4
