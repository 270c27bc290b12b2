"""Error bars: what a recovery owes to the dtype that the model computes in.

The same sweep on the same weights in float32 (the model's shadow) gives every recovery a second reading, and the
points between the two are its bar. That is no bound: float32 rounds as well, 8,192 times less than float16.

The denominator gets a second reading too. Where the shadow moves m(clean) - m(corrupted) by as much as it is, it is
rounding, however large.
"""

from __future__ import annotations

from dataclasses import replace

from harness.engines.formula import answer
from harness.engines.native import NATIVE
from harness.models.loaded import LoadedModel
from harness.models.shadow import float32_shadow
from harness.vocabulary import Answer, Cell, Curve, Question


def with_error_bars(model: LoadedModel, question: Question, given: Answer) -> Answer:
    """Return the answer with an error bar on every recovery; unchanged where the model computes in float32.

    The bar is about the logits, not about an engine's formula: both sides are float64 readings. The same answers are
    read in both, whichever token the shadow would prefer. The shadow is made for this sweep and forgotten after it.
    """
    wide = in_float32(model, question, given)
    return given if wide is None else replace(given, curves=tuple(map(_barred, given.curves, wide.curves)))


def in_float32(model: LoadedModel, question: Question, given: Answer) -> Answer | None:
    """Return the float64 readings of the same sweep in float32, or None where the model computes in float32."""
    shadow = float32_shadow(model)
    return None if shadow is None else answer(NATIVE, shadow, replace(question, answers=given.answers))


def _barred(curve: Curve, wide: Curve) -> Curve:
    if curve.denominator and wide.denominator:
        moved = abs(curve.denominator.gap - wide.denominator.gap)
        curve = curve.resolved(moved + wide.denominator.resolution)
    barred = {cell: _with_bar(cell, other) for cell, other in curve.paired(wide)}
    return replace(curve, cells=tuple(barred.get(cell, cell) for cell in curve.cells))


def _with_bar(cell: Cell, wide: Cell) -> Cell:
    if cell.oracle.value is None or wide.oracle.value is None:
        return cell
    return replace(cell, precision=abs(cell.oracle.value - wide.oracle.value))
