"""The recovery: does a recovery exist, or does a guard put a number where none does?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.diagnosis.engine.asked import Asked
from harness.diagnosis.outcome.nouns import Place, PlacedFinding
from harness.engines.denominators import doubtful
from harness.engines.error_bars import in_float32
from harness.models.loaded import LoadedModel
from harness.vocabulary import Question, Site, State
from harness.vocabulary.words import number_of

SHADOW_BYTES = 2 << 30
TRUSTED_POINTS = 5.0
"""Percentage points: layers that differ by less are seldom told apart by anybody."""


def examine(asked: Asked) -> Iterator[PlacedFinding]:
    """Yield the numbers that stand where float64 has none."""
    cells = asked.curve.cells
    reported = [cell for cell in cells if cell.recovery.finite]
    invented = [cell for cell in reported if cell.oracle.state not in (State.FINITE, State.UNKNOWN)]
    if not invented and asked.baseline is not None and not math.isfinite(asked.baseline):
        invented = reported
    if not invented:
        return
    first = invented[0]
    state = State.UNDEFINED if first.oracle.state in (State.FINITE, State.UNKNOWN) else first.oracle.state
    told = "" if asked.baseline is None else f" from a baseline of {asked.baseline:g}"
    yield PlacedFinding.of(
        "DIA502",
        f"{asked.name} reports {first.recovery.text('.4g')} % at {len(invented)} of "
        f"{number_of(len(cells), 'layer')}{told}, "
        f"where the recovery is {state.value}",
        Place("recovery", "recovery", layer=first.layer),
        site=Site(asked.curve.component, first.layer),
        layers=[cell.layer for cell in invented],
        baseline=asked.baseline,
        engine=asked.name,
    )


def wide_bars(question: Question, asked: Asked) -> Iterator[PlacedFinding]:
    """Yield a warning where rounding makes error bars of more than 100 points."""
    for each in doubtful(question, asked.answer):
        if each.code == "BAS003":
            layer = each.site.layer if each.site else None
            place = Place("recovery", "recovery", layer=layer)
            yield PlacedFinding.of("DIA503", each.message, place, site=each.site, **each.evidence)


def can_be_widened(model: LoadedModel) -> bool:
    """Whether a model has weights of 16 bits, and a copy of it in float32 takes at most SHADOW_BYTES."""
    from mlx.utils import tree_flatten

    weights = [array for _, array in tree_flatten(model.module.parameters())]
    narrow = any(str(array.dtype).endswith("float16") for array in weights)
    return narrow and 2 * sum(array.nbytes for array in weights) <= SHADOW_BYTES


def error_bars(model: LoadedModel, question: Question, asked: Asked) -> Iterator[PlacedFinding]:
    """Yield a warning where the same sweep in float32 gives other recoveries: what rounding does to each of them."""
    if not can_be_widened(model):
        return
    wide = in_float32(model, question, asked.answer)
    pairs = [
        (cell.layer, cell.oracle.value, other.oracle.value)
        for cell, other in (asked.curve.paired(wide.curves[0]) if wide else ())
        if cell.oracle.value is not None and other.oracle.value is not None
    ]
    layer, here, there = max(pairs, key=lambda pair: abs(pair[1] - pair[2]), default=(0, 0.0, 0.0))
    moved = sum(abs(a - b) > TRUSTED_POINTS for _, a, b in pairs)
    if moved:
        yield PlacedFinding.of(
            "DIA503",
            f"the recovery of layer {layer} is {here:.1f} % here and {there:.1f} % in float32; "
            f"{moved} of {len(pairs)} move{'s' if moved == 1 else ''} by more than {TRUSTED_POINTS:g} points",
            Place("recovery", "recovery", layer=layer),
            site=Site(question.sweep.components[0], layer),
            points=abs(here - there),
            float32=[there for _, _, there in pairs],
        )


def summary(asked: Asked) -> str:
    """Return the recoveries in one line."""
    cells = asked.curve.cells
    finite = [cell for cell in cells if cell.recovery.value is not None]
    if not cells:
        return "no recovery was reported"
    if not finite:
        states = sorted({cell.recovery.state.value for cell in cells})
        return f"all {number_of(len(cells), 'recovery', 'recoveries')} are {' or '.join(states)}"
    top = max(finite, key=lambda cell: cell.recovery.value or 0.0)
    largest = f"{top.recovery.text('.1f')} % at layer {top.layer}"
    return f"{len(finite)} of {number_of(len(cells), 'recovery', 'recoveries')} are numbers, the largest {largest}"
