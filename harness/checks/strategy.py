"""Did the sweep go the way the case asks?

`auto` promises right numbers and no order of work: what it does, and why, is in the result of every job. A case that
asks for one-pass asks for its speed, and is told where it does not get it.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.vocabulary import Finding


def check(evidence: Evidence) -> Iterator[Finding]:
    answer = evidence.answer
    if evidence.question.sweep.strategy == "one-pass" and answer.fallback:
        yield Finding("STR001", f"{answer.strategy}: {answer.fallback}", evidence={"strategy": answer.strategy})
