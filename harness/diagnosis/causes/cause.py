"""From the first suspect of a trail to the cause: rules over facts, of which one applies at most.

A rule reads what the operation is, what module it is in, and what float64 says of its operands; it does not depend on
the other rules having been asked before. *Proven* is what was replayed, everything else is *suspected*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.diagnosis.causes import brought_in, invalid, overflow
from harness.diagnosis.causes.facts import Facts, facts_of
from harness.diagnosis.outcome.nouns import PlacedFinding
from harness.diagnosis.trail.flow import Suspect, Trail

Rule = tuple[Callable[[Facts], bool], Callable[[Facts], PlacedFinding | None]]

RULES: Mapping[str, Rule] = {
    "DIA202": (brought_in.by_an_embedding, brought_in.embedding),
    "DIA203": (overflow.in_the_residual, overflow.residual),
    "DIA204": (overflow.in_an_mlp, overflow.mlp),
    "DIA205": (invalid.of_an_empty_row, invalid.empty_row),
    "DIA206": (brought_in.by_a_masked_slot, brought_in.masked_slot),
    "DIA207": (invalid.of_an_epsilon, invalid.epsilon),
    "DIA208": (invalid.of_a_difference, invalid.difference),
    "DIA211": (overflow.in_a_group, overflow.group),
    "DIA212": (overflow.in_scores, overflow.scores),
    "DIA214": (overflow.elsewhere, overflow.other),
    "DIA215": (invalid.otherwise, invalid.no_value),
}
"""Code -> (when it applies, the finding, or None where a closer look does not bear it out)."""


def cause_of(root: Any, trail: Trail, earlier: Sequence[Trail] = ()) -> PlacedFinding:
    """Return what the suspect of a trail is. `earlier` are runs of the same diagnosis.

    Repeats the run to look inside it, and once more to see that it is finite without what was found.
    """
    facts = facts_of(root, trail, any(_same(each.suspect, trail.suspect) for each in earlier))
    for applies, finding in RULES.values():
        if applies(facts) and (found := finding(facts)):
            return found
    return brought_in.anything(facts, earlier)


def _same(one: Suspect | None, other: Suspect | None) -> bool:
    if one is None or other is None:
        return False
    return (one.module, one.method, one.call, one.between) == (other.module, other.method, other.call, other.between)
