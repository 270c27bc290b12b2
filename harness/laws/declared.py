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

from harness.engines import ForeignEngine
from harness.engines.foreign import mistake_behind
from harness.engines.other_questions import other_questions
from harness.laws.breach import LawBreach
from harness.laws.forms import Form, in_common, lists_of
from harness.laws.stated_baselines import wrong_baselines
from harness.laws.subject import EngineUnderTest
from harness.metrics.mistakes import Numbers, Suspicion, mistakes_of, shared_mistake, wrong_places
from harness.metrics.tolerances import Work, recovery_tolerance
from harness.vocabulary import METRICS, Direction, Mistake, Reading, site_position
from harness.vocabulary.errors import DoesNotApply, HarnessError, Unsupported


def declared_is_right(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """Everything the engine declares, metric by component by positions by direction, gets the right numbers."""
    if subject.engine.is_native:
        raise DoesNotApply("the harness's own numbers are what others are held to; their oracle is float64")
    asked = forms_asked(subject)
    if not asked:
        raise DoesNotApply("it declares no metric and component that the harness knows on this model")
    inquiry = _Inquiry(subject)
    found = [wrong for form in asked if (wrong := inquiry.wrong(form))]
    inquiry.explain(found)
    kinds: dict[str, list[_Wrong]] = {}
    for wrong in found:
        kinds.setdefault(wrong.known.kind, []).append(wrong)
    told = (
        LawBreach(kind, f"{in_common([each.form for each in wrong], asked)}{wrong[0].known}")
        for kind, wrong in kinds.items()
    )
    return (*told, *wrong_baselines(subject, inquiry.baselines))


def forms_asked(subject: EngineUnderTest) -> list[Form]:
    """Return the forms of the design that are held against right numbers on this model."""
    known = [each for each in subject.declared.forms if subject.answers or not METRICS[each.metric].needs_answers]
    return [form for form in known if why_not_asked(subject, form) is None]


def why_not_asked(subject: EngineUnderTest, form: Form) -> str | None:
    """Return why the model has no answer in a form, or the engine refuses what it does not declare by name; or
    None."""
    asked = subject.of(form)
    return asked.lacking or (None if _declared_by_name(subject, form.component) else asked.refusal)


def _declared_by_name(subject: EngineUnderTest, component: str) -> bool:
    """Return whether the declaration names a component, and does not only take any path."""
    engine = subject.engine
    if not isinstance(engine, ForeignEngine):
        return True
    return engine.declared.own_name(subject.model, component) in engine.declared.components


def declares_otherwise(subject: EngineUnderTest) -> str | None:
    """Return what an engine declares or answers on this model, whose plain question it refuses; None where nothing."""
    engine, model = subject.engine, subject.model
    if isinstance(engine, ForeignEngine) and engine.declared.claims(model):
        return f"refuses {model.card.architecture}, which it declares"
    answered = next((form for form in subject.declared.forms if subject.of(form).refusal is None), None)
    return f"refuses the plain question, and answers {answered}" if answered else None


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
    baselines: dict[str, float] = field(default_factory=dict)
    """What the engine first stated for each metric, denoising."""
    definitions: dict[str, Mistake | None] = field(default_factory=dict)

    @cached_property
    def points(self) -> float:
        dtype = self.subject.model.card.dtype
        return max(recovery_tolerance(work, dtype) for work in (Work.OTHER_FORMULA, Work.OTHER_BATCH))

    def wrong(self, form: Form) -> _Wrong | None:
        """Return both sides of a form that is answered wrongly; None where the answer is right."""
        right = self.subject.of(form).right()
        try:
            outcome = self.subject.of(form).plain
        except Unsupported as error:
            return _Wrong(form, {}, right, Mistake("refused", f"it declares this, and refuses it: {error}"))
        if outcome.error:
            kind = outcome.error.partition(":")[0]
            return _Wrong(form, {}, right, Mistake(f"raised {kind}", f"raised {outcome.error}"))
        if outcome.baseline is not None and form.direction == Direction.DENOISING:
            self.baselines.setdefault(form.metric, outcome.baseline)
        said = {(layer, self._position(form, token), head): reading
                for (layer, token, head), reading in outcome.numbers.items()}  # fmt: skip
        return _Wrong(form, said, right) if wrong_places(said, right, self.points) else None

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
            if not any(abs(each.value or 0.0) > self.points for _, numbers in made for each in numbers.values()):
                continue  # effects so small that 0 in every cell is near them all
            if all(made and not wrong_places(wrong.said, made, self.points) for wrong, made in made):
                return _unit_mistake(unit, engine.declared.units, sign)
        return None

    def _in_unit(self, wrong: _Wrong, unit: str, sign: int) -> Numbers:
        """Return the right recoveries as they are read where they are given in another unit than the declared one."""
        engine, ends = self.subject.engine, self.subject.ends(self.subject.of(wrong.form).question())
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
        defined = self._definition(wrong.form)
        if any(mistake.is_rule for mistake in possible):
            # A rule may fit a few cells by chance; what explains the other forms of the metric as well is chosen.
            return [*possible, defined] if defined else possible
        return [defined] if defined else possible

    def _definition(self, form: Form) -> Mistake | None:
        """Return the definition that the engine has of a metric, whose logits are asked for once."""
        if not isinstance(self.subject.engine, ForeignEngine):
            return None
        if form.metric not in self.definitions:
            # The runs of the plainest form are told apart best: heads of a layer differ in no stage of a run.
            plainest = self.subject.of(replace(self.subject.declared.forms[0], metric=form.metric))
            try:
                made = mistake_behind(self.subject.engine, self.subject.model, plainest.question())
            except Exception:  # noqa: BLE001  it answered before; what it raises now explains nothing
                made = None
            self.definitions[form.metric] = made
        return self.definitions[form.metric]

    def _shared(self, found: Sequence[_Wrong]) -> Mistake | None:
        open_ = [(wrong.said, wrong.right) for wrong in found if wrong.mistake is None]
        return shared_mistake(open_, self.points) if open_ else None

    def _position(self, form: Form, token: int | None) -> str:
        return site_position(form.positions) if token is None else str(token)

    # -- what it may have been mistaken for ---------------------------------------------------------------------------

    def _suspicions(self, form: Form) -> Iterator[Suspicion]:
        """Yield other questions with their answers, under the places of this form."""
        subject = self.subject
        lists = lists_of(subject.clean, subject.corrupted)
        others = other_questions(subject.of(form).question(), subject.declared.components, METRICS, lists)
        for kind, said, other in others:
            try:
                numbers = subject.right_of(other)
            except HarnessError:
                continue
            yield Suspicion(kind, said, self._placed(numbers, form))

    def _placed(self, numbers: Numbers, form: Form) -> Numbers:
        if form.positions == "each":
            return numbers
        return {(layer, self._position(form, None), head): each for (layer, _, head), each in numbers.items()}
