"""How near is a baseline to what a sum of squares in the logits' own dtype can hold?

Warned of from half the limit on. In the published table one patch moves the mse by -298.6 %, which is 2.0 times the
baseline's l2: a baseline at half the limit is a patched run at the limit.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.metrics import NORM_LIMITS
from harness.vocabulary import Finding

NEAR = 2.0
"""The headroom below which a baseline is near its limit."""


def check(evidence: Evidence) -> Iterator[Finding]:
    metrics_at: dict[float, list[str]] = {}
    for curve in evidence.answer.curves:
        if curve.headroom is not None and curve.headroom < NEAR:
            metrics_at.setdefault(curve.headroom, []).append(curve.metric)
    for headroom, metrics in metrics_at.items():
        yield _finding(headroom, list(dict.fromkeys(metrics)), evidence.answer.dtype)


def _finding(headroom: float, metrics: list[str], dtype: str) -> Finding:
    limit = NORM_LIMITS[dtype]
    return Finding(
        "HED001",
        f"{' and '.join(metrics)}: a norm of {limit / headroom:.6g} logits, squared and summed; in {dtype} that "
        f"overflows from {limit:.5g} on, headroom {headroom:.3g}",
        evidence={"headroom": headroom, "norm": limit / headroom, "limit": limit, "dtype": dtype, "metrics": metrics},
    )
