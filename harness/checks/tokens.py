"""Does the model read the prompts as they are meant?"""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.models.remarks import remarks
from harness.vocabulary import Finding


def check(evidence: Evidence) -> Iterator[Finding]:
    """Yield TOK001 to TOK003: special tokens that stand twice or at the end, and pad tokens in front."""
    yield from remarks(evidence.model, evidence.case.pairs[0], evidence.question)
