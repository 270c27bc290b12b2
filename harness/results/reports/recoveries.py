"""Recoveries on a screen: a table over layers, a map of layers and tokens, or a line of bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from rich import box
from rich.table import Table
from rich.text import Text

from harness.results.axes import Grid, grid_of, reach
from harness.results.reports.summary import around, between, over_pairs
from harness.vocabulary import Cell, Curve, Reading

BARS = "▁▂▃▄▅▆▇█"
_CELL, _LAYER = 9, 8
"""Characters of a column of a map with its air, and of the column of layers."""


def tables(curves: Sequence[Curve], tokens: Sequence[str], width: int) -> Iterator[Table]:
    """Yield one table over layers of the curves that are no grids, and the map of each grid.

    A map that is wider than `width` characters goes on below itself.
    """
    if plain := [curve for curve in curves if not curve.is_grid]:
        yield _over_layers(plain)
    for curve in curves:
        if curve.is_grid:
            yield from _maps(curve, grid_of(curve, tokens), width)


def bars(curve: Curve) -> str:
    """Return a bar for each layer from the lowest recovery to the highest; `x` where there is no number."""
    known = [cell.recovery.value for cell in curve.cells if cell.recovery.value is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    steps = (len(BARS) - 1) / ((high - low) or 1.0)
    return "".join(
        "x" if cell.recovery.value is None else BARS[round((cell.recovery.value - low) * steps)] for cell in curve.cells
    )


def _over_layers(curves: Sequence[Curve]) -> Table:
    table = _table("recovery (%)")
    table.add_column("layer", justify="right")
    for curve in curves:
        table.add_column(f"{curve.component} {curve.metric}", justify="right")
    found = [{cell.layer: cell for cell in curve.cells} for curve in curves]
    for layer in dict.fromkeys(layer for each in found for layer in each):
        # A sweep that ended early lacks cells.
        table.add_row(str(layer), *(_text(each[layer]) if layer in each else "" for each in found))
    table.add_section()
    table.add_row("baseline", *(f"{curve.baseline.text('.6g')}{around(curve.pairs)}" for curve in curves))
    if any(curve.pairs for curve in curves):
        table.add_row("mean of", *map(over_pairs, curves))
    return table


def _text(cell: Cell) -> str:
    """Return a recovery; of several pairs the mean, its standard error and its interval."""
    span = f" ({between(cell.pairs)})" if between(cell.pairs) else ""
    return f"{cell.recovery.text('.1f')}{around(cell.pairs)}{span}"


def _maps(curve: Curve, grid: Grid, width: int) -> Iterator[Table]:
    most = reach(chain(*grid.cells))
    fitting = max(1, (width - _LAYER) // _CELL)
    for start in range(0, len(grid.columns), fitting):
        part = slice(start, start + fitting)
        table = _table(
            f"{curve.component} {curve.metric}: recovery (%) by layer and {grid.across}; "
            f"baseline {curve.baseline.text('.6g')}{around(curve.pairs)}{_over(curve)}"
        )
        table.add_column("layer", justify="right")
        for name in grid.columns[part]:
            table.add_column(name, justify="right", overflow="fold", max_width=_CELL - 2)
        for layer, row in zip(grid.layers, grid.cells, strict=True):
            table.add_row(str(layer), *(_coloured(each, most) for each in row[part]))
        yield table


def _coloured(recovery: Reading | None, most: float) -> Text:
    if recovery is None:
        return Text()
    if recovery.value is None:
        return Text(recovery.text(".1f"), style="magenta")
    strong = abs(recovery.value) >= most / 2
    return Text(recovery.text(".1f"), style=("bold " if strong else "") + ("red" if recovery.value < 0 else "blue"))


def _over(curve: Curve) -> str:
    return f"; means of {over_pairs(curve)}" if curve.pairs else ""


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
