"""The table of laws as conformance asks them: a name, the code of the finding, and the question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps

from harness.laws import afterwards, answers, conduct, in_place
from harness.laws.situation import Situation
from harness.laws.subject import Subject


@dataclass(frozen=True)
class AskedLaw:
    """A law that can be asked of any engine from outside."""

    name: str
    code: str
    test: Callable[[Subject], str | None]

    @property
    def about(self) -> str:
        """What the law says, in a line."""
        return " ".join((self.test.__doc__ or "").split())


def _of_answers(law: Callable[[Situation], str | None]) -> Callable[[Subject], str | None]:
    """Ask a subject for one of the laws that jobs are held to as well."""

    @wraps(law)
    def test(subject: Subject) -> str | None:
        return subject.told(law)

    return test


_ROWS = (
    AskedLaw("answers", "ENG001", conduct.answers_completely),
    AskedLaw("after", "LAW005", afterwards.unchanged_after_an_answer),
    AskedLaw("traced", "LAW001", conduct.traced_equals_bare),
    AskedLaw("self-patch", "LAW002", conduct.own_activations_change_nothing),
    AskedLaw("residual", "LAW003", conduct.whole_residual_restores_everything),
    AskedLaw("taps", "LAW004", conduct.patches_where_it_says),
    AskedLaw("nested", "LAW009", conduct.nested_names_agree),
    AskedLaw("repetition", "LAW010", conduct.asked_again_answers_the_same),
    AskedLaw("order", "LAW007", _of_answers(answers.order_and_subset_change_nothing)),
    AskedLaw("scale", "LAW006", _of_answers(answers.scaled_logits_change_no_recovery)),
    AskedLaw("in-place", "LAW008", _of_answers(in_place.writing_in_place_changes_nothing)),
    AskedLaw("vocabulary", "LAW011", conduct.names_of_tokens_are_free),
    AskedLaw("identity", "AGR001", conduct.l2_and_mse_agree),
    AskedLaw("closed-form", "KNO001", conduct.closed_forms_are_met),
    AskedLaw("lengths", "LAW012", conduct.unequal_lengths_are_refused),
    AskedLaw("names", "LAW013", conduct.unknown_names_are_refused),
    AskedLaw("undefined", "ORC003", conduct.undefined_is_never_a_number),
    AskedLaw("after-error", "LAW014", afterwards.unchanged_after_an_exception),
    AskedLaw("after-ctrl-c", "LAW015", afterwards.unchanged_after_ctrl_c),
)
ASKED: Mapping[str, AskedLaw] = {law.name: law for law in _ROWS}
FIRST = "answers"
"""Where this one is broken on a model, nothing else can be asked of it there."""

AFTER = "after"
"""Where this one is broken, every other law gets a model of its own."""
