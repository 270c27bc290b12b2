"""Is there anything to recover? The same prompt twice, or a metric blind to the difference, leaves nothing.

A difference that is only rounding leaves nothing either, and one near rounding leaves recoveries without digits.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.engines.denominators import doubtful, unusable
from harness.vocabulary import Finding


def check(evidence: Evidence) -> Iterator[Finding]:
    yield from unusable(evidence.question, evidence.answer)
    yield from doubtful(evidence.question, evidence.answer)
