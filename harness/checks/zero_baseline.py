"""Is there anything to recover? The same prompt twice, or a metric blind to the difference, leaves nothing.

A difference that is only rounding leaves nothing either, and one near rounding leaves recoveries without digits.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.engines.denominators import doubtful, unusable
from harness.vocabulary import Answer, Finding, Question


def check(evidence: Evidence) -> Iterator[Finding]:
    return found(evidence.question, evidence.answer)


def found(question: Question, answer: Answer) -> Iterator[Finding]:
    """Yield what an answer's denominators are worth, with a case around it or without."""
    yield from unusable(question, answer)
    yield from doubtful(question, answer)
