"""Kendall's tau-b: cited values, the definition over pairs, and what a tie is."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.results.ranks import concordances, tau_b
from harness.vocabulary import Cell, Concordance, Curve, Reading, State

NUMBERS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=12)


def curve(metric: str, *values: float | None, component: str = "mlp") -> Curve:
    readings = [Reading.absent(State.NAN) if value is None else Reading.of(value) for value in values]
    cells = tuple(Cell(layer, "all", each, each) for layer, each in enumerate(readings))
    return Curve(component, metric, "", Reading.of(1.0), Reading.of(1.0), cells)


def test_cells_that_one_metric_lacks_are_not_ranked():
    """An engine may leave a layer out under one metric and not under the other."""
    l2, mse = curve("l2", 9.0, 1.0, 2.0, 3.0), curve("mse", 0.0, 10.0, 20.0, 30.0)
    (found,) = concordances([l2, replace(mse, cells=mse.cells[1:])])
    assert found.tau == 1.0


def test_the_value_of_scipys_documentation():
    """docs.scipy.org, scipy.stats.kendalltau: -0.47140452079103173, with ties in both lists."""
    assert tau_b([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]) == pytest.approx(-0.47140452079103173, abs=1e-15)


@pytest.mark.parametrize(
    ("x", "y", "tau"),
    [
        ([1, 2, 3], [10, 20, 30], 1.0), ([1, 2, 3], [3, 2, 1], -1.0), ([1, 2, 3], [1, 3, 2], 1 / 3),
        ([1, 2, 3], [5, 5, 5], None), ([1], [2], None), ([], [], None), ([1, 1, 2], [1, 2, 3], 2 / math.sqrt(6)),
    ],
    ids=str,
)  # fmt: skip
def test_small_rankings(x, y, tau):
    assert tau_b(x, y) == (tau if tau is None else pytest.approx(tau))


@given(NUMBERS)
def test_tau_follows_from_pairs_and_ties(pairs):
    """Tau-b in the form with tie groups: (C - D) / sqrt((n0 - n1)(n0 - n2)), n0 = n (n - 1) / 2 (Kendall 1945)."""
    x, y = zip(*pairs, strict=True)
    balance = sum(
        math.copysign(1, (b[0] - a[0]) * (b[1] - a[1])) if (b[0] - a[0]) * (b[1] - a[1]) else 0
        for a, b in itertools.combinations(pairs, 2)
    )
    every = math.comb(len(pairs), 2)
    untied = [every - sum(math.comb(count, 2) for count in Counter(side).values()) for side in (x, y)]
    expected = balance / math.sqrt(math.prod(untied)) if all(untied) else None
    assert tau_b(x, y) == (expected if expected is None else pytest.approx(expected, abs=1e-12))


def test_what_lies_within_the_tolerance_is_tied():
    assert tau_b([0.0, 0.05, 9.0], [0.05, 0.0, 9.0]) == pytest.approx(1 / 3)
    assert tau_b([0.0, 0.05, 9.0], [0.05, 0.0, 9.0], within=0.05) == pytest.approx(1.0)
    assert tau_b([0.0, 0.05], [1.0, 2.0], within=0.05) is None


def test_a_difference_beyond_floats_has_an_order_too():
    assert tau_b([1.7e308, -1.7e308, 0.0], [3.0, 1.0, 2.0]) == pytest.approx(1.0)


def test_every_two_metrics_of_a_component_are_compared():
    l2, mse, other = curve("l2", 1.0, 2.0, 3.0), curve("mse", 2.0, 4.0, 6.0), curve("l2", 1.0, component="attn")
    kl = curve("kl_divergence", 3.0, 2.0, 1.0)
    assert concordances([l2, mse, other, kl]) == (
        Concordance("mlp", ("l2", "mse"), 1.0),
        Concordance("mlp", ("l2", "kl_divergence"), -1.0, (0, 1, 2)),
        Concordance("mlp", ("mse", "kl_divergence"), -1.0, (0, 1, 2)),
    )


def test_the_layers_are_those_opposite_to_most_others():
    """Layer 4 comes last under one metric and first under the other; the others agree."""
    (pair,) = concordances([curve("l2", 1, 2, 3, 4, 5), curve("mse", 1, 2, 3, 4, 0)])
    assert (pair.tau, pair.layers) == (pytest.approx(0.2), (0, 1, 4))


def test_cells_without_a_number_under_either_metric_are_left_out():
    (pair,) = concordances([curve("l2", 1.0, None, 3.0, 4.0), curve("mse", 1.0, 2.0, None, 4.0)])
    assert pair == Concordance("mlp", ("l2", "mse"), 1.0)
