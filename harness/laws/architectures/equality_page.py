"""The equality matrix as people read it: a table a dtype, a figure a cell, or the number of a reason."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping

from harness.laws.architectures.equality import ABSENT, COMPONENTS, DTYPES, POSITIONS, columns, row_of
from harness.laws.architectures.kind import Cells, GridKind
from harness.laws.grid.table import GridCell, GridTable
from harness.metrics.tolerances import Work, row_tolerance
from harness.vocabulary import Direction

_FIGURE = re.compile(r"\de[-+]\d\d")
_ABOUT = (
    "The largest difference of last-token logits between the one-pass sweep and one forward pass a cell, as a share of "
    "the largest logit, on a small model of every architecture of mlx-lm. A figure is the worst over both directions "
    f"({', '.join(Direction)}), the positions {', '.join(map(str, POSITIONS))}, and every layer; somewhere among them "
    "the patch changes the logits by more than 1e-3. A number in brackets is the reason for which the sweep goes "
    "stepwise, or is not run; -: the architecture has no such component, or nobody has looked how its heads lie."
)


def _shown(column: str, text: str) -> GridCell:
    if _FIGURE.fullmatch(text):
        return GridCell(text, holds=True)
    return GridCell(text) if text == ABSENT else GridCell(reason=text)


def _tables(cells: Cells, numbers: Mapping[str, int]) -> Iterator[GridTable]:
    for dtype in DTYPES:
        headings = dict(zip(columns(dtype), COMPONENTS, strict=True))
        rows = {name: row for name, row in cells.items() if headings.keys() <= row.keys()}
        title = f"{dtype}, equal up to {row_tolerance(Work.OTHER_BATCH, dtype):.0e}"
        if rows:
            yield GridTable(rows, headings, numbers, title=title, of=len(rows))


def _head(made_with: str) -> Iterator[str]:
    yield from ("# One-pass against stepwise", "", *textwrap.wrap(_ABOUT, 118), "")
    yield f"Made with {made_with} by `harness models equality --write docs/equality.md`."


EQUALITY = GridKind(row_of, columns, _shown, lambda *shown: list(_tables(*shown)), _head)
