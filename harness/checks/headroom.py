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
    near = {
        curve.metric: curve.headroom
        for curve in evidence.answer.curves
        if curve.headroom is not None and curve.headroom < NEAR
    }
    if near:
        yield _finding(near, evidence.answer.dtype)


def _finding(near: dict[str, float], dtype: str) -> Finding:
    limit = NORM_LIMITS[dtype]
    norms = {metric: limit / headroom for metric, headroom in near.items()}
    return Finding(
        "HED001",
        f"{dtype} sums the squares of a norm below {limit:.5g} logits, and here the norm is "
        + ", ".join(f"{norm:.5g} for {metric} (headroom {near[metric]:.3g})" for metric, norm in norms.items()),
        evidence={"headroom": near, "norm": norms, "limit": limit, "dtype": dtype},
    )
