"""The recovery: does a recovery exist, or does a guard put a number where none does?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.diagnosis.engine.asked import Asked, ask
from harness.diagnosis.outcome.nouns import Place, PlacedFinding
from harness.diagnosis.subject import cast_to
from harness.engines import engine_named
from harness.models.loaded import LoadedModel
from harness.vocabulary import Question, Site, State

SHADOW_BYTES = 2 << 30
TRUSTED_POINTS = 5.0
"""Percentage points: layers that differ by less are seldom told apart by anybody."""


def examine(asked: Asked, component: str) -> Iterator[PlacedFinding]:
    """Yield the numbers that stand where float64 has none; `component` is what was patched."""
    invented = [cell for cell in asked.cells if cell.reported.finite and cell.true is not None and not cell.true.finite]
    bad_baseline = asked.baseline is not None and not math.isfinite(asked.baseline)
    if not invented and bad_baseline:
        invented = [cell for cell in asked.cells if cell.reported.finite]
    if not invented:
        return
    first = invented[0]
    state = first.true.state if first.true is not None and not first.true.finite else State.UNDEFINED
    told = "" if asked.baseline is None else f" from a baseline of {asked.baseline:g}"
    yield PlacedFinding.of(
        "DIA502",
        f"{asked.name} reports {first.reported.text('.4g')} % at {len(invented)} of {len(asked.cells)} layers{told}, "
        f"where the recovery is {state.value}",
        Place("recovery", "recovery", layer=first.layer),
        site=Site(component, first.layer),
        layers=[cell.layer for cell in invented],
        baseline=asked.baseline,
        engine=asked.name,
    )


def error_bars(model: LoadedModel, question: Question, asked: Asked) -> Iterator[PlacedFinding]:
    """Yield a warning where the same sweep in float32 gives other recoveries: what rounding does to each of them.

    A model of 16-bit weights is cast for it, so one that would take more than SHADOW_BYTES in float32 is left alone.
    """
    from mlx.utils import tree_flatten

    weights = [array for _, array in tree_flatten(model.module.parameters())]
    narrow = any(str(array.dtype).endswith("float16") for array in weights)
    if not narrow or 2 * sum(array.nbytes for array in weights) > SHADOW_BYTES:
        return
    with cast_to(model.module, "float32"):
        shadow = ask(engine_named("native"), model, question)
    pairs = [
        (cell.layer, cell.reported.value, other.reported.value)
        for cell, other in zip(asked.cells, shadow.cells, strict=True)
        if cell.reported.value is not None and other.reported.value is not None
    ]
    layer, here, there = max(pairs, key=lambda pair: abs(pair[1] - pair[2]), default=(0, 0.0, 0.0))
    moved = sum(abs(a - b) > TRUSTED_POINTS for _, a, b in pairs)
    if moved:
        yield PlacedFinding.of(
            "DIA503",
            f"the recovery of layer {layer} is {here:.1f} % here and {there:.1f} % in float32; "
            f"{moved} of {len(pairs)} move by more than {TRUSTED_POINTS:g} points",
            Place("recovery", "recovery", layer=layer),
            site=Site(question.sweep.components[0], layer),
            points=abs(here - there),
            float32=[there for _, _, there in pairs],
        )


def summary(asked: Asked) -> str:
    """Return the recoveries in one line."""
    finite = [cell for cell in asked.cells if cell.reported.value is not None]
    if not asked.cells:
        return "no recovery was reported"
    if not finite:
        states = sorted({cell.reported.state.value for cell in asked.cells})
        return f"all {len(asked.cells)} recoveries are {' or '.join(states)}"
    top = max(finite, key=lambda cell: cell.reported.value or 0.0)
    largest = f"{top.reported.text('.1f')} % at layer {top.layer}"
    return f"{len(finite)} of {len(asked.cells)} recoveries are numbers, the largest {largest}"
