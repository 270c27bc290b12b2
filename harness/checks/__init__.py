"""Checks: questions asked of an answer, each in one file, and the table that names them.

A check yields findings and judges nothing: what a finding means for the verdict, `vocabulary/verdict.py` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from harness.casefile import Tolerance
from harness.checks import (
    agreement,
    attribution,
    expectations,
    finiteness,
    headroom,
    known_answer,
    laws,
    metric_comparison,
    oracle,
    precision,
    reference,
    shift_share,
    strategy,
    tokens,
    zero_baseline,
)
from harness.checks.evidence import Evidence, gather
from harness.vocabulary import Answer, Finding, Question

CHECKS: Mapping[str, Callable[[Evidence], Iterator[Finding]]] = {
    "tokens": tokens.check,
    "finiteness": finiteness.check,
    "zero-baseline": zero_baseline.check,
    "oracle": oracle.check,
    "agreement": agreement.check,
    "known-answer": known_answer.check,
    "reference": reference.check,
    "expectation": expectations.check,
    "laws": laws.check,
    "headroom": headroom.check,
    "shift-share": shift_share.check,
    "precision": precision.check,
    "metric-comparison": metric_comparison.check,
    "strategy": strategy.check,
    "attribution": attribution.check,
}
"""`alignment` is asked before a sweep (`harness.patching`), `snapshot` after everything else (`harness.snapshots`)."""


def of_sweep(question: Question, answer: Answer) -> list[Finding]:
    """Return what the checks find of any sweep, also of one that no case is around."""
    return [
        *answer.unasked,
        *finiteness.found(answer),
        *zero_baseline.found(question, answer),
        *oracle.found(answer, Tolerance()),
        *answer.attribution,
    ]


__all__ = ["CHECKS", "Evidence", "gather", "of_sweep"]
