"""The table of laws. A law returns what it saw broken, or None.

That taps fire is asserted by every recording and every patch itself (`harness.intercept`), and that the model is
unchanged is asked of the job as a whole, so neither is a row here.
"""

from __future__ import annotations

from harness.laws.answers import order_and_subset_change_nothing, scaled_logits_change_no_recovery
from harness.laws.in_place import writing_in_place_changes_nothing
from harness.laws.runs import self_patch_changes_nothing, traced_is_bare, whole_residual_restores
from harness.laws.situation import Law

LAWS: tuple[Law, ...] = (
    Law("LAW001", traced_is_bare),
    Law("LAW002", self_patch_changes_nothing),
    Law("LAW003", whole_residual_restores),
    Law("LAW006", scaled_logits_change_no_recovery, of_answers=True),
    Law("LAW007", order_and_subset_change_nothing, of_answers=True),
    Law("LAW008", writing_in_place_changes_nothing, of_answers=True),
)
