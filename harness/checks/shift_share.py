"""How much of an l2 or mse baseline is one shift of all logits, which no probability notices?"""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.vocabulary import Finding

MOST = 50.0
"""Percent of the squares above which a distance is more about the shift than about anything softmax shows."""


def check(evidence: Evidence) -> Iterator[Finding]:
    shares = {curve.metric: curve.shift_share for curve in evidence.answer.curves if curve.shift_share is not None}
    large = {metric: share for metric, share in shares.items() if share > MOST}
    if large:
        share = max(large.values())
        yield Finding(
            "SHF001",
            f"{share:.1f} % of the squared difference behind {' and '.join(large)} is one shift of all logits; without "
            f"it the l2 would be {100 * (1 - share / 100) ** 0.5:.0f} % of what it is",
            evidence={"percent": share, "metrics": list(large)},
        )
