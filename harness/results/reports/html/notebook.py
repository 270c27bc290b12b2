"""The recoveries as a table that a notebook shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from harness.results.axes import grid_of
from harness.results.reports.summary import mean_text
from harness.vocabulary import Curve
from harness.vocabulary.visible import visible


def in_a_notebook(curve: Curve, tokens: Sequence[str] = ()) -> str:
    """Return one curve as an HTML table: a row a layer, and in a grid a column a head or a token."""
    if curve.is_grid:
        grid = grid_of(curve, tokens)
        head: Iterable[str] = grid.columns
        told = ([each.text(".1f") if each else "" for each in row] for row in grid.cells)
        rows: Iterable[tuple[int, Sequence[str]]] = zip(grid.layers, told, strict=True)
    else:
        head = ("recovery (%)",)
        rows = ((cell.layer, [mean_text(cell.recovery, cell.pairs, ".1f")]) for cell in curve.cells)
    baseline = mean_text(curve.baseline, curve.pairs, ".6g")
    title = f"{curve.component}, {curve.metric}: baseline {baseline} {curve.unit}; recovery in percent"
    body = Markup("").join(_row("td", layer, row) for layer, row in rows)
    return str(Markup("<table><caption>{}</caption>{}{}</table>").format(_text(title), _row("th", "layer", head), body))


def _row(kind: str, first: object, cells: Iterable[str]) -> Markup:
    body = Markup("").join(Markup(f"<{kind}>{{}}</{kind}>").format(_text(each)) for each in cells)
    return Markup("<tr><th>{}</th>{}</tr>").format(_text(str(first)), body)


def _text(words: str) -> str:
    return visible(words)
