"""A grid as people read it: a mark or a figure a cell, or the number of a reason that stands once below the table."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from string import ascii_letters
from typing import TYPE_CHECKING

from harness.results.reports.markdown import table, text

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Texts = Mapping[str, Mapping[str, str]]
"""Row -> column -> the text of the cell, as a process computed it."""


@dataclass(frozen=True)
class GridCell:
    """A cell: a mark or a figure, or else a reason. `holds` is counted at the foot, `apart` stands out."""

    mark: str = ""
    reason: str = ""
    holds: bool = False
    apart: bool = False


@dataclass(frozen=True)
class GridTable:
    """A table of cells: `columns` are column -> heading, `numbers` reason -> number, `of` the rows that are counted.

    `dense` is a table of so many columns that a terminal shows letters for the headings and reasons without brackets.
    """

    rows: Mapping[str, Mapping[str, GridCell]]
    columns: Mapping[str, str]
    numbers: Mapping[str, int]
    corner: str = "architecture"
    title: str = ""
    of: int | None = None
    dense: bool = False

    def markdown(self) -> Iterator[str]:
        """Yield the lines of the table, how many cells hold in the last one."""
        rows = [[name, *map(self._bold, self._cells(name))] for name in self.rows]
        yield from table((self.corner, *self.columns.values()), rows)
        if self.of is not None:
            yield f"| **of {self.of}** | {' | '.join(f'**{count}**' for count in self.counts)} |"

    def screen(self) -> Iterator[Table | Text]:
        """Yield the table for a terminal, and what its letters stand for."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        gap = 0 if self.dense else 1
        shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0), title=self.title or None)
        shown.add_column(self.corner, no_wrap=True)
        for at, heading in enumerate(self.columns.values()):
            shown.add_column(ascii_letters[at] if self.dense else heading)
        for name in self.rows:
            cells = [
                Text(self._mark(cell, "{}" if self.dense else "[{}]"), "bold" if cell.apart else "")
                for cell in self._cells(name)
            ]
            shown.add_row(Text(name), *cells)
        if self.of is not None:
            shown.add_section()
            shown.add_row(f"of {self.of}", *map(str, self.counts))
        yield shown
        if self.dense:
            yield Text(", ".join(map("=".join, zip(ascii_letters, self.columns.values(), strict=False))))

    @property
    def ran(self) -> bool:
        """Whether any cell is more than a reason."""
        return any(cell.holds or cell.apart for cells in self.rows.values() for cell in cells.values())

    @property
    def counts(self) -> Sequence[int]:
        """How many cells of each column hold."""
        return [sum(cells[column].holds for cells in self.rows.values() if column in cells) for column in self.columns]

    def _cells(self, name: str) -> Iterator[GridCell]:
        return (self.rows[name].get(column, GridCell()) for column in self.columns)

    def _mark(self, cell: GridCell, reason: str = "[{}]") -> str:
        return reason.format(self.numbers[cell.reason]) if cell.reason else cell.mark

    def _bold(self, cell: GridCell) -> str:
        return f"**{cell.mark}**" if cell.apart else self._mark(cell)


def numbered(rows: Iterable[Mapping[str, GridCell]]) -> dict[str, int]:
    """Return reason -> number, in the order in which a table shows them."""
    reasons = dict.fromkeys(cell.reason for cells in rows for cell in cells.values() if cell.reason)
    return {reason: number for number, reason in enumerate(reasons, 1)}


def on_screen(tables: Iterable[GridTable], numbers: Mapping[str, int]) -> Iterator[Table | Text]:
    """Yield tables for a terminal, and below them each reason once."""
    from rich.text import Text

    for each in tables:
        yield from each.screen()
    yield from (Text(f"[{number}] {reason}") for reason, number in numbers.items())


def reasons_below(numbers: Mapping[str, int]) -> Iterator[str]:
    """Yield each reason once, as the lines below a table in Markdown."""
    return (f"{number}. {text(reason)}" for reason, number in numbers.items())


def versions(*packages: str) -> str:
    """Return what the numbers depend on, and the day."""
    stated = ", ".join(f"{name} {version(name)}" for name in (*packages, "mlx", "mlx-lm"))
    return f"{stated} on {platform.system()} {platform.machine()}, {date.today().isoformat()}"
