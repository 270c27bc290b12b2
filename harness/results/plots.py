"""Drawing recoveries with matplotlib (the optional extra `plot`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.vocabulary import Curve
from harness.vocabulary.errors import UsageError


def draw(
    curves: Sequence[Curve],
    file: str | Path | None = None,
    figsize: tuple[float, float] = (12, 8),
    cmap: str = "RdBu_r",
    title: str | None = None,
    keep: bool = False,
) -> Any:
    """Return a figure with one panel a curve: a bar a layer, or a heat map of a layer x position grid.

    Where there is no number stands the name of the state. A recovery with an error bar gets it, except in a heat map.

    Colours are centred on 0 %, so that a colour means the same in every panel. Raises UsageError without matplotlib,
    for a colour map it does not have, and for a file it cannot write. `keep` leaves the figure open in pyplot.
    """
    scale = colours(cmap)
    figure, axes = _pyplot().subplots(len(curves), 1, figsize=figsize, squeeze=False, layout="constrained")
    reach = max([abs(cell.recovery.value or 0.0) for curve in curves for cell in curve.cells] + [100.0])
    for axis, curve in zip(axes[:, 0], curves, strict=True):
        if curve.is_grid:
            _grid(figure, axis, curve, scale, reach)
        else:
            _panel(axis, curve, lambda value: scale(0.5 + value / (2 * reach)))
        axis.set_title(f"{curve.component}, {curve.metric}: baseline {curve.baseline.text('.6g')} {curve.unit}")
    if title:
        figure.suptitle(title)
    if file is not None:
        _save(figure, Path(file))
    if not keep:
        # Open figures pile up in pyplot; a closed one can still be looked at and saved.
        _pyplot().close(figure)
    return figure


def colours(cmap: str) -> Any:
    """Return a colour map. Raises UsageError without matplotlib, and for one that it does not have."""
    try:
        return _pyplot().get_cmap(cmap)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{cmap!r} is not a colour map of matplotlib") from error


def show(curves: Sequence[Curve], figsize: tuple[float, float], cmap: str) -> None:
    """Draw curves and show them, where there is a screen or a notebook to show them in."""
    pyplot = _pyplot()
    figure = draw(curves, figsize=figsize, cmap=cmap, keep=True)
    if pyplot.get_backend().lower() not in ("agg", "pdf", "svg", "ps", "cairo", "template"):
        pyplot.show()
    pyplot.close(figure)


def _panel(axis: Any, curve: Curve, colour: Callable[[float], Any]) -> None:
    finite = [(cell.layer, cell.recovery.value) for cell in curve.cells if cell.recovery.value is not None]
    axis.bar(
        [layer for layer, _ in finite],
        [value for _, value in finite],
        color=[colour(value) for _, value in finite],
        edgecolor="0.25",
        linewidth=0.8,
    )
    _error_bars(axis, curve)
    for cell in curve.cells:
        if not cell.recovery.finite:
            state = cell.recovery.state.value
            axis.text(cell.layer, 0, state, rotation=90, ha="center", va="bottom", color="crimson")
    axis.axhline(0, color="0.25", linewidth=0.8)
    axis.axhline(100, color="0.6", linewidth=0.8, linestyle="--")
    layers = [cell.layer for cell in curve.cells]
    if layers:
        axis.set_xlim(min(layers) - 0.7, max(layers) + 0.7)
        axis.set_xticks(layers if len(layers) <= 50 else layers[:: len(layers) // 25])
    axis.set_xlabel("layer")
    axis.set_ylabel("recovery (%)")


def _error_bars(axis: Any, curve: Curve) -> None:
    barred = [cell for cell in curve.cells if cell.precision is not None and cell.recovery.finite]
    if barred:
        layers, values = [cell.layer for cell in barred], [cell.recovery.value for cell in barred]
        axis.errorbar(layers, values, [cell.precision for cell in barred], fmt="none", ecolor="0.25", capsize=2)


def _grid(figure: Any, axis: Any, curve: Curve, scale: Any, reach: float) -> None:
    """Layers down, heads or positions across; a cell without a number is blank and names its state."""
    keys = {curve.key(cell): cell.recovery for cell in curve.cells}
    rows = sorted({key[0] for key in keys if isinstance(key, tuple)})
    columns = sorted({key[1:] for key in keys if isinstance(key, tuple)})
    shown = [[_or_nan(keys[layer, *column].value) for column in columns] for layer in rows]
    image = axis.imshow(shown, cmap=scale, vmin=-reach, vmax=reach, aspect="auto", origin="lower")
    for y, layer in enumerate(rows):
        for x, column in enumerate(columns):
            recovery = keys[layer, *column]
            if not recovery.finite:
                axis.text(x, y, recovery.state.value, ha="center", va="center", color="crimson")
    axis.set_xticks(range(len(columns)), [".".join(map(str, column)) for column in columns])
    axis.set_yticks(range(len(rows)), rows)
    by_head = curve.cells[0].head is not None
    axis.set_xlabel(("head.position" if len(columns[0]) > 1 else "head") if by_head else "position")
    axis.set_ylabel("layer")
    figure.colorbar(image, ax=axis, label="recovery (%)")


def _or_nan(value: float | None) -> float:
    # A picture, unlike a result, has no other way to leave a cell blank.
    return float("nan") if value is None else value


def _save(figure: Any, file: Path) -> None:
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be written: {error}") from error


def _pyplot() -> Any:
    here = os.getcwd()
    try:
        # The first import reads ./matplotlibrc, a stranger's perhaps, and that names code: a backend, LaTeX's preamble.
        os.chdir(Path(__file__).parent)
        from matplotlib import pyplot
    except ImportError as error:
        raise UsageError("plots need matplotlib: pip install 'mlx-patch-harness[plot]'") from error
    finally:
        os.chdir(here)
    return pyplot
