"""The formula before the fix: everything in the logits' own dtype, on the device.

In float16 an L2 overflows when the true distance reaches 255.97; what the overflow looks like depends on the MLX
version (a plausible wrong number up to 0.32.2 on Linux, inf from 0.32.3). The report's `inf` and `nan%` come from here.
mse was added by the fix; here it is the mean anybody would have written, which sums in the input's dtype as well.
"""

from __future__ import annotations

import mlx.core as mx

from harness.engines.formula import Engine, Formula
from harness.engines.guard import guarded_recovery


def distance(metric: str, clean: mx.array, x: mx.array) -> float:
    """Return the distance as the report's version computed it."""
    return float(_DISTANCES[metric](x, clean))


def _l2(a: mx.array, b: mx.array) -> mx.array:
    diff = a - b
    return mx.sqrt(mx.sum(diff * diff))


def _mse(a: mx.array, b: mx.array) -> mx.array:
    diff = a - b
    return mx.mean(diff * diff)


def _cosine(a: mx.array, b: mx.array) -> mx.array:
    return 1.0 - mx.sum(a * b) / (mx.sqrt(mx.sum(a * a)) * mx.sqrt(mx.sum(b * b)))


_DISTANCES = {"l2": _l2, "mse": _mse, "cosine": _cosine}

LEGACY = Engine(
    "legacy",
    "the formula before the fix, in the logits' own dtype",
    Formula(distance, guarded_recovery),
    frozenset(_DISTANCES),
)
