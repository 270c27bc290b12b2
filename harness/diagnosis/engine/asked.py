"""Asking the engine: what it answers and, of somebody else's engine, the forward passes behind the answer.

An engine is asked here as everywhere, through `harness.engines`. Somebody else's is observed meanwhile, down to what
each module returns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.engines import Engine, ForeignEngine, answer
from harness.engines.foreign import EngineRequest, ObservedRuns, Reply, answer_and_runs
from harness.models.loaded import LoadedModel
from harness.vocabulary import Answer, Curve, Mistake, Question
from harness.vocabulary.errors import EngineUnavailable, UnknownName, described_at, device_failed


class EngineRaised(Exception):
    """Somebody else's engine raised; `__cause__` is what."""


@dataclass(frozen=True)
class Asked:
    """What an engine answered about one component under one metric; `runs` are those of somebody else's engine."""

    name: str
    answer: Answer
    runs: ObservedRuns | None = None

    @property
    def curve(self) -> Curve:
        (curve,) = self.answer.curves
        return curve

    @property
    def baseline(self) -> float | None:
        """The baseline that the engine reported, inf and NaN as floats; None where there is none."""
        reading = self.curve.baseline
        return {"inf": float("inf"), "nan": float("nan")}.get(reading.state.value, reading.value)

    @property
    def mistake(self) -> Mistake | None:
        """What makes wrong numbers of the engine's own logits, where anything known does."""
        return self.answer.mistakes.get((self.curve.component, self.curve.metric))

    @property
    def disputed(self) -> float | None:
        """The baseline, where float64 does not make the same of the engine's own logits: its formula is in question."""
        return None if self.curve.baseline == self.curve.oracle_baseline else self.baseline


def ask(engine: Engine, model: LoadedModel, question: Question) -> Asked:
    """Ask an engine.

    Raises EngineRaised for what somebody else's engine raises, UnknownName for a metric that the engine does not have,
    and whatever `harness.engines.answer` raises.
    """
    for metric in question.metrics:
        if not engine.knows(metric):
            raise UnknownName(f"metric of {engine.name}", metric, engine.metrics)
    if not isinstance(engine, ForeignEngine):
        return Asked(engine.name, answer(engine, model, question))
    return Asked(engine.name, *answer_and_runs(_blamed(engine), model, question, calls=True))


def _blamed(engine: ForeignEngine) -> ForeignEngine:
    """Return the engine with its own exceptions marked: the harness's runs beside it may raise as well."""

    def ask_it(request: EngineRequest) -> Reply:
        try:
            return engine.ask(request)
        except EngineUnavailable:
            raise
        except Exception as error:
            if device_failed(error):
                raise
            raise EngineRaised(described_at(error)) from error

    return replace(engine, ask=ask_it)
