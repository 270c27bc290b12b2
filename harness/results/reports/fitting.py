"""A table on a screen of any width: no word of it is broken, so that an id can be read, searched and copied."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

_ANY = 100_000
"""Columns of a screen on which every table has room."""


def fitted(table: Table, console: Console, options: ConsoleOptions) -> RenderableType:
    """Return a table as wide as the screen at most; where its longest words do not fit beside each other, its rows.

    rich narrows the widest column first, whatever its words, and breaks them.
    """
    roomy = options.update(max_width=_ANY, min_width=0)
    wide = Measurement.get(console, roomy, table).maximum
    if wide <= options.max_width:
        return table
    columns = [_range(column, console, roomy) for column in table.columns]
    least = sum(each.minimum for each in columns)
    room = options.max_width - (wide - sum(each.maximum for each in columns)) - least
    if room < 0:
        return Group(*_as_lines(table))
    narrowed = copy(table)
    narrowed.columns = [
        replace(column, width=width)
        for column, width in zip(table.columns, _shared(room, columns), strict=True)
    ]  # fmt: skip
    return narrowed


def _range(column: Column, console: Console, options: ConsoleOptions) -> Measurement:
    """Return the longest word and the longest line of a column."""
    cells = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells) if cell]
    most = column.max_width or _ANY
    longest = min(most, max((each.maximum for each in cells), default=1))
    return Measurement(longest if column.no_wrap else min(most, max((c.minimum for c in cells), default=1)), longest)


def _shared(room: int, columns: list[Measurement]) -> Iterator[int]:
    """Yield the width of each column: its longest word, and its share of the room in proportion to what it lacks."""
    lacking = sum(each.maximum - each.minimum for each in columns)
    for each in columns:
        lack = each.maximum - each.minimum
        more = room * lack // lacking if lacking else 0
        room, lacking = room - more, lacking - lack
        yield each.minimum + more


def _as_lines(table: Table) -> Iterator[RenderableType]:
    """Yield the rows one by one: the first cell, and below it the others with their headings."""
    if table.title:
        yield Text(str(table.title), style="bold")
    headings = [_text(column.header) for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        first, *others = map(_text, cells)
        yield first
        named = [Text.assemble(heading, " ", cell) for heading, cell in zip(headings[1:], others, strict=True) if cell]
        yield _Indented(Text(", ").join(named))


def _text(cell: RenderableType) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))


class _Indented:
    """A text whose every line is set in."""

    def __init__(self, text: Text) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for line in self.text.wrap(console, max(1, options.max_width - 2)):
            yield Text("  ") + line
