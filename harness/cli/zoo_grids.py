"""The zoo over dtypes as tables: what was named rightly of each fault in each dtype, and how often a sound model was
accused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.diagnosis.zoo import PlantedFault
from harness.diagnosis.zoo.dtypes import rows_of
from harness.diagnosis.zoo.models import DTYPES
from harness.diagnosis.zoo.page import PARTS
from harness.diagnosis.zoo.trial import Trial
from harness.laws.grid.table import GridCell, GridTable, numbered

_COLUMNS = dict(zip(DTYPES, DTYPES, strict=True))


def grids(
    faults: Sequence[PlantedFault], trials: Sequence[Trial], accused: Mapping[str, tuple[int, list[str]]]
) -> list[GridTable]:
    """Return two tables: fault by dtype, and what was named by dtype.

    `accused` is dtype -> of how many sound models, and what was said against any.
    """
    rows = {
        f"{fault.id} {variant}".rstrip(): {
            dtype: _cell(plantings if isinstance(plantings, str) else _of(trials, fault, variant, dtype))
            for dtype, plantings in cells.items()
        }
        for fault in faults
        for variant, cells in rows_of(fault).items()
    }
    parts = {part: {dtype: _part(part, _in(trials, dtype)) for dtype in DTYPES} for part in PARTS}
    parts["sound models accused"] = {
        dtype: GridCell(f"{len(said)}/{looked}", apart=bool(said)) for dtype, (looked, said) in accused.items()
    }
    return [
        GridTable(rows, _COLUMNS, numbered(rows.values()), "fault"),
        GridTable(parts, _COLUMNS, {}, "named rightly"),
    ]


def _of(trials: Sequence[Trial], fault: PlantedFault, variant: str, dtype: str) -> list[Trial]:
    return [each for each in _in(trials, dtype) if (each.fault, each.planting.variant) == (fault.id, variant)]


def _in(trials: Sequence[Trial], dtype: str) -> list[Trial]:
    return [each for each in trials if each.planting.dtype == dtype]


def _cell(trials: list[Trial] | str) -> GridCell:
    """Return how many plantings were right in all, and what of the others was wrong; or why there is none."""
    if isinstance(trials, str):
        return GridCell(reason=trials)
    wrong = dict.fromkeys(part for part in PARTS for each in trials if not getattr(each, part))
    right = sum(each.right for each in trials)
    mark = f"{right}/{len(trials)}" + (f" ({', '.join(wrong)})" if wrong else "")
    return GridCell(mark, holds=not wrong, apart=bool(wrong))


def _part(part: str, trials: Sequence[Trial]) -> GridCell:
    right = sum(getattr(each, part) for each in trials)
    return GridCell(f"{right}/{len(trials)}", apart=right < len(trials))
