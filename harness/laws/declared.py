"""The law about everything that an engine declares: its numbers, in every form it can be asked in, are right.

Right is what the harness's own patching and float64 give on the same model. Where the numbers are wrong, the mistake is
named that makes them out of the right ones.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from harness.engines import ENGINES, ForeignEngine, answer
from harness.engines.foreign import hear, mistake_behind
from harness.intercept.hookpoints import layers_with
from harness.laws.breach import LawBreach
from harness.laws.forms import Form, components, forms
from harness.laws.stated_baselines import wrong_baselines
from harness.laws.subject import EngineUnderTest
from harness.metrics.mistakes import Numbers, Place, Suspicion, mistakes_of, shared_mistake, wrong_places
from harness.metrics.tolerances import Work, recovery_tolerance
from harness.vocabulary import (
    METRICS,
    AnswerTokens,
    Curve,
    Direction,
    Mistake,
    Positions,
    Question,
    Reading,
    State,
    Sweep,
    Tokens,
)
from harness.vocabulary.errors import DoesNotApply, HarnessError, Unsupported


def declared_is_right(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """Everything the engine declares, metric by component by positions by direction, gets the right numbers."""
    if subject.engine.is_native:
        raise DoesNotApply("the harness's own numbers are what others are held to; their oracle is float64")
    asked = forms(subject.engine, subject.model)
    inquiry = _Inquiry(subject)
    if not subject.answers:
        asked = [form for form in asked if not METRICS[form.metric].needs_answers]
    if not asked:
        raise DoesNotApply("it declares no metric and component that the harness knows on this model")
    found = [wrong for form in asked if (wrong := inquiry.wrong(form))]
    inquiry.explain(found)
    kinds: dict[str, list[_Wrong]] = {}
    for wrong in found:
        kinds.setdefault(wrong.known.kind, []).append(wrong)
    told = (LawBreach(kind, _told(wrong, asked)) for kind, wrong in kinds.items())
    return (*told, *wrong_baselines(subject, inquiry.baselines))


def declares_otherwise(subject: EngineUnderTest) -> str | None:
    """Return what an engine declares or answers on this model, whose plain question it refuses; None where nothing."""
    engine, model = subject.engine, subject.model
    if isinstance(engine, ForeignEngine) and engine.declared.claims(model):
        return f"refuses {model.card.architecture}, which it declares"
    inquiry = _Inquiry(subject)
    answered = next((form for form in forms(engine, model) if not inquiry.refuses(form)), None)
    return f"refuses the plain question, and answers {answered}" if answered else None


def _told(wrong: list[_Wrong], asked: Sequence[Form]) -> str:
    """Return a mistake after the form it was first seen in, and what the forms with it have in common."""
    first = wrong[0]
    if len(wrong) == 1:
        return f"{first.form}: {first.known}"
    shared = [
        str(value)
        for axis, value in vars(first.form).items()
        if len(wrong) == sum(getattr(form, axis) == value for form in asked) < len(asked)
        and all(getattr(each.form, axis) == value for each in wrong)
    ]
    which = f", those with {' and '.join(shared)} and no other" if shared else ""
    return f"{len(wrong)} of {len(asked)} forms asked{which}, first {first.form}: {first.known}"


UNITS = ("absolute", "percent", "fraction")


def _unit_mistake(unit: str, declared: str, sign: int) -> Mistake:
    turned = " with the sign reversed" if sign < 0 else ""
    given = "absolute effects, m(patched) - m(corrupted)," if unit == "absolute" else f"{unit} numbers"
    said = f"{given}{turned} where {declared} is declared"
    remedy = f'declare "units": "{unit}"' + (", and reverse the sign" if sign < 0 else "")
    return Mistake(f"{unit} for {declared}{turned}", said, remedy)


@dataclass
class _Wrong:
    """A form that is answered wrongly: both sides, and the mistake, once it is known."""

    form: Form
    said: Numbers
    right: Numbers
    mistake: Mistake | None = None

    @property
    def known(self) -> Mistake:
        assert self.mistake is not None
        return self.mistake


@dataclass
class _Inquiry:
    """An engine's numbers in a form, the right ones, and those of questions it may have mistaken the form for."""

    subject: EngineUnderTest
    known: dict[tuple[Form, str], dict[str, Numbers]] = field(default_factory=dict)
    """(a form without its metric, what is exchanged) -> metric -> what is right."""
    baselines: dict[str, float] = field(default_factory=dict)
    """What the engine first stated for each metric, denoising."""
    definitions: dict[str, Mistake | None] = field(default_factory=dict)

    @cached_property
    def points(self) -> float:
        dtype = self.subject.model.card.dtype
        return max(recovery_tolerance(work, dtype) for work in (Work.OTHER_FORMULA, Work.OTHER_BATCH))

    def wrong(self, form: Form) -> _Wrong | None:
        """Return both sides of a form that is answered wrongly; None where the answer is right."""
        right = self._right(form)
        try:
            said = self._said(form)
        except Unsupported as error:
            if not self._declared_by_name(form.component):
                return None
            return _Wrong(form, {}, right, Mistake("refused", f"it declares this, and refuses it: {error}"))
        except Exception as error:  # noqa: BLE001  whatever an engine raises is its answer here
            return _Wrong(
                form, {}, right, Mistake(f"raised {type(error).__name__}", f"raised {self.subject.raised(error)}")
            )
        return _Wrong(form, said, right) if wrong_places(said, right, self.points) else None

    def refuses(self, form: Form) -> bool:
        """Return whether the engine's adapter refuses a form."""
        try:
            self._said(form)
        except Unsupported:
            return True
        except Exception:  # noqa: BLE001  it tries
            return False
        return False

    def explain(self, found: Sequence[_Wrong]) -> None:
        """Name the mistake of each form: as few mistakes as explain them all.

        Arithmetic that explains all of them together is enough. Otherwise, of what explains a form alone or with the
        others of its metric, the mistake that explains the most other forms as well.
        """
        everywhere = self._unit(found) or self._shared(found)
        possible = {
            id(wrong): [everywhere] if everywhere else self._possible(wrong, found)
            for wrong in found
            if wrong.mistake is None
        }
        common = Counter(kind for mistakes in possible.values() for kind in {mistake.kind for mistake in mistakes})
        for wrong in found:
            if wrong.mistake is None:
                wrong.mistake = max(possible[id(wrong)], key=lambda mistake: common[mistake.kind])

    def _unit(self, found: Sequence[_Wrong]) -> Mistake | None:
        """Return the unit that all answers are in, where it is not the declared one and one of the two is absolute."""
        open_ = [wrong for wrong in found if wrong.mistake is None]
        engine = self.subject.engine
        if not open_ or not isinstance(engine, ForeignEngine):
            return None
        for unit, sign in itertools.product(UNITS, (1, -1)):
            if "absolute" not in (unit, engine.declared.units) or unit == engine.declared.units:
                continue
            made = [(wrong, self._in_unit(wrong, unit, sign)) for wrong in open_]
            if all(made and not wrong_places(wrong.said, made, self.points) for wrong, made in made):
                return _unit_mistake(unit, engine.declared.units, sign)
        return None

    def _in_unit(self, wrong: _Wrong, unit: str, sign: int) -> Numbers:
        """Return the right recoveries as they are read where they are given in another unit than the declared one."""
        engine, ends = self.subject.engine, self.subject.ends(self._question(wrong.form))
        assert isinstance(engine, ForeignEngine)
        if ends is None or ends.denominator is None or not ends.denominator.gap:
            return {}
        sizes = {"percent": 100.0, "fraction": 1.0, "absolute": ends.denominator.gap}
        factor = sign * sizes[unit] / sizes[engine.declared.units]
        return {at: each if each.value is None else Reading.of(factor * each.value) for at, each in wrong.right.items()}

    def _possible(self, wrong: _Wrong, found: Sequence[_Wrong]) -> list[Mistake]:
        shared = self._shared([each for each in found if each.form.metric == wrong.form.metric])
        suspects = partial(self._suspicions, wrong.form)
        possible = [*([shared] if shared else []), *mistakes_of(wrong.said, wrong.right, self.points, suspects)]
        if any(mistake.is_rule for mistake in possible):
            return possible
        return [defined] if (defined := self._definition(wrong.form)) else possible

    def _definition(self, form: Form) -> Mistake | None:
        """Return the definition that the engine has of a metric, whose logits are asked for once."""
        if not isinstance(self.subject.engine, ForeignEngine) or form.positions == "each":
            return self.definitions.get(form.metric)
        if form.metric not in self.definitions:
            try:
                made = mistake_behind(self.subject.engine, self.subject.model, self._question(form))
            except Exception:  # noqa: BLE001  it answered before; what it raises now explains nothing
                made = None
            self.definitions[form.metric] = made
        return self.definitions[form.metric]

    def _shared(self, found: Sequence[_Wrong]) -> Mistake | None:
        open_ = [(wrong.said, wrong.right) for wrong in found if wrong.mistake is None]
        return shared_mistake(open_, self.points) if open_ else None

    def _declared_by_name(self, component: str) -> bool:
        """Return whether the declaration names a component, and does not only take any path."""
        engine = self.subject.engine
        assert isinstance(engine, ForeignEngine)
        return engine.declared.own_name(self.subject.model, component) in engine.declared.components

    # -- the two sides ----------------------------------------------------------------------------------------------

    def _right(self, form: Form, exchanged: str = "") -> Numbers:
        """Return what is right in a form; `exchanged` are the prompts or the answers, for a suspicion."""
        key = replace(form, metric=""), exchanged
        if key not in self.known:
            question = replace(self._question(form, exchanged), metrics=tuple(self._metrics()))
            self.known[key] = {
                curve.metric: _numbers(curve)
                for curve in answer(ENGINES["native"], self.subject.model, question).curves
            }
        return self.known[key][form.metric]

    def _metrics(self) -> list[str]:
        return [name for name, metric in METRICS.items() if self.subject.answers or not metric.needs_answers]

    def _said(self, form: Form) -> Numbers:
        engine, question = self.subject.engine, self._question(form)
        if not isinstance(engine, ForeignEngine):
            (curve,) = answer(engine, self.subject.model, question).curves
            return _numbers(curve)
        heard = hear(engine, self.subject.request(question))
        if heard.reply.baseline is not None and form.direction == Direction.DENOISING:
            self.baselines.setdefault(form.metric, heard.reply.baseline)
        said = self.subject.readings(heard, question).items()
        return {(layer, self._position(form, token), head): reading for (layer, token, head), reading in said}

    def _position(self, form: Form, token: int | None) -> str:
        shared = ",".join(map(str, self._list())) if form.positions == "list" else form.positions
        return shared if token is None else str(token)

    def _list(self) -> tuple[int, ...]:
        """Return the positions of a list: where the prompts first differ, and the last."""
        pairs = list(zip(self.subject.clean, self.subject.corrupted, strict=True))
        first = next((at for at, (a, b) in enumerate(pairs) if a != b), 0)
        return tuple(dict.fromkeys((first, len(pairs) - 2))) if len(pairs) > 2 else (first,)

    def _question(self, form: Form, exchanged: str = "") -> Question:
        positions: Positions = self._list() if form.positions == "list" else form.positions
        layers = self.subject.layers or tuple(layers_with(self.subject.model, form.component))
        prompts = [Tokens(ids, tuple(map(str, ids))) for ids in (self.subject.clean, self.subject.corrupted)]
        clean, corrupted = reversed(prompts) if exchanged == "prompts" else prompts
        sweep = Sweep((form.component,), layers, Direction(form.direction), positions)
        answers = self.subject.answers
        if answers and exchanged == "answers":
            answers = AnswerTokens(answers.wrong, answers.answer)
        return Question(clean, corrupted, sweep, (form.metric,), answers)

    # -- what it may have been mistaken for ---------------------------------------------------------------------------

    def _suspicions(self, form: Form) -> Iterator[Suspicion]:
        """Yield other questions with their answers, under the places of this form."""
        for kind, said, other, exchanged in self._others(form):
            try:
                numbers = self._right(other, exchanged)
            except HarnessError:
                continue
            yield Suspicion(kind, said, self._placed(numbers, form))

    def _others(self, form: Form) -> Iterator[tuple[str, str, Form, str]]:
        other = next(each for each in Direction if each != form.direction)
        said = f"{other} is answered where {form.direction} is asked"
        yield "direction", said, replace(form, direction=other), ""
        yield "prompts exchanged", "clean and corrupted are exchanged", form, "prompts"
        said = "the metric's clean and corrupted runs are exchanged"
        yield "prompts exchanged", said, replace(form, direction=other), "prompts"
        yield "answers exchanged", "the answer and the wrong answer are exchanged", form, "answers"
        for axis, values in (
            ("positions", () if form.positions == "each" else ("all", "last", "list")),
            ("metric", self._metrics()),
            ("component", components(self.subject.engine, self.subject.model)),
        ):
            asked = getattr(form, axis)
            for value in values:
                if value != asked:
                    yield axis, f"{axis} {value} where {asked} is asked", replace(form, **{axis: value}), ""

    def _placed(self, numbers: Numbers, form: Form) -> Numbers:
        if form.positions == "each":
            return numbers
        return {(layer, self._position(form, None), head): each for (layer, _, head), each in numbers.items()}


def _numbers(curve: Curve) -> dict[Place, Reading]:
    """Return the recoveries of a curve by place; what rounding alone makes is not held against anybody."""
    worth = (cell for cell in curve.cells if cell.recovery.state is not State.ILL_CONDITIONED)
    return {(cell.layer, cell.position, cell.head): cell.recovery for cell in worth}
