"""Diagnoses made by hand, from the data that a planting requires: what a diagnoser without a fault would say."""

from __future__ import annotations

from dataclasses import replace

from harness.diagnosis.outcome.diagnosis import Diagnosis
from harness.diagnosis.outcome.nouns import Place, PlacedFinding
from harness.diagnosis.zoo.models import names_in
from harness.diagnosis.zoo.trial import required_place


def right(fault, planting, code="DIA201"):
    """The diagnosis that says exactly what is required."""
    place = {"step": "forward", **required_place(planting)}
    words = (word.format_map(names_in(planting.architecture)) for word in planting.words)
    message = f"{' '.join(words)} {' '.join(f'{number:.6g}' for number in planting.numbers)}"
    said = PlacedFinding(code, message, place=Place(**place), fault=fault.id, confidence=planting.confidence)
    return Diagnosis(findings=(said,))


def at(diagnosis, **other):
    """The same diagnosis, with other parts of the place."""
    first = diagnosis.findings[0]
    return replace(diagnosis, findings=(replace(first, place=replace(first.place, **other)), *diagnosis.findings[1:]))


def saying(diagnosis, **other):
    """The same diagnosis, with another message, fault or code."""
    return replace(diagnosis, findings=(replace(diagnosis.findings[0], **other), *diagnosis.findings[1:]))
