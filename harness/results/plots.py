"""Drawing recoveries with matplotlib (the optional extra `plot`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.results.axes import grid_of, reach
from harness.vocabulary import Curve, Reading
from harness.vocabulary.errors import UsageError


def draw(
    curves: Sequence[Curve],
    file: str | Path | None = None,
    figsize: tuple[float, float] = (12, 8),
    cmap: str = "RdBu_r",
    title: str | None = None,
    keep: bool = False,
    tokens: Sequence[str] = (),
) -> Any:
    """Return a figure with one panel a curve: a bar a layer, or a heat map of a layer x position grid.

    Where there is no number stands the name of the state. A recovery with an error bar gets it, except in a heat map.

    `tokens` are the texts at the positions of a grid. Colours are centred on 0 % and reach as far as the largest move,
    so that a colour means the same in every panel. Raises UsageError without matplotlib,
    for a colour map it does not have, and for a file it cannot write. `keep` leaves the figure open in pyplot.
    """
    scale = colours(cmap)
    figure, axes = _pyplot().subplots(len(curves), 1, figsize=figsize, squeeze=False, layout="constrained")
    most = reach(cell.recovery for curve in curves for cell in curve.cells)
    for axis, curve in zip(axes[:, 0], curves, strict=True):
        if curve.is_grid:
            _grid(figure, axis, curve, scale, most, tokens)
        else:
            _panel(axis, curve, lambda value: scale(0.5 + value / (2 * most)))
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


def show(curves: Sequence[Curve], figsize: tuple[float, float], cmap: str, tokens: Sequence[str] = ()) -> None:
    """Draw curves and show them, where there is a screen or a notebook for it; elsewhere a script may save them."""
    pyplot = _pyplot()
    figure = draw(curves, figsize=figsize, cmap=cmap, keep=True, tokens=tokens)
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


def _grid(figure: Any, axis: Any, curve: Curve, scale: Any, most: float, tokens: Sequence[str]) -> None:
    """Layers up, heads or tokens across; a cell without a number is grey and names its state."""
    grid = grid_of(curve, tokens)
    shown = [[_or_nan(each) for each in row] for row in grid.cells]
    axis.set_facecolor("0.8")
    image = axis.imshow(shown, cmap=scale, vmin=-most, vmax=most, aspect="auto", origin="lower")
    for y, row in enumerate(grid.cells):
        for x, recovery in enumerate(row):
            if recovery is not None and not recovery.finite:
                axis.text(x, y, recovery.state.value, ha="center", va="center", color="crimson")
    upright = max(map(len, grid.columns), default=0) > 4
    # A token may hold a $, which matplotlib reads as mathematics.
    names = [name.replace("$", r"\$") for name in grid.columns]
    axis.set_xticks(range(len(names)), names, rotation=90 if upright else 0)
    axis.set_yticks(range(len(grid.layers)), grid.layers)
    axis.set_xlabel(grid.across)
    axis.set_ylabel("layer")
    figure.colorbar(image, ax=axis, label="recovery (%)")


def _or_nan(recovery: Reading | None) -> float:
    # A picture, unlike a result, has no other way to leave a cell blank.
    return float("nan") if recovery is None or recovery.value is None else recovery.value


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
        raise UsageError("plots need matplotlib: pip install matplotlib") from error
    finally:
        os.chdir(here)
    return pyplot
