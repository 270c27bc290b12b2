"""Distances between two rows of logits `[vocab]`: l2, mse, cosine. Finite float64 rows in, a float out.

Logits widened from float32 or narrower leave float64 29 bits to spare, so a difference of two of them and a product of
two of them keep every digit that matters. What remains to be avoided is cancellation *after* rounding, and 1 - cos is
made of it: for nearly parallel rows all digits of the answer lie below the last digit of the 1. `cosine` therefore
measures the angle by the part of one row that is perpendicular to the other.
"""

from __future__ import annotations

import math

import numpy as np

from harness.metrics.host import Row


def l2(clean: Row, row: Row) -> float:
    """Return the Euclidean distance, in logits."""
    return norm(row - clean)


def mse(clean: Row, row: Row) -> float:
    """Return the mean squared difference, in logits squared."""
    rms = norm(row - clean) / math.sqrt(clean.size)
    return rms * rms


def cosine(clean: Row, row: Row) -> float | None:
    """Return 1 - cos of the angle between the rows, or None where a row is zero and no angle exists.

    With p the largest element of a, r = a_p b - b_p a is exact up to its last digit, is zero for parallel rows, and has
    the same perpendicular part as a_p b. Its part along a is at most sqrt(vocab) times as long, so that removing it
    costs few digits. This gives sin, and 1 - cos = sin² / (1 + cos).
    """
    top_clean, top_row = _absmax(clean), _absmax(row)
    if not top_clean or not top_row:
        return None
    a, b = clean * _unit(top_clean), row * _unit(top_row)
    aa, bb, ab = (float(np.sum(left * right)) for left, right in ((a, a), (b, b), (a, b)))
    cos = ab / math.sqrt(aa * bb)
    if cos <= 0:
        return 1 - cos
    pivot = np.abs(a).argmax()
    rest = a[pivot] * b - b[pivot] * a
    rest -= float(np.sum(rest * a)) / aa * a
    sin = norm(rest) / (abs(float(a[pivot])) * math.sqrt(bb))
    return sin * sin / (1 + cos)


def norm(values: Row) -> float:
    """Return the Euclidean norm; it overflows only where the norm itself is beyond float64."""
    unit = _unit(_absmax(values))
    scaled = values * unit
    return float(np.sqrt(np.sum(scaled * scaled)) / unit)


def _unit(absmax: float) -> float:
    """Return a power of two that brings the magnitude near 1, so that squares neither overflow nor vanish."""
    exponent = math.frexp(absmax)[1] if math.isfinite(absmax) else 0
    return math.ldexp(1.0, min(max(-exponent, -1000), 1000))


def _absmax(values: Row) -> float:
    return float(np.abs(values).max())
