"""The table of laws: the checks of a run and `harness conformance` read the same one.

A test returns what it saw broken, or None, or a breach for each kind of mistake, and raises DoesNotApply where the law
has nothing to say. That the model is unchanged after a job, and that taps fire, is asked of every job as a whole and by
every recording, so those laws have no test of a job here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps

from harness.laws import afterwards, answers, conduct, in_place, runs
from harness.laws.breach import Seen
from harness.laws.declared import declared_is_right
from harness.laws.engine_runs import EngineRuns
from harness.laws.own_taps import OwnTaps
from harness.laws.situation import Situation
from harness.laws.subject import EngineUnderTest

OfJob = Callable[[Situation], str | None]
OfEngine = Callable[[EngineUnderTest], Seen]


@dataclass(frozen=True)
class Law:
    """A law under a name, the code of its finding, how an engine is asked from outside, and how a job is.

    `of_answers` tells a law that a job of any engine is held to from one about our own interception; `of_forms` one
    that asks more than the plain question.
    """

    name: str
    code: str
    of_engine: OfEngine
    of_job: OfJob | None = None
    of_answers: bool = False
    of_forms: bool = False

    @property
    def about(self) -> str:
        """What the law says, in a line."""
        return " ".join((self.of_engine.__doc__ or "").split())


def _of_answers(name: str, code: str, law: OfJob) -> Law:
    """Return a law about answers: an engine is asked the very question that a job is."""

    @wraps(law)
    def of_engine(subject: EngineUnderTest) -> str | None:
        return subject.told(law)

    return Law(name, code, of_engine, law, of_answers=True)


def _of_runs(name: str, code: str, law: Callable[[runs.Patcher], str | None]) -> Law:
    """Return a law about runs: an engine is asked by its own runs, a job by those of our own taps."""

    @wraps(law)
    def of_engine(subject: EngineUnderTest) -> str | None:
        return law(EngineRuns(subject))

    @wraps(law)
    def of_job(situation: Situation) -> str | None:
        return law(OwnTaps(situation))

    return Law(name, code, of_engine, of_job)


_ROWS = (
    Law("answers", "ENG001", conduct.answers_completely),
    Law("declared", "LAW016", declared_is_right, of_forms=True),
    Law("after", "LAW005", afterwards.unchanged_after_an_answer),
    _of_runs("traced", "LAW001", runs.traced_is_bare),
    _of_runs("self-patch", "LAW002", runs.own_activations_change_nothing),
    _of_runs("residual", "LAW003", runs.whole_residual_restores_everything),
    Law("taps", "LAW004", conduct.patches_where_it_says),
    Law("nested", "LAW009", conduct.nested_names_agree),
    Law("repetition", "LAW010", conduct.asked_again_answers_the_same),
    _of_answers("order", "LAW007", answers.order_and_subset_change_nothing),
    _of_answers("scale", "LAW006", answers.scaled_logits_change_no_recovery),
    _of_answers("in-place", "LAW008", in_place.writing_in_place_changes_nothing),
    Law("vocabulary", "LAW011", conduct.names_of_tokens_are_free),
    Law("identity", "AGR001", conduct.l2_and_mse_agree),
    Law("closed-form", "KNO001", conduct.closed_forms_are_met),
    Law("lengths", "LAW012", conduct.unequal_lengths_are_refused),
    Law("names", "LAW013", conduct.unknown_names_are_refused),
    Law("undefined", "ORC003", conduct.undefined_is_never_a_number),
    Law("after-error", "LAW014", afterwards.unchanged_after_an_exception),
    Law("after-ctrl-c", "LAW015", afterwards.unchanged_after_ctrl_c),
)
LAWS: Mapping[str, Law] = {law.name: law for law in _ROWS}

FIRST = "answers"
"""Where this one is broken on a model, nothing else can be asked of it there."""

AFTER = "after"
"""Where this one is broken, every other law gets a model of its own."""
