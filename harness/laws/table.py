"""The table of laws: the checks of a run and `harness conformance` read the same one.

A test returns what it saw broken, or None, or a breach for each kind of mistake, and raises DoesNotApply where the law
has nothing to say. That the model is unchanged after a job, and that taps fire, is asked of every job as a whole and by
every recording, so those laws have no test of a job here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps

from harness.laws import afterwards, answers, conduct, in_place, runs
from harness.laws.breach import LawBreach, Seen, breaches
from harness.laws.declared import declared_is_right
from harness.laws.engine_runs import EngineRuns
from harness.laws.estimates import tends_to_the_exact_answer
from harness.laws.forms import Form, in_common
from harness.laws.own_taps import OwnTaps
from harness.laws.situation import Situation
from harness.laws.subject import EngineUnderTest
from harness.vocabulary.errors import DoesNotApply, HarnessError, Unsupported

OfJob = Callable[[Situation], str | None]
OfEngine = Callable[[EngineUnderTest], Seen]


@dataclass(frozen=True)
class Law:
    """A law under a name, the code of its finding, how an engine is asked from outside, and how a job is.

    `of_answers` tells a law that a job of any engine is held to from one about our own interception; `of_forms` one
    that asks forms of its own choice. `once` tells a law about the engine's own code, which is asked on the first model
    that it can be asked on, from one about what the engine makes of a model.
    """

    name: str
    code: str
    of_engine: OfEngine
    of_job: OfJob | None = None
    of_answers: bool = False
    of_forms: bool = False
    once: bool = False
    exact: bool = False
    """Whether only numbers that are exact keep the law: an engine that estimates is not asked."""

    @property
    def about(self) -> str:
        """What the law says, in a line."""
        return " ".join((self.of_engine.__doc__ or "").split())

    def in_forms(self, ways: bool = False) -> Law:
        """Return the law asked in every form of the sample, or in one of each way to patch, and not in the plainest
        alone."""
        return replace(self, of_engine=_in_forms(self.of_engine, ways))


def _in_forms(law: OfEngine, ways: bool) -> OfEngine:
    @wraps(law)
    def of_engine(subject: EngineUnderTest) -> Seen:
        asked: list[Form] = []
        found: dict[str, list[LawBreach]] = {}
        silent: list[HarnessError] = []
        for each in subject.in_forms(ways):
            try:
                broken = breaches(law(each))
            except (DoesNotApply, Unsupported) as error:
                silent.append(error)
                continue
            asked.append(each.asked)
            for breach in broken:
                found.setdefault(breach.kind, []).append(replace(breach, form=each.asked))
        if not asked:
            raise silent[0]
        return tuple(_first(same, asked) for same in found.values())

    return of_engine


def _first(same: Sequence[LawBreach], asked: Sequence[Form]) -> LawBreach:
    """Return the first of the breaches of one kind, with what the forms that show it have in common."""
    forms = [breach.form for breach in same if breach.form]
    return replace(same[0], text=f"{in_common(forms, asked)}{same[0].text}")


def _of_answers(name: str, code: str, law: OfJob, once: bool = False) -> Law:
    """Return a law about answers: an engine is asked the very question that a job is."""

    @wraps(law)
    def of_engine(subject: EngineUnderTest) -> str | None:
        return subject.told(lambda: law(subject.situation))

    return Law(name, code, of_engine, law, of_answers=True, once=once)


def _of_runs(name: str, code: str, law: Callable[[runs.Patcher], str | None]) -> Law:
    """Return a law about runs: an engine is asked by its own runs, a job by those of our own taps."""

    @wraps(law)
    def of_engine(subject: EngineUnderTest) -> str | None:
        return law(EngineRuns(subject))

    @wraps(law)
    def of_job(situation: Situation) -> str | None:
        return law(OwnTaps(situation))

    return Law(name, code, of_engine, of_job)


def _of_kind(law: Law) -> Law:
    """Return the law about the whole residual, asked of a model once for all jobs whose prompts are as long and differ
    at the same positions; where it is broken, in each."""

    def of_job(situation: Situation) -> str | None:
        asked, restored = OwnTaps(situation).residual, situation.model.restored
        if asked in restored or law.of_job is None:
            return None
        breach = law.of_job(situation)
        if breach is None:
            restored.add(asked)
        return breach

    return replace(law, of_job=of_job)


# `declared` asks for the right numbers in every form, so that laws of numbers that it implies (nested, vocabulary,
# identity, closed-form) are asked in one. What it cannot see is asked in the sample of forms: what an answer leaves
# behind, the bits of runs, equal prompts, the same question twice, and metrics that only the engine knows.
_ROWS = (
    Law("answers", "ENG001", conduct.answers_completely),
    Law("declared", "LAW016", declared_is_right, of_forms=True, exact=True),
    Law("after", "LAW005", afterwards.unchanged_after_an_answer).in_forms(),
    _of_runs("traced", "LAW001", runs.traced_is_bare).in_forms(),
    _of_runs("self-patch", "LAW002", runs.own_activations_change_nothing).in_forms(),
    replace(_of_kind(_of_runs("residual", "LAW003", runs.whole_residual_restores_everything)).in_forms(), exact=True),
    Law("taps", "LAW004", conduct.patches_where_it_says),
    Law("metrics", "ORC001", conduct.numbers_follow_from_the_logits),
    Law("places", "LAW018", conduct.places_have_one_answer).in_forms(),
    Law("nested", "LAW009", conduct.nested_names_agree),
    Law("repetition", "LAW010", conduct.asked_again_answers_the_same).in_forms(),
    _of_answers("order", "LAW007", answers.order_and_subset_change_nothing).in_forms(),
    _of_answers("scale", "LAW006", answers.scaled_logits_change_no_recovery).in_forms(),
    _of_answers("in-place", "LAW008", in_place.writing_in_place_changes_nothing, once=True),
    Law("vocabulary", "LAW011", conduct.names_of_tokens_are_free),
    Law("exchanged", "LAW016", conduct.exchanged_answers_change_nothing, once=True),
    Law("identity", "AGR001", conduct.l2_and_mse_agree, exact=True),
    Law("closed-form", "KNO001", conduct.closed_forms_are_met),
    Law("first-order", "LAW019", tends_to_the_exact_answer),
    Law("lengths", "LAW012", conduct.unequal_lengths_are_refused, once=True).in_forms(ways=True),
    Law("names", "LAW013", conduct.unknown_names_are_refused, once=True).in_forms(ways=True),
    Law("undefined", "ORC003", conduct.undefined_is_never_a_number).in_forms(),
    Law("after-error", "LAW014", afterwards.unchanged_after_an_exception, once=True).in_forms(ways=True),
    Law("after-ctrl-c", "LAW015", afterwards.unchanged_after_ctrl_c, once=True).in_forms(ways=True),
)
LAWS: Mapping[str, Law] = {law.name: law for law in _ROWS}

FIRST = "answers"
"""Where this one is broken on a model, nothing else can be asked of it there."""

AFTER = "after"
"""Where this one is broken, every other law gets a model of its own."""
