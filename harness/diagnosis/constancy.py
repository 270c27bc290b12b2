"""Is the model a function of its input? What a diagnosis says where it is not: no number of it means anything then."""

from __future__ import annotations

from collections.abc import Mapping

from harness.diagnosis.outcome.nouns import PROVEN, SUSPECTED, Place, PlacedFinding
from harness.intercept.inconstancy import Cause, Inconstancy

_CODES: Mapping[Cause, str] = {
    Cause.TRAINING: "DIA221",
    Cause.DRAW: "DIA221",
    Cause.STATE: "DIA222",
    Cause.DEVICE: "DIA607",
    Cause.UNKNOWN: "DIA604",
}


def placed(found: Inconstancy, run: str) -> PlacedFinding:
    """Return the finding about a model, or a machine, that gave two answers to the prompt of a run."""
    step = "comparisons" if found.cause in (Cause.DEVICE, Cause.UNKNOWN) else "forward"
    place = Place.of_module(step, run, found.module)
    confidence = PROVEN if found.proven else SUSPECTED
    return PlacedFinding.of(_CODES[found.cause], found.message, place, confidence, **found.evidence)
