"""The recovery rung: does a recovery exist, or does a guard put a number where none does?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.diagnosis.asked import Asked
from harness.diagnosis.outcome import Observation, Place
from harness.vocabulary import State


def examine(asked: Asked) -> Iterator[Observation]:
    """Yield the numbers that stand where float64 has none."""
    invented = [cell for cell in asked.cells if cell.reported.finite and cell.true is not None and not cell.true.finite]
    bad_baseline = asked.baseline is not None and not math.isfinite(asked.baseline)
    if not invented and bad_baseline:
        invented = [cell for cell in asked.cells if cell.reported.finite]
    if not invented:
        return
    first = invented[0]
    state = first.true.state if first.true is not None and not first.true.finite else State.UNDEFINED
    told = "" if asked.baseline is None else f" from a baseline of {asked.baseline:g}"
    yield Observation.of(
        "DIA502",
        f"{asked.name} reports {first.reported.text('.4g')} % at {len(invented)} of {len(asked.cells)} layers{told}, "
        f"where the recovery is {state.value}",
        Place("recovery", "recovery", layer=first.layer),
        layers=[cell.layer for cell in invented],
        baseline=asked.baseline,
        engine=asked.name,
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
