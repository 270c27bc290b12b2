"""Kendall's tau-b against SciPy-free closed forms: counts of pairs done by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from harness.ranks import kendall


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        pytest.param([1, 2, 3, 4], [10, 20, 30, 40], 1.0, id="same-order"),
        pytest.param([1, 2, 3, 4], [4, 3, 2, 1], -1.0, id="opposite"),
        # Of 6 pairs one is turned: (5 - 1) / 6.
        pytest.param([1, 2, 3, 4], [1, 2, 4, 3], 4 / 6, id="one-turned"),
        # Kendall 1945: concordant 5, no discordant, one tie on the left: 5 / sqrt(5 * 6).
        pytest.param([1, 1, 2, 3], [1, 2, 3, 4], 5 / math.sqrt(30), id="tie"),
        pytest.param([1, 1, 1], [1, 2, 3], None, id="nothing-ranked"),
        pytest.param([1], [1], None, id="one"),
        pytest.param([], [], None, id="none"),
    ],
)
def test_tau_b(first: Sequence[float], second: Sequence[float], tau: float | None) -> None:
    assert kendall(first, second) == (None if tau is None else pytest.approx(tau, abs=1e-15))
    assert kendall(second, first) == kendall(first, second)


def test_lengths_must_match() -> None:
    with pytest.raises(ValueError, match=r"longer|shorter"):
        kendall([1, 2], [1, 2, 3])
