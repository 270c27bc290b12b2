"""An engine under test on one model: it is asked, and whatever it does is an outcome.

The harness's own checks stand aside here: an engine is handed prompts of unequal length and names that do not exist,
because how it takes them is the question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import mlx.core as mx
import numpy as np

from harness.engines import ENGINES, Engine, ForeignEngine, answer
from harness.engines.declaration import Declaration
from harness.engines.foreign import EngineRequest, Heard, hear
from harness.engines.roles import CellPlace
from harness.intercept import forward, resolve
from harness.intercept.hookpoints import layers_with
from harness.intercept.observer import ObservedRun
from harness.laws.forms import Declared, Form, declared
from harness.laws.situation import Situation
from harness.metrics import Ends, ends, host_row
from harness.metrics.layouts import dtype_name
from harness.metrics.mistakes import Numbers
from harness.models.fingerprint import Fingerprint, settled
from harness.models.loaded import LoadedModel
from harness.vocabulary import METRICS, Answer, AnswerTokens, Curve, Question, Reading, State, Sweep, Tokens
from harness.vocabulary.errors import (
    DoesNotApply,
    HarnessError,
    Unsupported,
    UsageError,
    described,
    described_at,
    traceback_of,
)
from harness.vocabulary.raised import refuse_device_failure


@dataclass(frozen=True)
class Outcome:
    """What came of asking once: recoveries in percent by place, or what the engine raised."""

    numbers: Mapping[CellPlace, Reading] = field(default_factory=dict)
    error: str | None = None
    warned: tuple[str, ...] = ()
    seen: tuple[ObservedRun, ...] = ()
    baseline: float | None = None
    """What a foreign engine states beside its numbers."""
    strategy: str = ""
    """How our own patching went about it, once the first answer has proven the faster way."""

    @property
    def finite(self) -> dict[CellPlace, float]:
        return {place: reading.value for place, reading in self.numbers.items() if reading.value is not None}


@dataclass(frozen=True)
class Fresh:
    """A model, with its fingerprint and the logits of a bare run at one moment."""

    model: LoadedModel
    fingerprint: Fingerprint
    bare: mx.array


@dataclass
class Shared:
    """What the laws about one engine on one model know already, in whichever form they are asked."""

    fresh: Fresh | None = None
    declared: Declared | None = None
    tokens: list[AnswerTokens | None] = field(default_factory=list)
    """The answers of the metrics that need some, once they are known."""
    situations: dict[Form, Situation] = field(default_factory=dict)
    answers: dict[tuple[Form, tuple[int, ...]], Outcome | Unsupported] = field(default_factory=dict)
    """The first answer in a form, for some layers, or that the engine refuses it."""
    apart: dict[tuple[Form, tuple[int, ...]], Answer] = field(default_factory=dict)
    right: dict[Question, dict[str, Numbers] | HarnessError] = field(default_factory=dict)
    """A question under every metric -> metric -> what is right, or why nobody can say."""
    traces: dict[str, str] = field(default_factory=dict)
    """What the engine raised, as laws say it -> its whole traceback."""
    fallbacks: dict[str, None] = field(default_factory=dict)
    """How and why our own patching did not go one-pass, each way and reason once."""


@dataclass
class EngineUnderTest:
    """An engine, a way to build the model, and two prompts of token ids; `layers` None means all.

    `form` is how it is asked; None means the plainest form that it declares.
    """

    engine: Engine
    build: Callable[[], LoadedModel]
    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    layers: tuple[int, ...] | None = None
    undefined: bool = False
    """Whether the model's logits are not finite on purpose."""
    form: Form | None = None
    shared: Shared = field(default_factory=Shared)

    @property
    def model(self) -> LoadedModel:
        return self.fresh.model

    @property
    def fresh(self) -> Fresh:
        """The model, and what it was before the engine first saw it."""
        if self.shared.fresh is None:
            self.shared.fresh = self._state_of(self.build())
        return self.shared.fresh

    def state(self) -> Fresh:
        """Return what the model is now."""
        return self._state_of(self.model)

    def _state_of(self, model: LoadedModel) -> Fresh:
        before = settled(model.module, lambda: forward(model, self.corrupted))
        return Fresh(model, before, forward(model, self.corrupted))

    def discard(self) -> None:
        """Forget a model that was damaged; the next law gets a new one."""
        self.shared.fresh = None
        self.shared.situations.clear()

    # -- how it is asked --------------------------------------------------------------------------------------------

    @property
    def declared(self) -> Declared:
        """What the engine can be asked here."""
        if self.shared.declared is None:
            self.shared.declared = declared(self.engine, self.model, self.clean, self.corrupted)
        return self.shared.declared

    @cached_property
    def asked(self) -> Form:
        """The form that the laws are asked in. Raises DoesNotApply where the engine has none here."""
        if self.form is not None:
            return self.form
        if not self.declared.sample:
            raise DoesNotApply(self.cannot("resid_post") or "no layer has a component that the engine knows")
        return self.declared.sample[0]

    def in_forms(self, ways: bool = False) -> list[EngineUnderTest]:
        """Return the subject in each form of the sample, the plainest first, without those that the model has not.

        `ways` leaves one form of each way to patch: positions and a direction.
        """
        if self.form is not None:
            return [self]
        first, *others = self.declared.sample or [self.asked]
        known = [self.of(first), *(asked for form in others if (asked := self.of(form)).lacking is None)]
        if not ways:
            return known
        one_each = {(asked.asked.positions, asked.asked.direction): asked for asked in reversed(known)}
        return list(one_each.values())[::-1]

    def of(self, form: Form) -> EngineUnderTest:
        """Return the subject asked in a form."""
        return replace(self, form=form)

    @property
    def component(self) -> str:
        return self.asked.component

    @property
    def metric(self) -> str:
        return self.asked.metric

    @property
    def answers(self) -> AnswerTokens | None:
        """The two ids whose logits move most between the prompts, one towards the clean run and one away; None where
        none does."""
        if not self.shared.tokens:
            self.shared.tokens.append(self._answers())
        return self.shared.tokens[0]

    def _answers(self) -> AnswerTokens | None:
        rows = [host_row(forward(self.model, ids)) for ids in (self.clean, self.corrupted)]
        with np.errstate(invalid="ignore"):
            gap = np.where(np.isfinite(rows[0]) & np.isfinite(rows[1]), rows[0] - rows[1], 0.0)
        most, least = int(gap.argmax()), int(gap.argmin())
        return AnswerTokens(most, least) if most != least else None

    @cached_property
    def chosen_layers(self) -> tuple[int, ...]:
        return self._layers_of(self.component)

    def _layers_of(self, component: str) -> tuple[int, ...]:
        """Return the layers to ask about; all of them where no layer has such a component."""
        having = tuple(layers_with(self.model, component)) or tuple(range(self.model.card.layers))
        return tuple(layer for layer in self.layers or having if layer in having) or having

    @cached_property
    def places(self) -> list[CellPlace]:
        """The cells that a complete answer has."""
        each = self.asked.positions == "each"
        tokens = range(len(self.clean)) if each else (None,)
        points = resolve(self.model, self.question().sweep)
        return [CellPlace(point.layer, token, point.head) for point in points for token in tokens]

    @property
    def plain(self) -> Outcome:
        """The answer in this form, asked once. Raises Unsupported where the engine refuses it."""
        key = self.asked, self.chosen_layers
        if key not in self.shared.answers:
            self.shared.answers[key] = self._plain()
        known = self.shared.answers[key]
        if isinstance(known, Unsupported):
            raise known
        return known

    def _plain(self) -> Outcome | Unsupported:
        try:
            outcome = self.ask()
        except Unsupported as error:
            return error
        # The runs of forty forms on a vocabulary of 152,000 take a gigabyte.
        return outcome if self.asked in self.declared.sample else replace(outcome, seen=())

    @property
    def refusal(self) -> str | None:
        """Why the engine refuses this form, which it declares; None where it answers."""
        try:
            _ = self.plain
        except Unsupported as error:
            return str(error)
        return None

    @property
    def taken_apart(self) -> Answer:
        """The answer in this form under every metric that the harness knows, held against the engine's own logits."""
        known = tuple(name for name in self.declared.metrics if self.answers or not METRICS[name].needs_answers)
        if not known:
            raise DoesNotApply(f"it has no metric that the harness knows: {', '.join(self.declared.own_metrics)}")
        key = self.asked, self.chosen_layers
        if key not in self.shared.apart:
            question = replace(self.under("logit_diff").question(), metrics=known)
            self.shared.apart[key] = answer(self.engine, self.model, question)
        return self.shared.apart[key]

    def under(self, metric: str) -> EngineUnderTest:
        """Return the subject asked under a metric."""
        return self.of(replace(self.asked, metric=metric))

    def needs(self, component: str | None = None, metric: str | None = None) -> None:
        """Raise DoesNotApply, which skips a law, where the engine does not claim to do this."""
        if component and (reason := self.cannot(component)):
            raise DoesNotApply(reason)
        if metric and not self.engine.knows(metric):
            raise DoesNotApply(f"{self.engine.name} has no {metric}")

    def cannot(self, component: str) -> str | None:
        """Return why the engine does not claim to do a component in this form; None where it does."""
        how = {} if self.form is None else {"direction": self.form.direction, "positions": self.form.positions}
        return self.engine.cannot(self.model, Sweep((component,), **how))  # type: ignore[arg-type]

    def question(self, component: str | None = None, metric: str | None = None, strategy: str = "auto") -> Question:
        """Return the question in the harness's own terms."""
        form = self.asked
        name = component or form.component
        sweep = Sweep((name,), self._layers_of(name), form.direction, form.positions, strategy)
        asked = metric or form.metric
        answers = self.answers if asked in METRICS and METRICS[asked].needs_answers else None
        return Question(_tokens(self.clean), _tokens(self.corrupted), sweep, (asked,), answers)

    # -- what is right ------------------------------------------------------------------------------------------------

    def right(self) -> Numbers:
        """Return what the harness's own patching and float64 make of the form. Raises a HarnessError where the model
        has no such answer."""
        return self.right_of(self.question())

    def right_of(self, question: Question) -> Numbers:
        """Return the same of a question about one component under one metric, on all layers that have it."""
        (component,), (metric,) = question.sweep.components, question.metrics
        known = tuple(name for name in METRICS if self.answers or not METRICS[name].needs_answers)
        sweep = replace(question.sweep, layers=self._layers_of(component))
        asked = replace(question, sweep=sweep, metrics=known, answers=question.answers or self.answers)
        if asked not in self.shared.right:
            self.shared.right[asked] = self._right(asked)
        right = self.shared.right[asked]
        if isinstance(right, HarnessError):
            raise right
        return right.get(metric, {})

    def _right(self, question: Question) -> dict[str, Numbers] | HarnessError:
        try:
            curves = answer(ENGINES["native"], self.model, question).curves
        except HarnessError as error:
            return error
        return {curve.metric: _numbers(curve) for curve in curves}

    @cached_property
    def lacking(self) -> str | None:
        """Why the model has no answer in this form, whoever is asked; None where it has one."""
        try:
            self.right()
        except HarnessError as error:
            return str(error)
        return None

    # -- asking -----------------------------------------------------------------------------------------------------

    @property
    def situation(self) -> Situation:
        """What the laws of `harness.laws.table` are asked about: the question in this form, on the model as it is."""
        if self.asked not in self.shared.situations:
            if self.metric not in METRICS:
                raise DoesNotApply(f"{self.metric} is no metric of the harness")
            question = self.question()
            points = tuple(resolve(self.model, question.sweep))
            self.shared.situations[self.asked] = Situation(self.model, question, points, self._answer, grids=True)
        return self.shared.situations[self.asked]

    def told(self, law: Callable[[], str | None]) -> str | None:
        """Return what a law about answers says; whatever somebody's engine raises meanwhile is a breach."""
        try:
            return law()
        except HarnessError:
            raise
        except Exception as error:  # noqa: BLE001  whatever an engine raises is its answer here
            refuse_device_failure(error)
            return f"raised {self.raised(error)}"

    def ask(
        self,
        component: str | None = None,
        metric: str | None = None,
        layers: tuple[int, ...] | None = None,
        clean: tuple[int, ...] | None = None,
        corrupted: tuple[int, ...] | None = None,
        answers: AnswerTokens | None = None,
    ) -> Outcome:
        """Ask the engine, with anything changed that is given. Only Ctrl-C comes through, and Unsupported for what is
        inside the engine's declaration."""
        asked = self.question(component, metric)
        asked = replace(
            asked,
            clean=_tokens(self.clean if clean is None else clean),
            corrupted=_tokens(self.corrupted if corrupted is None else corrupted),
            sweep=replace(asked.sweep, layers=layers or asked.sweep.layers),
            answers=answers or asked.answers,
        )
        try:
            return self._heard(asked) if isinstance(self.engine, ForeignEngine) else self._own(asked)
        except Unsupported as error:
            if self._declares(asked):
                raise
            return Outcome(error=described(error))
        except Exception as error:  # noqa: BLE001  whatever an engine raises is its answer here
            refuse_device_failure(error)
            return Outcome(error=self.raised(error))

    def raised(self, error: Exception) -> str:
        """Return what an engine raised as laws say it, and keep its traceback."""
        said = described_at(error)
        self.shared.traces[said] = traceback_of(error)
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
        return Outcome(self.readings(heard, asked), None, heard.warned, heard.seen, heard.reply.baseline)

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

    def _answer(self, model: LoadedModel, asked: Question) -> Answer:
        given = answer(self.engine, model, asked)
        if given.fallback:
            self.shared.fallbacks[f"went {given.strategy}: {given.fallback}"] = None
        return given

    def _own(self, asked: Question) -> Outcome:
        given = self._answer(self.model, asked)
        if not given.curves and given.unanswered:
            raise Unsupported(given.unanswered[0].reason)
        (curve,) = given.curves
        each = asked.sweep.positions == "each"
        return Outcome(
            {CellPlace(cell.layer, int(cell.position) if each else None, cell.head): cell.recovery
             for cell in curve.cells},
            strategy=given.strategy,
        )  # fmt: skip


def named(place: CellPlace) -> str:
    """Return a place as a person reads it."""
    parts = zip(("layer", "token", "head"), place, strict=True)
    return ", ".join(f"{name} {number}" for name, number in parts if number is not None)


def _numbers(curve: Curve) -> Numbers:
    """Return the recoveries of a curve by place; what rounding alone makes is not held against anybody."""
    worth = (cell for cell in curve.cells if cell.recovery.state is not State.ILL_CONDITIONED)
    return {(cell.layer, cell.position, cell.head): cell.recovery for cell in worth}


def _tokens(ids: tuple[int, ...]) -> Tokens:
    return Tokens(ids, tuple(map(str, ids)))
