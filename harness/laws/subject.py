"""An engine under test on one model: it is asked, and whatever it does is an outcome.

The harness's own checks stand aside here: an engine is handed prompts of unequal length and names that do not exist,
because how it takes them is the question.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import mlx.core as mx
import numpy as np

from harness.engines import Engine, ForeignEngine, answer
from harness.engines.declaration import Declaration
from harness.engines.foreign import EngineRequest, Heard, hear
from harness.engines.roles import CellPlace
from harness.intercept import forward, resolve
from harness.intercept.hookpoints import layers_with
from harness.intercept.observer import ObservedRun
from harness.laws.situation import Situation
from harness.metrics import Ends, ends, host_row
from harness.metrics.layouts import dtype_name
from harness.models.fingerprint import Fingerprint, settled
from harness.models.loaded import LoadedModel
from harness.vocabulary import METRICS, AnswerTokens, Question, Reading, Sweep, Tokens
from harness.vocabulary.errors import (
    DoesNotApply,
    HarnessError,
    Unsupported,
    UsageError,
    described,
    described_at,
    traceback_of,
)

CANDIDATES = ("mlp", "self_attn", "mlp_out", "attn_out", "resid_post")
"""Components to ask about, the first that every layer and the engine have."""


@dataclass(frozen=True)
class Outcome:
    """What came of asking once: recoveries in percent by layer, or what the engine raised."""

    numbers: Mapping[int, Reading] = field(default_factory=dict)
    error: str | None = None
    warned: tuple[str, ...] = ()
    seen: tuple[ObservedRun, ...] = ()

    @property
    def finite(self) -> dict[int, float]:
        return {layer: reading.value for layer, reading in self.numbers.items() if reading.value is not None}


@dataclass(frozen=True)
class Fresh:
    """A model, with its fingerprint and the logits of a bare run at one moment."""

    model: LoadedModel
    fingerprint: Fingerprint
    bare: mx.array


@dataclass
class EngineUnderTest:
    """An engine, a way to build the model, and two prompts of token ids; `layers` None means all."""

    engine: Engine
    build: Callable[[], LoadedModel]
    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    layers: tuple[int, ...] | None = None
    undefined: bool = False
    """Whether the model's logits are not finite on purpose."""
    traces: dict[str, str] = field(default_factory=dict)
    """What the engine raised, as laws say it -> its whole traceback."""
    _fresh: Fresh | None = None
    _situation: Situation | None = None

    @property
    def model(self) -> LoadedModel:
        return self.fresh.model

    @property
    def fresh(self) -> Fresh:
        """The model, and what it was before the engine first saw it."""
        if self._fresh is None:
            self._fresh = self._state_of(self.build())
        return self._fresh

    def state(self) -> Fresh:
        """Return what the model is now."""
        return self._state_of(self.model)

    def _state_of(self, model: LoadedModel) -> Fresh:
        before = settled(model.module, lambda: forward(model, self.corrupted))
        return Fresh(model, before, forward(model, self.corrupted))

    def discard(self) -> None:
        """Forget a model that was damaged; the next law gets a new one."""
        self._fresh = self._situation = None

    @cached_property
    def component(self) -> str:
        """The component that the laws are asked about. Raises DoesNotApply where the engine has none here."""
        every = list(range(self.model.card.layers))
        for component in CANDIDATES:
            if layers_with(self.model, component) == every and not self._cannot(component):
                return component
        raise DoesNotApply(self._cannot("resid_post") or "no layer has a component that the engine knows")

    @cached_property
    def metric(self) -> str:
        """The metric that the laws are asked in: one of the harness's where the engine has any."""
        own = self.engine.declared.metrics if isinstance(self.engine, ForeignEngine) else ()
        return next(metric for metric in (*METRICS, *own) if self.engine.knows(metric))

    @cached_property
    def answers(self) -> AnswerTokens | None:
        """The two ids whose logits move most between the prompts, one towards the clean run and one away; None where
        none does."""
        rows = [host_row(forward(self.model, ids)) for ids in (self.clean, self.corrupted)]
        with np.errstate(invalid="ignore"):
            gap = np.where(np.isfinite(rows[0]) & np.isfinite(rows[1]), rows[0] - rows[1], 0.0)
        most, least = int(gap.argmax()), int(gap.argmin())
        return AnswerTokens(most, least) if most != least else None

    @cached_property
    def chosen_layers(self) -> tuple[int, ...]:
        return self.layers or tuple(range(self.model.card.layers))

    @cached_property
    def plain(self) -> Outcome:
        """The answer to the plain question, asked once."""
        return self.ask()

    def needs(self, component: str | None = None, metric: str | None = None) -> None:
        """Raise DoesNotApply, which skips a law, where the engine does not claim to do this."""
        if component and (reason := self._cannot(component)):
            raise DoesNotApply(reason)
        if metric and not self.engine.knows(metric):
            raise DoesNotApply(f"{self.engine.name} has no {metric}")

    def _cannot(self, component: str) -> str | None:
        return self.engine.cannot(self.model, Sweep((component,)))

    def question(self, component: str | None = None, metric: str | None = None, strategy: str = "auto") -> Question:
        """Return the question in the harness's own terms."""
        sweep = Sweep((component or self.component,), self.chosen_layers, strategy=strategy)
        asked = metric or self.metric
        answers = self.answers if asked in METRICS and METRICS[asked].needs_answers else None
        return Question(_tokens(self.clean), _tokens(self.corrupted), sweep, (asked,), answers)

    @property
    def situation(self) -> Situation:
        """What the laws of `harness.laws.table` are asked about: the plain question, on the model as it is now."""
        if self._situation is None:
            if self.metric not in METRICS:
                raise DoesNotApply(f"{self.metric} is no metric of the harness")
            question = self.question()
            points = tuple(resolve(self.model, question.sweep))
            self._situation = Situation(self.model, question, points, functools.partial(answer, self.engine))
        return self._situation

    def told(self, law: Callable[[Situation], str | None]) -> str | None:
        """Return what a law about answers says; whatever somebody's engine raises meanwhile is a breach."""
        try:
            return law(self.situation)
        except HarnessError:
            raise
        except Exception as error:  # noqa: BLE001  whatever an engine raises is its answer here
            return f"raised {self.raised(error)}"

    def ask(
        self,
        component: str | None = None,
        metric: str | None = None,
        layers: tuple[int, ...] | None = None,
        clean: tuple[int, ...] | None = None,
        corrupted: tuple[int, ...] | None = None,
    ) -> Outcome:
        """Ask the engine, with anything changed that is given. Only Ctrl-C comes through, and Unsupported for what is
        inside the engine's declaration."""
        asked = self.question(component, metric)
        asked = replace(
            asked,
            clean=_tokens(self.clean if clean is None else clean),
            corrupted=_tokens(self.corrupted if corrupted is None else corrupted),
            sweep=replace(asked.sweep, layers=layers or self.chosen_layers),
        )
        try:
            return self._heard(asked) if isinstance(self.engine, ForeignEngine) else self._own(asked)
        except Unsupported as error:
            if self._declares(asked):
                raise
            return Outcome(error=described(error))
        except Exception as error:  # noqa: BLE001  whatever an engine raises is its answer here
            return Outcome(error=self.raised(error))

    def raised(self, error: Exception) -> str:
        """Return what an engine raised as laws say it, and keep its traceback."""
        said = described_at(error)
        self.traces[said] = traceback_of(error)
        return said

    def _declares(self, asked: Question) -> bool:
        """Return whether this is a question about the subject's own prompts and layers, and in the declaration."""
        own = (asked.clean.ids, asked.corrupted.ids) == (self.clean, self.corrupted)
        layers = max(asked.sweep.layers or (0,)) < self.model.card.layers
        known = all(map(self.engine.knows, asked.metrics))
        return own and layers and known and not self.engine.cannot(self.model, asked.sweep)

    def _heard(self, asked: Question) -> Outcome:
        assert isinstance(self.engine, ForeignEngine)
        heard = hear(self.engine, self.request(asked))
        numbers = {place.layer: reading for place, reading in self.readings(heard, asked).items()}
        return Outcome(numbers, None, heard.warned, heard.seen)

    def request(self, asked: Question) -> EngineRequest:
        """Return a question in the words of a foreign engine; a component that it does not know keeps its name."""
        assert isinstance(self.engine, ForeignEngine)
        sweep = asked.sweep
        try:
            component = self.engine.declared.own_name(self.model, sweep.components[0])
        except UsageError:
            component = sweep.components[0]
        return EngineRequest(
            self.model.module, self.model.tokenizer, asked.clean.ids, asked.corrupted.ids, component,
            sweep.layers or (), asked.metrics[0], sweep.positions, sweep.direction, asked.answers,
        )  # fmt: skip

    def readings(self, heard: Heard, asked: Question) -> dict[CellPlace, Reading]:
        """Return what a foreign engine answered, in percent."""
        assert isinstance(self.engine, ForeignEngine)
        declared = Declaration() if heard.reply.measured else self.engine.declared
        ends = self.ends(asked) if declared.units == "absolute" else None
        return {place: declared.reading(said, ends) for place, said in heard.reply.recoveries.items()}

    def ends(self, asked: Question) -> Ends | None:
        """Return a metric on the model's own unpatched runs; None for a metric that the harness does not have."""
        (metric,) = asked.metrics
        if metric not in METRICS:
            return None
        rows = [forward(self.model, tokens.ids) for tokens in (asked.clean, asked.corrupted)]
        clean, corrupted = map(host_row, rows)
        return ends(metric, clean, corrupted, dtype_name(rows[0]), asked.answers)

    def _own(self, asked: Question) -> Outcome:
        (curve,) = answer(self.engine, self.model, asked).curves
        return Outcome({cell.layer: cell.recovery for cell in curve.cells})


def _tokens(ids: tuple[int, ...]) -> Tokens:
    return Tokens(ids, tuple(map(str, ids)))
