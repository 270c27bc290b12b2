"""Do two metrics rank the cells of a sweep alike? Kendall's tau-b over the recoveries.

Every pair of cells stands in some order under either metric. Tau counts the pairs in the same order (C) and in the
opposite one (D): tau = (C - D) / sqrt(ordered under the one x ordered under the other) (Kendall 1945; `tau_b`). Two
recoveries closer than a tolerance are tied: noise has no order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from harness.vocabulary import Concordance, Curve

Order = npt.NDArray[np.int8]

_SHOWN = 3
"""Cells that are named as parting most; more would be a list and no answer."""


def concordances(curves: Sequence[Curve], within: float = 0.0) -> tuple[Concordance, ...]:
    """Return how alike every two metrics of a component rank its cells; closer than `within` points is a tie."""
    return tuple(_concordance(a, b, within) for a, b in _pairs(curves))


def tau_b(x: Sequence[float], y: Sequence[float], within: float = 0.0) -> float | None:
    """Return Kendall's tau-b of two lists of equal length; None where either holds no two numbers in an order."""
    return _tau(_order(x, within), _order(y, within))


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Pearson's correlation of two lists of equal length; None where either does not vary."""
    moved = [np.asarray(each, np.float64) - np.mean(each) for each in (x, y)]
    sizes = [float(np.sqrt(np.sum(each * each))) for each in moved]
    if len(x) < 2 or not all(sizes):
        return None
    return float(np.sum(moved[0] / sizes[0] * (moved[1] / sizes[1])))


def _pairs(curves: Sequence[Curve]) -> Iterator[tuple[Curve, Curve]]:
    for a, b in itertools.combinations(curves, 2):
        if a.component == b.component:
            yield a, b


def _concordance(a: Curve, b: Curve, within: float) -> Concordance:
    both = [
        (cell.layer, cell.recovery.value, other.recovery.value)
        for cell, other in a.paired(b)
        if cell.recovery.value is not None and other.recovery.value is not None
    ]
    orders = _order([one for _, one, _ in both], within), _order([other for _, _, other in both], within)
    parted = _parted(*orders)
    layers = dict.fromkeys(both[i][0] for i in parted)
    return Concordance(a.component, (a.metric, b.metric), _tau(*orders), tuple(sorted(layers)))


def _order(values: Sequence[float], within: float) -> Order:
    """Return for each two of n values which is larger, `[n, n]`: 1, -1, or 0 for a tie."""
    all_of_them = np.asarray(values, np.float64)
    with np.errstate(over="ignore"):  # a difference beyond the floats has its sign, and is beyond `within`
        rows = [np.sign(value - all_of_them) * (np.abs(value - all_of_them) > within) for value in all_of_them]
    # A row at a time as whole numbers of 8 bits: a grid of 5,000 cells stays within 25 MB.
    return np.array([row.astype(np.int8) for row in rows], np.int8).reshape(len(values), len(values))


def _tau(x: Order, y: Order) -> float | None:
    ordered = float(np.count_nonzero(x)) * float(np.count_nonzero(y))
    return None if ordered == 0 else float(np.sum(x * y, dtype=np.int64)) / float(np.sqrt(ordered))


def _parted(x: Order, y: Order) -> list[int]:
    """Return the cells in opposite order to most others, the first of them first; none where no pair is opposite."""
    opposite = [int(np.count_nonzero(row)) for row in x * y < 0]
    worst = sorted(range(len(opposite)), key=lambda i: -opposite[i])[:_SHOWN]
    return [i for i in worst if opposite[i]]
