"""Error bars: what a recovery owes to the dtype that the model computes in.

The same sweep on the same weights in float32 (the model's shadow) gives every recovery a second reading, and the
points between the two are its bar. That is no bound: float32 rounds as well, 8,192 times less than float16.
"""

from __future__ import annotations

from dataclasses import replace

from harness.engines import answer, engine_named
from harness.models.loaded import LoadedModel
from harness.models.shadow import float32_shadow
from harness.vocabulary import Answer, Cell, Curve, Question


def with_error_bars(model: LoadedModel, question: Question, given: Answer) -> Answer:
    """Return the answer with an error bar on every recovery; unchanged where the model computes in float32.

    The bar is about the logits, not about an engine's formula: both sides are float64 readings. The same answers are
    read in both, whichever token the shadow would prefer. The shadow is made for this sweep and forgotten after it.
    """
    shadow = float32_shadow(model)
    if shadow is None:
        return given
    wide = answer(engine_named("native"), shadow, replace(question, answers=given.answers))
    return replace(given, curves=tuple(map(_barred, given.curves, wide.curves)))


def _barred(curve: Curve, wide: Curve) -> Curve:
    barred = {cell: _with_bar(cell, other) for cell, other in curve.paired(wide)}
    return replace(curve, cells=tuple(barred.get(cell, cell) for cell in curve.cells))


def _with_bar(cell: Cell, wide: Cell) -> Cell:
    if cell.oracle.value is None or wide.oracle.value is None:
        return cell
    return replace(cell, precision=abs(cell.oracle.value - wide.oracle.value))
