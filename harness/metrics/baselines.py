"""What a baseline is made of: how near its sum of squares is to the dtype's end, and how much of it softmax ignores.

Headroom. l2 and mse sum the squares of the difference of two rows `[vocab]`, cosine those of each row. Whoever sums in
the logits' own dtype holds a norm below the square root of its end: 255.97 logits in float16, at any vocabulary, for
mse as well (a mean divides after it has summed). The numbers here are float64 and do not overflow; the headroom says
what other code meets.

Shift share. Softmax ignores a shift of all logits alike, l2 and mse do not. With d the difference of N logits, the
shift is mean(d), and N mean(d)² of sum(d²) is its doing: the rest is what a probability can show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from harness.metrics.distances import norm
from harness.metrics.host import Row, finite_part
from harness.metrics.layouts import LAYOUTS

NORM_LIMITS: Mapping[str, float] = {name: math.sqrt(layout.overflow) for name, layout in LAYOUTS.items()}
"""For each dtype of logits the norm whose square it cannot hold: 255.97 in float16, 1.8e19 in the others."""


def headroom(metric: str, clean: Row, corrupted: Row, dtype: str) -> float | None:
    """Return the dtype's limit over the norm that a metric squares and sums; below 1, the sum overflows.

    None for metrics without a sum of squares, for other dtypes, and where there is no norm: rows that are not finite
    (but for ids that are -inf in both) or equal.
    """
    rows = finite_part(clean, corrupted)
    if metric not in _NORMS or dtype not in NORM_LIMITS or rows is None:
        return None
    size = _NORMS[metric](*rows)
    return NORM_LIMITS[dtype] / size if 0 < size < math.inf else None


_NORMS = {
    "l2": lambda clean, corrupted: norm(corrupted - clean),
    "mse": lambda clean, corrupted: norm(corrupted - clean),
    "cosine": lambda clean, corrupted: max(norm(clean), norm(corrupted)),
}


def shift_share(metric: str, clean: Row, corrupted: Row) -> float | None:
    """Return the percentage of an l2 or mse baseline's squares that is one shift of all logits.

    None for other metrics, and where there is no difference to divide: see `headroom`.
    """
    rows = finite_part(clean, corrupted)
    if metric not in ("l2", "mse") or rows is None:
        return None
    difference = rows[1] - rows[0]
    size = norm(difference)
    if not 0 < size < math.inf:
        return None
    return 100.0 * difference.size * (float(np.mean(difference)) / size) ** 2
