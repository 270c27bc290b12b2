"""Diagnosing a planting, and judging the diagnosis by what the planting requires."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness import diagnosis
from harness.diagnosis.outcome.diagnosis import Diagnosis
from harness.diagnosis.outcome.nouns import PlacedFinding
from harness.diagnosis.zoo.fault import TOLERANCE, PlantedFault, Planting
from harness.diagnosis.zoo.models import built_in, names_in
from harness.vocabulary.errors import described
from harness.vocabulary.findings import FINDINGS
from harness.vocabulary.verdict import fails

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)

Diagnose = Callable[..., Diagnosis]


@dataclass(frozen=True)
class Trial:
    """One cell of the confusion table: what of a planting was named rightly, and what was said instead."""

    fault: str
    planting: Planting
    place: bool
    cause: bool
    proven: bool
    """Whether the fault is called proven where it can be, and suspected where it cannot."""
    evidence: bool
    said: str

    @property
    def right(self) -> bool:
        return self.place and self.cause and self.proven and self.evidence

    def __str__(self) -> str:
        wrong = [name for name in ("place", "cause", "proven", "evidence") if not getattr(self, name)]
        return f"{self.fault} {self.planting.name}: {', '.join(wrong) or 'nothing'} wrong; {self.said}"


def required_place(planting: Planting) -> dict[str, Any]:
    """Return the parts of the place that a diagnosis must name, with the architecture's own names."""
    names = names_in(planting.architecture)
    return {key: value.format_map(names) if isinstance(value, str) else value for key, value in planting.place.items()}


def attempt(fault: PlantedFault, planting: Planting, diagnose: Diagnose = diagnosis.diagnose) -> Trial:
    """Plant the fault, diagnose it, and judge; a diagnosis that raises is wrong in everything."""
    with built_in(planting.dtype), planting.plant(planting.architecture) as arguments:
        try:
            return judge(fault, planting, diagnose(**arguments))
        except Exception as error:  # noqa: BLE001  one planting that fails must not end the table
            return Trial(fault.id, planting, False, False, False, False, described(error))


def judge(fault: PlantedFault, planting: Planting, found: Diagnosis) -> Trial:
    """Compare a diagnosis with what is required.

    The cause is right when an error names the fault and no error names another one that does not follow from it.
    """
    named = {each.fault for each in found.findings if fails(each) and each.fault}
    about = [each for each in found.findings if each.fault == fault.id]
    return Trial(
        fault.id,
        planting,
        _is_at(found, required_place(planting)),
        named - set(planting.besides) == {fault.id},
        bool(about) and about[0].confidence == planting.confidence,
        _states(about, planting),
        _said(found),
    )


def _is_at(found: Diagnosis, required: Mapping[str, Any]) -> bool:
    return found.place is not None and all(getattr(found.place, key) == value for key, value in required.items())


def _states(about: Iterable[PlacedFinding], planting: Planting) -> bool:
    about = list(about)
    text = " ".join(_text(each) for each in about).lower()
    seen = {number for each in about for number in _numbers(each)}
    names = names_in(planting.architecture)
    return all(_contains(text, word.format_map(names)) for word in planting.words) and all(
        any(math.isclose(number, each, rel_tol=TOLERANCE, abs_tol=0.0) for each in seen) for number in planting.numbers
    )


def _contains(text: str, word: str) -> bool:
    """Return whether a word begins somewhere in the text, whatever its case: bfloat16 does not contain float16."""
    return re.search(rf"(?<!\w){re.escape(word.lower())}", text) is not None


def _text(each: PlacedFinding) -> str:
    return f"{FINDINGS[each.code].title} {each.message} {json.dumps(each.to_dict()['evidence'], default=str)}"


def _numbers(each: PlacedFinding) -> Iterator[float]:
    yield from (float(text.replace(",", "")) for text in NUMBER.findall(each.message))
    yield from _inside(each.evidence)


def _inside(value: Any) -> Iterator[float]:
    """Yield the numbers in nested evidence."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)
    elif isinstance(value, str):
        yield from (float(text.replace(",", "")) for text in NUMBER.findall(value))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _inside(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _inside(inner)


def _said(found: Diagnosis) -> str:
    if found.cause is None:
        warnings = ", ".join(each.code for each in found.findings)
        return f"clean ({warnings or 'no finding'})"
    named = ", ".join(f"{each.code} {each.fault or '-'}" for each in found.findings if fails(each))
    place = found.place
    return f"{place} [{named}] {found.cause.message}"
