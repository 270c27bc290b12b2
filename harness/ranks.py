"""Do two lists of numbers put the same things in the same order? Kendall's tau-b, ties counted as ties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return tau-b in [-1, 1]: 1 the same order, -1 the opposite one, None where one side does not rank anything.

    Source: M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945). Raises ValueError when
    the lengths differ. Quadratic in the length, which is a number of layers.
    """
    pairs = list(combinations(zip(first, second, strict=True), 2))
    signs = [(_sign(a[0] - b[0]), _sign(a[1] - b[1])) for a, b in pairs]
    ranked = math.sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))
    return sum(x * y for x, y in signs) / ranked if ranked else None


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
