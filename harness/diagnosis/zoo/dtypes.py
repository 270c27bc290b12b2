"""The zoo over dtypes: each fault in every dtype in which it has a form, over two architectures, and the models
without a fault beside it.

Arrays and dials have a dtype of their own, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from harness.diagnosis.zoo.fault import PlantedFault, Planting
from harness.diagnosis.zoo.models import DTYPES

PAIR = 2
"""Architectures that a fault is planted in."""
_OF_NO_MODEL = ("arrays", "dial")

Rows = Mapping[str, Mapping[str, list[Planting] | str]]


def rows_of(fault: PlantedFault) -> Rows:
    """Return variant -> dtype -> the plantings in it, or why there are none."""
    found: dict[str, list[Planting]] = {}
    for planting in fault.plantings:
        if planting.architecture not in _OF_NO_MODEL:
            found.setdefault(planting.variant, []).append(planting)
    return {variant: {dtype: _in(dtype, some[:PAIR]) for dtype in DTYPES} for variant, some in found.items()}


def _in(dtype: str, plantings: list[Planting]) -> list[Planting] | str:
    without = plantings[0].without.get(dtype)
    return without or [replace(planting, dtype=dtype) for planting in plantings]


def in_dtypes(fault: PlantedFault) -> Iterator[Planting]:
    """Yield the plantings of a fault in every dtype."""
    for cells in rows_of(fault).values():
        for plantings in cells.values():
            yield from plantings if isinstance(plantings, list) else ()
