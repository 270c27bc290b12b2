"""Which part of somebody else's engine is wrong? What was seen while it ran says so (`harness.engines.foreign`)."""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.vocabulary import Finding


def check(evidence: Evidence) -> Iterator[Finding]:
    yield from evidence.answer.attribution
