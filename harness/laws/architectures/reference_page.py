"""The reference table as people read it: a figure, bold where it is more than rounding, or the number of a reason."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from harness.laws.architectures.kind import Cells, GridKind, faults_of
from harness.laws.architectures.reference import (
    AS_SAVED,
    COLUMNS,
    KNOWN,
    LOGITS,
    NOT_RUN,
    SAME,
    TIES,
    is_figure,
    row_of,
    within,
)
from harness.laws.grid.table import GridCell, GridTable, Texts
from harness.metrics.tolerances import Work, recovery_tolerance, row_tolerance

_ABOUT = (
    "A small model of every architecture that mlx-lm and transformers both have, built and saved by transformers from "
    "seeded weights and loaded by mlx-lm, as every published folder is. MLX in float32 against transformers in "
    "float64. Figures up to {rows:.0e} of the largest logit and {points:g} points are rounding; a larger one is bold, "
    "and what it comes from stands below the table. A number in brackets is the reason for which there is no figure."
)


def faults(texts: Texts) -> list[str]:
    """Return what is more than rounding and not known, what is known and was not seen, and rows that ended."""
    found = faults_of(texts)
    for architecture, cells in texts.items():
        apart = [name for name, text in cells.items() if is_figure(text) and not within(name, text)]
        if architecture in KNOWN and is_figure(cells[LOGITS]) and LOGITS not in apart:
            found.append(f"{architecture}: agrees, and is listed: {KNOWN[architecture]}")
        # Another base of the rotation in a folder `as saved` is named by the keys that are ignored.
        unknown = [] if architecture in KNOWN else [name for name in apart if name != AS_SAVED]
        if unknown and (architecture not in TIES or LOGITS in unknown):
            found.append(f"{architecture}: apart by more than rounding: {', '.join(unknown)}")
    return found


def _shown(column: str, text: str) -> GridCell:
    if is_figure(text):
        return GridCell(text, holds=within(column, text), apart=not within(column, text))
    return GridCell(text) if text in (NOT_RUN, SAME) else GridCell(reason=text)


def _tables(cells: Cells, numbers: Mapping[str, int]) -> list[GridTable]:
    run = sum(row[LOGITS].holds or row[LOGITS].apart for row in cells.values())
    return [GridTable(cells, dict(zip(COLUMNS, COLUMNS, strict=True)), numbers, of=run)]


def _head(made_with: str) -> Iterator[str]:
    rows, points = row_tolerance(Work.OTHER_CODE, "float32"), recovery_tolerance(Work.OTHER_CODE, "float32")
    yield from ("# Against another implementation", "")
    yield from textwrap.wrap(_ABOUT.format(rows=rows, points=points), 118)
    yield ""
    yield from textwrap.wrap(
        f"Made with {made_with} by `harness models reference --write docs/reference-table.md`.", 118
    )
    yield ""
    yield from _items(COLUMNS)


def _notes(texts: Texts) -> Iterator[str]:
    yield from _items({name: about for name, about in {**KNOWN, **TIES}.items() if name in texts})
    yield ""


def missing(alone: Sequence[str]) -> list[str]:
    """Return the last lines of the page: the architectures that only mlx-lm has."""
    return [*textwrap.wrap(f"Not in transformers: {', '.join(alone)}.", 118), ""]


def _items(items: Mapping[str, str]) -> Iterator[str]:
    for name, about in items.items():
        yield from textwrap.wrap(f"- **{name}**: {about}", 118, subsequent_indent="  ")


REFERENCE_TABLE = GridKind(
    row_of, lambda: tuple(COLUMNS), _shown, _tables, _head, _notes, faults, ("transformers", "torch")
)
