"""Does the order of the top cells survive the dtype the model computes in?

The error bars are those of `engines/error_bars.py`, and only there if the case asks for them. The order of two
neighbours whose bars together are wider than the gap between them is not resolved.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from harness.checks.evidence import Evidence
from harness.vocabulary import Cell, Curve, Direction, Finding

TOP = 3
"""Places of a ranking that people report, each to be told from the next."""


def check(evidence: Evidence) -> Iterator[Finding]:
    noising = evidence.question.sweep.direction is Direction.NOISING
    for curve in evidence.answer.curves:
        barred = [cell for cell in curve.cells if cell.precision is not None]
        ranked = sorted(barred, key=_recovery, reverse=not noising)
        if _open(ranked, evidence.points):
            yield _finding(curve, ranked)


def _open(ranked: list[Cell], least: float) -> list[tuple[Cell, Cell]]:
    """Return the neighbours in the top places that are not resolved; bars within the case's tolerance count as none."""
    return [
        (a, b)
        for a, b in pairwise(ranked[: TOP + 1])
        if _bar(a) + _bar(b) > max(least, abs(_recovery(a) - _recovery(b)))
    ]


def _finding(curve: Curve, ranked: list[Cell]) -> Finding:
    top = ranked[: TOP + 1]
    places = ", ".join(f"{curve.site(cell)} {_recovery(cell):.1f} ± {_bar(cell):.1f} %" for cell in top)
    return Finding(
        "PRC001",
        places,
        curve.site(top[0]),
        curve.metric,
        {"layers": [cell.layer for cell in top], "points": [_bar(cell) for cell in top]},
    )


def _recovery(cell: Cell) -> float:
    return cell.oracle.value or 0.0


def _bar(cell: Cell) -> float:
    return cell.precision or 0.0
