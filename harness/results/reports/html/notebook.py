"""The recoveries as a table that a notebook shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from harness.results.axes import grid_of
from harness.vocabulary import Curve, Reading
from harness.vocabulary.visible import visible


def in_a_notebook(curve: Curve, tokens: Sequence[str] = ()) -> str:
    """Return one curve as an HTML table: a row a layer, and in a grid a column a head or a token."""
    if curve.is_grid:
        grid = grid_of(curve, tokens)
        head: Iterable[str] = grid.columns
        rows: Iterable[tuple[int, Sequence[Reading | None]]] = zip(grid.layers, grid.cells, strict=True)
    else:
        head, rows = ("recovery (%)",), ((cell.layer, (cell.recovery,)) for cell in curve.cells)
    title = (
        f"{curve.component}, {curve.metric}: baseline {curve.baseline.text('.6g')} {curve.unit}; recovery in percent"
    )
    body = Markup("").join(_row("td", layer, (each.text(".1f") if each else "" for each in row)) for layer, row in rows)
    return str(Markup("<table><caption>{}</caption>{}{}</table>").format(_text(title), _row("th", "layer", head), body))


def _row(kind: str, first: object, cells: Iterable[str]) -> Markup:
    body = Markup("").join(Markup(f"<{kind}>{{}}</{kind}>").format(_text(each)) for each in cells)
    return Markup("<tr><th>{}</th>{}</tr>").format(_text(str(first)), body)


def _text(words: str) -> str:
    return visible(words)
