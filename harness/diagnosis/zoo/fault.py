"""What a fault of the zoo is, and the diagnosis that it requires, as data.

A *fault* is a way in which patching results went wrong for somebody, with the report. A *planting* puts it into one
small model, as it really arises, and says what a diagnosis of it must contain:

    place      the parts of the place that the planting determines; parts it leaves open are not in the mapping
    numbers    numbers that the findings about the fault must state, within `TOLERANCE`
    words      texts that their titles, messages or evidence must contain; a hint proves nothing

Texts in `place` and `words` are templates over the names that the architecture gives its modules:
`models.MODULE_NAMES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from harness.diagnosis.outcome.nouns import PROVEN

TOLERANCE = 2e-3
"""Relative: a message rounds to three digits, and must tell a distance of 257.3 from its limit of 255.97."""

Plant = Callable[[str], AbstractContextManager[Mapping[str, Any]]]
"""(architecture) -> a context in which the fault exists, yielding the keyword arguments for `diagnose`."""


KINDS: Mapping[str, str] = {
    "H": "a value is not finite",
    "S": "a finite number is wrong",
    "X": "something after the value hides it",
}
"""How a fault shows."""


@dataclass(frozen=True)
class Planting:
    """One fault in one model, and the diagnosis it requires."""

    architecture: str
    plant: Plant
    place: Mapping[str, Any]
    numbers: tuple[float, ...] = ()
    words: tuple[str, ...] = ()
    besides: tuple[str, ...] = ()
    """Other faults that follow from this one here, and may be named after it."""
    variant: str = ""
    confidence: str = PROVEN
    """What may be claimed of the cause: proven is what was replayed, recomputed or restored."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Dtypes of `models.DTYPES` in which the fault has no form -> why."""
    dtype: str = ""
    """What its models are built in, where that is not what `plant` asks for."""

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.architecture, self.variant, self.dtype)))


@dataclass(frozen=True)
class PlantedFault:
    """A row of the zoo."""

    id: str
    title: str
    report: str
    kinds: str
    says: str
    """What a diagnosis must say, in words: what `place`, `numbers` and `words` of the plantings make of it."""
    plantings: tuple[Planting, ...] = field(default_factory=tuple)

    @property
    def architectures(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(planting.architecture for planting in self.plantings))


RANGE: Mapping[str, str] = dict.fromkeys(
    ("float32", "bfloat16", "4bit"), "the values leave float16, and fit in a range of 3.4e38"
)
PACKED: Mapping[str, str] = {"4bit": "weights are set that codes of 4 bits do not hold"}
ITS_OWN: Mapping[str, str] = {"4bit": "the model is quantised in every column, which says what its scales are"}
FOLDER: Mapping[str, str] = {"4bit": "the fault is in a folder that is not quantised"}
"""Dtypes without a form of a fault -> why, where several faults share it."""


def on(architectures: str, plant: Plant, variant: str = "", **required: Any) -> tuple[Planting, ...]:
    """Return one planting for each architecture of a list of words."""
    return tuple(Planting(name, plant, variant=variant, **required) for name in architectures.split())
