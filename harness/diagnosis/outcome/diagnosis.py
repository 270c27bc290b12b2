"""The answer of a diagnosis, and the record of its steps that it is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console

from harness.diagnosis.outcome.nouns import STEP_NAMES, Frame, Place, PlacedFinding, StepResult
from harness.diagnosis.outcome.page import show, text_of
from harness.diagnosis.outcome.paragraph import paragraph, told_in
from harness.vocabulary.verdict import fails

SCHEMA = "mlx-patch-harness/diagnosis/1"


@dataclass(frozen=True)
class Diagnosis:
    """The answer: `verdict` is `clean` or `fault`; `place` and the paragraph are those of the first error."""

    findings: tuple[PlacedFinding, ...] = ()
    steps: tuple[StepResult, ...] = ()
    trail: tuple[Frame, ...] = ()
    subject: Mapping[str, Any] = field(default_factory=dict)
    """What was diagnosed: model, dtype, prompts, engine."""

    @property
    def cause(self) -> PlacedFinding | None:
        """The first error: what everything after it follows from."""
        return next(filter(fails, self.findings), None)

    @property
    def verdict(self) -> str:
        return "fault" if self.cause else "clean"

    @property
    def place(self) -> Place | None:
        return self.cause.place if self.cause else None

    @property
    def paragraph(self) -> str:
        """What a person pastes into an issue: place, cause, evidence, remedy, confidence."""
        return paragraph(self.subject, self.cause, self.findings, self.steps)

    def show(self, screen: Console, whole: bool = False) -> None:
        """Print the paragraph, the steps and the trail around the fault, or all of it."""
        told = told_in(self.findings, self.cause)
        untold = (found for found in self.findings if found not in told)
        show(self.paragraph, self.steps, untold, self.trail, screen, whole)

    def __str__(self) -> str:
        """What a terminal of 80 columns shows."""
        return text_of(self.show)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, without a bare NaN or Infinity."""
        plain: dict[str, Any] = _plain(
            {
                "schema": SCHEMA,
                "verdict": self.verdict,
                "place": self.place.to_dict() if self.place else None,
                "paragraph": self.paragraph,
                "subject": dict(self.subject),
                "findings": [found.to_dict() for found in self.findings],
                "rungs": [asdict(step) for step in self.steps],
                "trail": [asdict(frame) for frame in self.trail],
            }
        )
        return plain


@dataclass
class StepLog:
    """The steps as they are taken, and what they found."""

    findings: list[PlacedFinding] = field(default_factory=list)
    steps: dict[str, StepResult] = field(default_factory=dict)

    def add(self, step: str, found: Iterable[PlacedFinding], summary: str, sound: bool = True) -> bool:
        """Note a step, or more of one, and what it found; return whether one of it is an error.

        A step that saw what is not sound is no more ok where the finding about it belongs to an earlier one.
        """
        found = list(found)
        self.findings += found
        errors = any(map(fails, found))
        state = "fault" if errors or not sound else "warning" if found else "ok"
        if before := self.steps.get(step):
            summary = f"{before.summary}; {summary}"
            state = max(state, before.state, key=("ok", "warning", "fault").index)
        self.steps[step] = StepResult(step, state, summary)
        return errors

    def skip(self, reason: str, *steps: str) -> None:
        for step in steps:
            self.steps.setdefault(step, StepResult(step, "skipped", reason))

    def is_fault(self, step: str) -> bool:
        return self.steps[step].state == "fault"

    def finished(self, trail: Iterable[Frame], subject: Mapping[str, Any]) -> Diagnosis:
        """Return the diagnosis; a step that was neither taken nor skipped was not reached."""
        unreached = "a fault was found before"
        steps = (self.steps.get(name, StepResult(name, "not reached", unreached)) for name in STEP_NAMES)
        return Diagnosis(tuple(self.findings), tuple(steps), tuple(trail), subject)


def _plain(value: Any) -> Any:
    """Return the value in JSON types; a number that JSON cannot hold becomes its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
