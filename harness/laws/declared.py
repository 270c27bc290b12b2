"""The law about everything that an engine declares: its numbers, in every form it can be asked in, are right.

Right is what the harness's own patching and float64 give on the same model. Where the numbers are wrong, the mistake is
named that makes them out of the right ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from harness.laws.breach import LawBreach
from harness.laws.forms import Form, in_common, lists_of
from harness.laws.mistakes import Mistake, Numbers, Suspicion, mistakes_of, shared_mistake, wrong_places
from harness.laws.subject import EngineUnderTest
from harness.metrics.tolerances import Work, recovery_tolerance
from harness.vocabulary import METRICS, Direction, site_position
from harness.vocabulary.errors import DoesNotApply, HarnessError


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
    return tuple(
        LawBreach(kind, f"{in_common([each.form for each in wrong], asked)}{wrong[0].known}")
        for kind, wrong in kinds.items()
    )


def forms_asked(subject: EngineUnderTest) -> list[Form]:
    """Return the forms of the design that have an answer on this model."""
    known = [each for each in subject.declared.forms if subject.answers or not METRICS[each.metric].needs_answers]
    return [form for form in known if subject.of(form).lacking is None]


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

    @cached_property
    def points(self) -> float:
        dtype = self.subject.model.card.dtype
        return max(recovery_tolerance(work, dtype) for work in (Work.OTHER_FORMULA, Work.OTHER_BATCH))

    def wrong(self, form: Form) -> _Wrong | None:
        """Return both sides of a form that is answered wrongly; None where the answer is right."""
        right = self.subject.of(form).right()
        outcome = self.subject.of(form).plain
        if outcome.error:
            kind = outcome.error.partition(":")[0]
            return _Wrong(form, {}, right, Mistake(f"raised {kind}", f"raised {outcome.error}"))
        said = {(layer, self._position(form, token), head): reading
                for (layer, token, head), reading in outcome.numbers.items()}  # fmt: skip
        return _Wrong(form, said, right) if wrong_places(said, right, self.points) else None

    def explain(self, found: Sequence[_Wrong]) -> None:
        """Name the mistake of each form: as few mistakes as explain them all.

        Arithmetic that explains all of them together is enough. Otherwise, of what explains a form alone or with the
        others of its metric, the mistake that explains the most other forms as well.
        """
        everywhere = self._shared(found)
        possible = {
            id(wrong): [everywhere] if everywhere else self._possible(wrong, found)
            for wrong in found
            if wrong.mistake is None
        }
        common = Counter(kind for mistakes in possible.values() for kind in {mistake.kind for mistake in mistakes})
        for wrong in found:
            if wrong.mistake is None:
                wrong.mistake = max(possible[id(wrong)], key=lambda mistake: common[mistake.kind])

    def _possible(self, wrong: _Wrong, found: Sequence[_Wrong]) -> list[Mistake]:
        shared = self._shared([each for each in found if each.form.metric == wrong.form.metric])
        suspects = partial(self._suspicions, wrong.form)
        return [*([shared] if shared else []), *mistakes_of(wrong.said, wrong.right, self.points, suspects)]

    def _shared(self, found: Sequence[_Wrong]) -> Mistake | None:
        open_ = [(wrong.said, wrong.right) for wrong in found if wrong.mistake is None]
        return shared_mistake(open_, self.points) if open_ else None

    def _position(self, form: Form, token: int | None) -> str:
        return site_position(form.positions) if token is None else str(token)

    # -- what it may have been mistaken for ---------------------------------------------------------------------------

    def _suspicions(self, form: Form) -> Iterator[Suspicion]:
        """Yield other questions with their answers, under the places of this form."""
        for kind, said, other, exchanged in self._others(form):
            try:
                numbers = self.subject.of(other).right(exchanged)
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
            ("positions", () if form.positions == "each" else ("all", "last", *self._lists())),
            ("metric", METRICS),
            ("component", self.subject.declared.components),
        ):
            asked = getattr(form, axis)
            for value in values:
                if value != asked:
                    other_form = replace(form, **{axis: value})  # type: ignore[arg-type]  # a value of the axis
                    here, there = (dict(each.axes)[axis] for each in (form, other_form))
                    yield axis, f"{axis} {there} where {here} is asked", other_form, ""

    def _lists(self) -> list[tuple[int, ...]]:
        return lists_of(self.subject.clean, self.subject.corrupted)

    def _placed(self, numbers: Numbers, form: Form) -> Numbers:
        if form.positions == "each":
            return numbers
        return {(layer, self._position(form, None), head): each for (layer, _, head), each in numbers.items()}
