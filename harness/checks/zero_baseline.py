"""Is there anything to recover? The same prompt twice, or a metric blind to the difference, leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.vocabulary import Answer, Finding, Question, State


def check(evidence: Evidence) -> Iterator[Finding]:
    return found(evidence.question, evidence.answer)


def found(question: Question, answer: Answer) -> Iterator[Finding]:
    """Yield the metrics of an answer that see no difference, with a case around it or without."""
    curves = {curve.metric: curve for curve in answer.curves}
    blind = [metric for metric, curve in curves.items() if curve.oracle_baseline.state is State.ZERO_BASELINE]
    if not blind:
        return
    same = question.clean.ids == question.corrupted.ids
    why = "the prompts are the same tokens" if same else "the prompts differ, the readings do not"
    yield Finding("BAS001", f"{', '.join(blind)}: {why}", evidence={"metrics": blind, "same_tokens": same})
