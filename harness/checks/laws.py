"""Does our patching obey the laws on this model and these prompts?

Asked of `native` only: the other formulas share its patching, and a finite answer is needed to compare anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.errors import TapError
from harness.laws import LAWS, Situation
from harness.patching import check_question
from harness.vocabulary import Finding


def check(evidence: Evidence) -> Iterator[Finding]:
    answer = evidence.answer
    if evidence.engine.formula is not None or not (answer.clean.finite and answer.corrupted.finite):
        return
    points = tuple(check_question(evidence.model, evidence.question))
    situation = Situation(evidence.model, evidence.question, points)
    for law in LAWS:
        try:
            breach = law.test(situation)
        except TapError as error:
            yield Finding("LAW004", str(error))
            continue
        if breach:
            yield Finding(law.code, breach)
