"""Curves as SVG: bars over layers, heat maps, metrics over each other.

Negative and positive recoveries differ in side and in texture, not by colour alone. Where there is no number the place
is outlined, crossed and named: an undefined recovery is never an empty plot. Each picture says in words, for who cannot
see it, what it shows; the table beside it has the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from markupsafe import Markup
from markupsafe import escape as escaped

from harness.results.reports.html.scales import STEPS, Scale, number, step
from harness.vocabulary import Cell, Curve, Reading
from harness.vocabulary.visible import visible
from harness.vocabulary.words import number_of

WIDTH = 640
LONGEST = 28
"""Characters of a row's name in a heat map; a dotted path may be longer than the picture is wide."""
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 34
LEGEND = 30
"""Pixels below a heat map that the scale of its colours takes."""

Cells = Sequence[Sequence[Reading | None]]


def bars(curve: Curve) -> Markup:
    """Return a bar for each layer; layers whose recovery is no number are crossed out and named."""
    height = 184
    known = [(cell.recovery.value, _error(cell) or 0.0) for cell in curve.cells if cell.recovery.value is not None]
    ends = [value + sign * error for value, error in known for sign in (-1, 1)]
    scale = Scale.around(ends, TOP, height - TOP - BOTTOM)
    slot = (WIDTH - LEFT - RIGHT) / max(len(curve.cells), 1)
    shapes = {"pos": "", "neg": "", "undef": "", "error": ""}
    for index, cell in enumerate(curve.cells):
        x = LEFT + slot * (index + 0.12)
        if cell.recovery.value is None:
            shapes["undef"] += _crossed(x, TOP, slot * 0.76, height - TOP - BOTTOM)
        else:
            side = "pos" if cell.recovery.value >= 0 else "neg"
            shapes[side] += _bar(x, slot * 0.76, scale.y(0), scale.y(cell.recovery.value))
            shapes["error"] += _error_bar(x + slot * 0.38, cell, scale)
    body = _frame(scale) + _paths(shapes)
    body += _layer_ticks([cell.layer for cell in curve.cells], slot, height)
    body += _named_states(curve.cells, slot, height)
    seen = {"x": LEFT, "w": slot, "y": 0, "h": height, "rows": [""], "columns": _layers(curve.cells), "down": False}
    return _svg(
        height, _bars_in_words(curve), body, _hover(seen | {"cells": [[_said(c.recovery) for c in curve.cells]]})
    )


def heat(rows: Sequence[str], columns: Sequence[str], cells: Cells, most: float, across: str = "layer") -> Markup:
    """Return a heat map of recoveries `[rows, columns]` in percent, first row at the bottom; None leaves a gap.

    `most` is the percentage at both ends of the colours, and `across` says what the columns are. Long names of columns
    stand upright. The scale is drawn below.
    """
    rows = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in rows]
    left, size = 12 + 7 * max(map(len, rows), default=1), 14 if len(rows) > 12 else 20
    wide = min(40.0, (WIDTH - left - RIGHT) / max(len(columns), 1))
    longest = max(map(len, columns), default=1)
    upright = longest > 4 or wide < 7 * longest
    ends = TOP + size * len(rows)
    below = ends + (8 + 6 * min(longest, 2 * LONGEST) if upright else BOTTOM)
    shapes: dict[str, str] = {f"q{k}": "" for k in range(-STEPS, STEPS + 1)} | {"neg hatch": "", "undef": ""}
    for i, row in enumerate(cells):
        y = TOP + size * (len(rows) - 1 - i)
        for j, reading in enumerate(row):
            x = left + wide * j
            if reading is None:
                continue
            if reading.value is None:
                shapes["undef"] += _crossed(x + 1, y + 1, wide - 2, size - 2)
                continue
            shapes[f"q{step(reading.value, most)}"] += _box(x, y, wide, size)
            if reading.value < 0:
                shapes["neg hatch"] += _box(x, y, wide, size)
    middle = TOP + size * (len(rows) - 0.5) + 4
    body = _column(left - 5, [(middle - size * i, name) for i, name in _some(rows, 28)])
    if upright:
        fitting = int((WIDTH - left - RIGHT) / 13)
        body += _standing(ends + 6, [(left + wide * (j + 0.5), name) for j, name in _some(columns, fitting)])
    else:
        body += _row(below - 5, [(left + wide * (j + 0.5), name) for j, name in _some(columns, 20)])
    seen = {
        "x": left, "w": wide, "y": TOP, "h": size, "rows": rows, "columns": columns, "down": True,
        "cells": [[_said(each) for each in row] for row in cells],
    }  # fmt: skip
    picture = _svg(below, _heat_in_words(rows, columns, cells), _paths(shapes) + body, _hover(seen))
    return picture + _legend(left, most, across)


