"""The fix as published: widen to float32 on the device, and fall back where the sum overflows all the same.

Right for ordinary logits. It still subtracts before widening (float16 logits of ±40,000 overflow), still computes
1 - cos (which cancels), and still turns an undefined baseline into 0 %. Kept as published, to show exactly that.
"""

from __future__ import annotations

import mlx.core as mx

from harness.engines.formula import Engine, Formula
from harness.engines.guard import guarded_recovery


def distance(metric: str, clean: mx.array, x: mx.array) -> float:
    """Return the distance as the published fix computes it."""
    return _DISTANCES[metric](x, clean)


def _l2(a: mx.array, b: mx.array) -> float:
    diff = a - b
    wide = diff.astype(mx.float32)
    total = mx.sum(wide * wide)
    if mx.isinf(total) or mx.isnan(total):
        return float(mx.sqrt(mx.mean(wide * wide)) * mx.sqrt(mx.array(float(diff.size))))
    return float(mx.sqrt(total))


def _cosine(a: mx.array, b: mx.array) -> float:
    wide_a, wide_b = a.astype(mx.float32), b.astype(mx.float32)
    norm_a, norm_b = mx.sqrt(mx.sum(wide_a * wide_a)), mx.sqrt(mx.sum(wide_b * wide_b))
    if mx.isinf(norm_a) or mx.isinf(norm_b) or norm_a < 1e-10 or norm_b < 1e-10:
        unit_a = wide_a / (mx.sqrt(mx.mean(wide_a * wide_a)) + 1e-10)
        unit_b = wide_b / (mx.sqrt(mx.mean(wide_b * wide_b)) + 1e-10)
        return float(1.0 - mx.mean(unit_a * unit_b))
    return float(1.0 - mx.sum((wide_a / norm_a) * (wide_b / norm_b)))


def _mse(a: mx.array, b: mx.array) -> float:
    diff = a.astype(mx.float32) - b.astype(mx.float32)
    return float(mx.mean(diff * diff))


_DISTANCES = {"l2": _l2, "mse": _mse, "cosine": _cosine}

PUBLISHED = Engine(
    "published",
    "the fix as published: float32 on the device",
    Formula(distance, guarded_recovery),
    frozenset(_DISTANCES),
)
