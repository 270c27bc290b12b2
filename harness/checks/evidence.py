"""What a check may look at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from harness.casefile import Case
from harness.engines import Engine, answer
from harness.engines.error_bars import with_error_bars
from harness.engines.kept_rows import KeptRows
from harness.laws import Situation
from harness.metrics.tolerances import stored_tolerance
from harness.models.loaded import LoadedModel
from harness.patching import check_question
from harness.results.ranks import concordances
from harness.vocabulary import Answer, Question


@dataclass(frozen=True)
class Evidence:
    """A job after its engine has answered."""

    case: Case
    model: LoadedModel
    engine: Engine
    question: Question
    answer: Answer
    allow_code: bool = False
    """Whether a reference engine may be code of the user's own."""
    bare: Any = None
    """The bare model's logits `[vocab]` of the prompt that is patched, from before the sweep, where it could be run."""
    kept: KeptRows | None = None
    """Rows of the sweep, where the engine's numbers are arithmetic on them."""

    @cached_property
    def situation(self) -> Situation:
        """What the laws are asked about, the job's question, with the runs that they have made."""
        strategies = self.question.sweep.strategy, self.answer.strategy
        return Situation(
            self.model,
            self.question,
            tuple(check_question(self.model, self.question)),
            lambda model, question: answer(self.engine, model, question),
            self.points,
            self.bare,
            kept=self.kept,
            proven=strategies == ("auto", "one-pass"),
        )

    def line(self, *entry: str | int) -> dict[str, int]:
        """Return the line on which the case states an entry of `expect`, as findings carry it."""
        return {"line": self.case.line_of("expect", *entry)}

    @property
    def points(self) -> float:
        """How many points between two recoveries the case counts as rounding."""
        card = self.model.card
        return stored_tolerance(self.case.tolerance, card.dtype, quantized=bool(card.quantization))[0]


def gather(
    case: Case,
    model: LoadedModel,
    engine: Engine,
    question: Question,
    given: Answer,
    allow_code: bool = False,
    bare: Any = None,
) -> Evidence:
    """Return the evidence, the answer completed by what is measured beside it: error bars, if the case asks for them,
    and how alike its metrics rank the cells."""
    # Metrics that nothing could be asked of have no curve; what is checked is the question that was asked.
    asked = {curve.metric for curve in given.curves}
    swept = {curve.component for curve in given.curves}
    sweep = replace(question.sweep, components=tuple(each for each in question.sweep.components if each in swept))
    question = replace(question, sweep=sweep, metrics=tuple(metric for metric in question.metrics if metric in asked))
    if case.precision:
        given = with_error_bars(model, question, given)
    evidence = Evidence(case, model, engine, question, given, allow_code, bare)
    return replace(evidence, answer=replace(given, concordances=concordances(given.curves, evidence.points)))
