"""Rules about a value that no operation of the module computes: it is in a table, in a masked slot, in a constant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from harness.diagnosis.causes.arithmetic import BROUGHT_IN
from harness.diagnosis.causes.attention import Leak, leak_of, leak_through
from harness.diagnosis.causes.dependence import dependence_of
from harness.diagnosis.causes.evidence import elements_of, placed
from harness.diagnosis.causes.facts import Facts
from harness.diagnosis.outcome.nouns import SUSPECTED, PlacedFinding
from harness.diagnosis.trail.flow import Trail
from harness.intercept import CALL

_EMBEDDING = re.compile(r"(^|\.)(embed\w*|wte|wpe|tok_embeddings|word_embeddings|\w*embeddings?)$")
_ATTENTION = re.compile(r"(^|\.)(self_attn|attn|attention|\w*attn\w*)(\.|$)")


def by_an_embedding(facts: Facts) -> bool:
    suspect = facts.suspect
    looks_up = suspect.method == CALL and (suspect.is_leaf or suspect.reads_ids)
    return not facts.is_replayed and looks_up and bool(_EMBEDDING.search(suspect.module))


def by_a_masked_slot(facts: Facts) -> bool:
    empty = facts.guilty is None and facts.trail.empty_rows is not None
    return not facts.is_replayed and not empty and bool(_ATTENTION.search(facts.suspect.module))


def embedding(facts: Facts) -> PlacedFinding:
    elements, counts = elements_of(facts.root, facts.trail, facts.suspect), facts.suspect.counts
    count, ids = counts.nan + counts.pos_inf + counts.neg_inf, facts.trail.ids
    listed = ", ".join(f"(token {token}, dimension {dim}) {value}" for token, dim, value in elements)
    more = f" and {count - len(elements)} more" if count > len(elements) else ""
    found = placed(
        facts, "DIA202", "", count=count, elements=[list(each) for each in elements],
        token_ids=sorted({ids[token] for token, _, _ in elements if token is not None and token < len(ids)}),
    )  # fmt: skip
    said = f"{facts.suspect.module} returns {counts.text()}: {listed}{more}; what follows comes from them"
    return replace(found, message=said)


def masked_slot(facts: Facts) -> PlacedFinding | None:
    leak = leak_of(facts.root, facts.trail.ids) or _leak_by_mask(facts)
    if leak is None:
        return None
    slot = leak.slots[0]
    found = placed(
        facts, "DIA206",
        f"slot {slot} holds a non-finite {leak.what}; it is masked for {leak.blocked} of {leak.queries} queries, and "
        f"reaches {leak.reached} of those as 0 x {leak.value}",
        slots=list(leak.slots), masked=True, what=leak.what,
    )  # fmt: skip
    return replace(found, place=replace(found.place, token=slot))


def _leak_by_mask(facts: Facts) -> Leak | None:
    """Attention that is written out, as with a soft cap, is judged by the mask that its module was handed."""
    mask = facts.trail.masks.of(facts.suspect.module)
    if mask is None or not facts.suspect.is_leaf:
        return None
    elements = elements_of(facts.root, facts.trail, facts.suspect)
    slots = sorted({token for token, _, _ in elements if token is not None})
    last = facts.suspect.module.rsplit(".", 1)[-1]
    return leak_through(mask, slots, last, elements[0][2]) if elements else None


def anything(facts: Facts, earlier: Sequence[Trail]) -> PlacedFinding:
    """Return the place, and what is known of it: the finding for what no rule explains, and suspected only."""
    suspect, guilty = facts.suspect, facts.guilty
    inputs = "its inputs are finite" if not suspect.between else f"everything up to {suspect.between[0]} is finite"
    parts = [f"returns {suspect.counts.text()}; {inputs}"]
    if guilty and facts.verdict.kind == BROUGHT_IN:
        parts.append(f"`{guilty.text or guilty.name}` ({guilty.source}) brings in a value that nothing there computed")
    elif guilty:
        parts.append(f"the operation is `{guilty.name}` in `{guilty.text}` ({guilty.source}); {facts.verdict.text}")
    depends, evidence = dependence_of(facts, earlier)
    parts += [each for each in (facts.note if not depends else "", depends) if each]
    if suspect.call > 1:
        evidence["depends_on"] = "the call"
    code = "DIA218" if "depends_on" in evidence else "DIA201"
    return placed(facts, code, "; ".join(parts), SUSPECTED, **evidence)
