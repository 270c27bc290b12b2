"""The picture of a trail: how close each module comes to the limit of its dtype, in the order of execution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.diagnosis.outcome.diagnosis import Diagnosis
from harness.diagnosis.outcome.nouns import APPEARS, Frame
from harness.metrics.layouts import LAYOUTS
from harness.vocabulary.errors import UsageError


def draw(diagnosis: Diagnosis, file: Path | None = None) -> Any:
    """Return a figure with one panel a run: the largest finite magnitude of each module, and where it APPEARS.

    Raises UsageError without matplotlib, without a trail, and for a file that cannot be written.
    """
    runs = list(dict.fromkeys(frame.run for frame in diagnosis.trail))
    if not runs:
        raise UsageError("there is no trail to draw: no forward pass was reached")
    figure, axes = pyplot().subplots(len(runs), 1, figsize=(12, 4 * len(runs)), squeeze=False, layout="constrained")
    for axis, run in zip(axes[:, 0], runs, strict=True):
        _panel(axis, [frame for frame in diagnosis.trail if frame.run == run])
        axis.set_title(f"{run} run of {diagnosis.subject.get('model', 'the model')}")
    if file is not None:
        _save(figure, file)
    pyplot().close(figure)
    return figure


def _panel(axis: Any, frames: Sequence[Frame]) -> None:
    sized = [(i, frame.absmax) for i, frame in enumerate(frames) if frame.absmax]
    axis.semilogy(
        [i for i, _ in sized], [size for _, size in sized], ".-", color="0.3", label="largest finite magnitude"
    )
    for dtype in sorted({frame.dtype for frame in frames if frame.dtype in LAYOUTS}):
        axis.axhline(LAYOUTS[dtype].limit, color="crimson", linestyle="--", linewidth=0.8, label=f"limit of {dtype}")
    for i, frame in enumerate(frames):
        if not frame.finite:
            first = frame.flow == APPEARS
            axis.axvline(i, color="crimson" if first else "orange", alpha=0.9 if first else 0.3, linewidth=0.8)
            if first:
                axis.annotate(frame.module or "the model", (i, 1), rotation=90, color="crimson", fontsize=8)
    axis.set_xlabel("module, in the order of execution")
    axis.set_ylabel("magnitude")
    axis.legend(loc="upper left", fontsize=8)


def pyplot() -> Any:
    """Return matplotlib's pyplot. Raises UsageError without matplotlib."""
    from harness.results.plots import colours

    colours("RdBu_r")
    from matplotlib import pyplot as module

    return module


def _save(figure: Any, file: Path) -> None:
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be written: {error}") from error
