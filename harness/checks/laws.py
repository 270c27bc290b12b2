"""Does the patching obey the laws on this model and these prompts?

A finite answer is needed to compare anything. Laws about runs are asked where our own engine answered: the other
formulas share its taps, and somebody else's engine is held to them by `harness conformance`. Laws about answers are
asked of every engine.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.engines import ForeignEngine
from harness.laws import LAWS
from harness.vocabulary import Finding
from harness.vocabulary.errors import DoesNotApply, EngineUnavailable, HarnessError, TapError, described_at
from harness.vocabulary.raised import refuse_device_failure


def check(evidence: Evidence) -> Iterator[Finding]:
    given = evidence.answer
    if evidence.engine.is_estimate or not (given.clean.finite and given.corrupted.finite):
        return
    situation = evidence.situation
    for law in LAWS.values():
        if law.of_job is None or not (law.of_answers or evidence.engine.is_native):
            continue
        try:
            breach = law.of_job(situation)
        except (DoesNotApply, EngineUnavailable):
            continue
        except TapError as error:
            yield Finding("LAW004", str(error))
            continue
        except HarnessError:
            raise
        except Exception as error:
            refuse_device_failure(error)
            if not isinstance(evidence.engine, ForeignEngine):
                raise
            breach = f"raised {described_at(error)}"
        if breach:
            yield Finding(law.code, breach)