def _legend(left: float, most: float, across: str) -> Markup:
    """Return the colours from one end of the scale over 0 to the other, and what the columns are."""
    wide, y = 14, 2
    boxes = {f"q{k}": _box(left + wide * (k + STEPS), y, wide, 9) for k in range(-STEPS, STEPS + 1)}
    boxes["neg hatch"] = "".join(_box(left + wide * k, y, wide, 9) for k in range(STEPS))
    marks = [(0.5, f"{-most:.3g}"), (STEPS + 0.5, "0"), (2 * STEPS + 0.5, f"{most:.3g} %")]
    words = _row(y + 22, [(left + wide * at, word) for at, word in marks])
    words += _row(y + 9, [(left + wide * (2 * STEPS + 3) + 30, f"across: {across}")])
    return Markup(f'<svg viewBox="0 0 {WIDTH} {LEGEND}" aria-hidden="true">{_paths(boxes)}{words}</svg>')


def _hover(seen: dict[str, object]) -> str:
    """Return the attribute by which the page's script names the value under the pointer."""
    return f' data-seen="{escaped(json.dumps(seen, ensure_ascii=False, separators=(",", ":")))}"'


def _said(reading: Reading | None) -> str:
    if reading is None:
        return ""
    return f"{reading.value:.2f} %" if reading.value is not None else visible(reading.state.value)


def lines(curves: Sequence[Curve]) -> Markup:
    """Return the recoveries of several metrics over the same layers, each with a dash of its own."""
    height = 204
    values = [cell.recovery.value for curve in curves for cell in curve.cells if cell.recovery.value is not None]
    scale = Scale.around(values, TOP, height - TOP - BOTTOM)
    slot = (WIDTH - LEFT - RIGHT) / max(len(curves[0].cells), 1)
    body = _frame(scale)
    for index, curve in enumerate(curves):
        path = _broken_line(curve.cells, lambda i: LEFT + slot * (i + 0.5), scale)
        body += f'<path class="line m{index}" d="{path}"/>'
    body += _layer_ticks([cell.layer for cell in curves[0].cells], slot, height)
    named = ", ".join(curve.metric for curve in curves)
    return _svg(height, f"Recovery over layers by {named}; the table below has the numbers.", body)


def _broken_line(cells: Sequence[Cell], x: Callable[[int], float], scale: Scale) -> str:
    """Return a path with a gap wherever there is no number; a number between two gaps is a dot."""
    path = ""
    for finite, run in groupby(enumerate(cells), key=lambda each: each[1].recovery.value is not None):
        points = [f"{number(x(i))} {number(scale.y(cell.recovery.value or 0.0))}" for i, cell in run] if finite else []
        if points:
            path += f"M{points[0]}" + "".join(f"L{point}" for point in points[1:] or points)
    return path


def _bars_in_words(curve: Curve) -> str:
    undefined = [cell for cell in curve.cells if cell.recovery.value is None]
    finite = [cell for cell in curve.cells if cell.recovery.value is not None]
    words = f"{curve.component} by {curve.metric}."
    if finite:
        top = max(finite, key=lambda cell: cell.recovery.value or 0.0)
        low = min(finite, key=lambda cell: cell.recovery.value or 0.0)
        words += (
            f" Highest {top.recovery.text('.1f')} % at {top.layer}, lowest {low.recovery.text('.1f')} % at {low.layer}."
        )
    if undefined:
        states = ", ".join(sorted({cell.recovery.state.value for cell in undefined}))
        words += f" No number for {len(undefined)} of {number_of(len(curve.cells), 'layer')}: {states}."
    return words


def _heat_in_words(rows: Sequence[str], columns: Sequence[str], cells: Cells) -> str:
    known = [
        (each.value, rows[i], columns[j])
        for i, row in enumerate(cells)
        for j, each in enumerate(row)
        if each and each.value is not None
    ]
    words = f"Heat map of recoveries, {len(rows)} by {len(columns)}."
    if known:
        value, row, column = max(known)
        words += f" Highest {value:.1f} % at {row}, {column}."
    gaps = sum(each is not None and each.value is None for row in cells for each in row)
    if gaps:
        words += " 1 cell has no number." if gaps == 1 else f" {gaps} cells have no number."
    return words


