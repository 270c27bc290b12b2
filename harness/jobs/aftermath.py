"""What a job leaves of its model: what it was, or the breach that LAW005 names, or another order (LAW017).

Our own patching is looked at once a model, since it is the same code job after job. Where somebody else's code had a
hand in a job, the model is held against what it was every time: its fingerprint, the bits of a bare run (what was put
into a function of mlx or of mlx_lm is in no module), and the ids that its tokenizer makes of the prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.casefile import Case
from harness.engines import ENGINES, Engine, ForeignEngine
from harness.intercept import forward
from harness.metrics.tolerances import Work, equal, same_bits
from harness.models.fingerprint import ORDER, Fingerprint, fingerprint
from harness.models.loaded import LoadedModel
from harness.vocabulary import Finding, Question, is_code
from harness.vocabulary.errors import described, device_failed


def is_foreign(engine: Engine, case: Case) -> bool:
    """Return whether somebody else's code has a hand in a job: its engine, its reference, or one of its metrics."""
    reference = case.reference is not None and case.reference not in ENGINES
    return isinstance(engine, ForeignEngine) or reference or any(map(is_code, case.metrics))


@dataclass(frozen=True)
class BareRow:
    """A model's logits `[vocab]` of the patched prompt without anybody's patch, and how its prompts are read."""

    model: LoadedModel
    question: Question
    read: Callable[[], Question]
    row: Any

    def change(self) -> str | None:
        """Return what is otherwise now, or None. Where a device is not deterministic, a repeat decides."""
        try:
            if self.read() != self.question:
                return "its tokenizer reads the prompts otherwise than before"
            now = forward(self.model, self.question.target)
            if same_bits(self.row, now):
                return None
            again = forward(self.model, self.question.target)
        except Exception as error:
            if device_failed(error):
                raise
            # A model that cannot be run any more is the worst change.
            return f"the model is broken: {described(error)}"
        rounding = not same_bits(now, again) and equal(self.row, now, Work.SAME)
        return None if rounding else "a bare run of the model gives other logits than before"


def change(model: LoadedModel, before: Fingerprint, bare: BareRow | None) -> Finding | None:
    """Return what a job changed of a model, or None: before mere order, what the model computes with."""
    found = before.differences(fingerprint(model.module))
    order = found.pop(ORDER, None)
    if changed := next(iter(found.values()), None) or (bare.change() if bare else None):
        return Finding("LAW005", changed)
    return Finding("LAW017", order) if order else None