def _shown(words: str) -> Markup:
    return escaped(visible(words))


def _svg(height: float, words: str, body: str, hover: str = "") -> Markup:
    label = _shown(words)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {number(height)}" role="img" aria-label="{label}"{hover}>{body}</svg>')


def _layers(cells: Sequence[Cell]) -> list[str]:
    return [f"layer {cell.layer}" for cell in cells]


def _frame(scale: Scale) -> str:
    ticks = scale.ticks()
    grid = "".join(f"M{LEFT} {number(scale.y(tick))}H{WIDTH - RIGHT}" for tick in ticks if tick)
    body = f'<path class="grid" d="{grid}"/><path class="zero" d="M{LEFT} {number(scale.y(0))}H{WIDTH - RIGHT}"/>'
    return body + _column(LEFT - 5, [(scale.y(tick) + 4, f"{tick:g}") for tick in ticks])


def _layer_ticks(layers: Sequence[int], slot: float, height: float) -> str:
    ticks = _row(height - 19, [(LEFT + slot * (i + 0.5), layer) for i, layer in _some(layers, 13)])
    return ticks + _row(height - 4, [((LEFT + WIDTH - RIGHT) / 2, "layer")])


def _named_states(cells: Sequence[Cell], slot: float, height: float) -> str:
    """Write the state once over each run of neighbours that share it."""
    body, start = "", 0
    for state, group in groupby(cell.recovery.state for cell in cells):
        count = len(list(group))
        if state != "finite":
            body += f'<g class="state">{_text(LEFT + slot * (start + count / 2), height / 2, state.value)}</g>'
        start += count
    return body


def _paths(shapes: dict[str, str]) -> str:
    return "".join(f'<path class="{name}" d="{d}"/>' for name, d in shapes.items() if d)


def _bar(x: float, width: float, zero: float, y: float) -> str:
    return f"M{number(x)} {number(zero)}V{number(y)}h{number(width)}V{number(zero)}z"


def _error_bar(x: float, cell: Cell, scale: Scale) -> str:
    """Return a line as far up and down as the recovery's error, in the picture; nothing where no error is known."""
    error = _error(cell)
    if error is None or cell.recovery.value is None:
        return ""
    low, high = (scale.y(cell.recovery.value + sign * error) for sign in (-1, 1))
    return f"M{number(x)} {number(low)}V{number(high)}m-3 0h6"


def _error(cell: Cell) -> float | None:
    """Return the standard error of a mean over pairs, else what the dtype's rounding makes of a recovery, in points."""
    return cell.pairs.standard_error if cell.pairs else cell.precision


def _box(x: float, y: float, width: float, height: float) -> str:
    return f"M{number(x)} {number(y)}h{number(width)}v{number(height)}h{number(-width)}z"


def _crossed(x: float, y: float, width: float, height: float) -> str:
    w, h = number(width), number(height)
    return f"{_box(x, y, width, height)}m0 0l{w} {h}m0 -{h}l-{w} {h}"


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{number(x)}" y="{number(y)}">{_shown(words)}</text>'


def _row(y: float, words: Iterable[tuple[float, str]]) -> str:
    """Return words side by side; the group holds what they share, since labels are most of a picture's size."""
    body = "".join(f'<text x="{number(x)}">{_shown(word)}</text>' for x, word in words)
    return f'<g transform="translate(0 {number(y)})">{body}</g>'


def _standing(y: float, words: Iterable[tuple[float, str]]) -> str:
    """Return words that are read upwards, each ending at `y`."""
    turned = "".join(
        f'<text transform="translate({number(x + 4)} {number(y)}) rotate(-90)">{_shown(word)}</text>'
        for x, word in words
    )
    return f'<g class="end">{turned}</g>'


def _column(x: float, words: Iterable[tuple[float, str]]) -> str:
    """Return words above each other that end at `x`."""
    body = "".join(f'<text y="{number(y)}">{_shown(word)}</text>' for y, word in words)
    return f'<g class="end" transform="translate({number(x)})">{body}</g>'


def _some(names: Sequence[object], most: int) -> Iterable[tuple[int, str]]:
    """Return index and text of every name, or of every second, third, ... where they would touch."""
    every = -(-len(names) // most) or 1
    return [(i, str(name)) for i, name in enumerate(names) if i % every == 0]
