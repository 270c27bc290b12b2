"""Means over pairs: closed forms, the states beside them, and how often the interval holds the truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from example_results import reading

from harness.metrics.pairs import RESAMPLES, interval, mean_of, spread_of, standard_error
from harness.vocabulary import Reading, State

UNDEFINED = [state for state in State if state is not State.FINITE]


def test_mean_and_standard_error_are_those_of_the_textbook() -> None:
    given = [reading(value) for value in (2.0, 4.0, 4.0, 6.0)]
    spread = spread_of(given)
    assert mean_of(given) == Reading.of(4.0)
    # Squares of the deviations: 4 + 0 + 0 + 4 = 8; over n - 1 = 3; over n = 4.
    assert spread.standard_error == pytest.approx(math.sqrt(8 / 3 / 4), rel=1e-15)
    assert (spread.of, spread.defined, spread.over, spread.undefined) == (tuple(given), 4, "4 pairs", "")


@pytest.mark.parametrize("state", UNDEFINED)
def test_an_undefined_pair_is_counted_by_its_state_and_in_no_mean(state: State) -> None:
    given = [reading(10.0), reading(state), reading(30.0)]
    spread = spread_of(given)
    assert mean_of(given) == Reading.of(20.0)  # and not 13.3, which counts the state as 0
    assert spread.standard_error == pytest.approx(10.0)  # s = sqrt(200), n = 2
    assert (spread.defined, spread.over, spread.undefined) == (2, "2 of 3 pairs", f"1 of 3 {state}")


def test_several_states_are_counted_apart() -> None:
    given = [*map(reading, (1.0, "nan", "zero-baseline", 2.0, "zero-baseline"))]
    assert spread_of(given).undefined == "2 of 5 zero-baseline, 1 nan"


@pytest.mark.parametrize("state", UNDEFINED)
def test_where_no_pair_is_defined_the_mean_has_the_state_of_all(state: State) -> None:
    given = [reading(state)] * 3
    assert mean_of(given) == Reading.absent(state)
    spread = spread_of(given)
    assert (spread.standard_error, spread.interval, spread.over) == (None, None, "0 of 3 pairs")


def test_where_no_pair_is_defined_and_the_states_differ_the_mean_is_undefined() -> None:
    assert mean_of([reading("nan"), reading("zero-baseline")]) == Reading.absent(State.UNDEFINED)


@pytest.mark.parametrize("others", [[], ["nan"], ["zero-baseline", "inf"]])
def test_one_defined_pair_has_no_standard_error_and_no_interval(others: list[str]) -> None:
    spread = spread_of([reading(7.0), *map(reading, others)])
    assert (spread.standard_error, spread.interval) == (None, None)
    assert mean_of(spread.of) == Reading.of(7.0)


@pytest.mark.parametrize("value", [0.1, -33.3, 1e300, 1e-300])
@pytest.mark.parametrize("count", [2, 3, 7, 30])
def test_the_interval_of_a_constant_is_the_constant(value: float, count: int) -> None:
    assert mean_of([reading(value)] * count) == Reading.of(value)
    assert standard_error([value] * count) == 0.0
    assert interval([value] * count) == (value, value)


def test_the_interval_of_two_opposite_values_is_both_of_them() -> None:
    # Two draws of two: a quarter of the means is -1, half is 0, a quarter is 1; 2.5 % is within each quarter.
    assert interval([-1.0, 1.0]) == (-1.0, 1.0)


def test_the_interval_of_a_coin_is_that_of_the_binomial() -> None:
    # Ten draws of which half are 1: the mean is Binomial(10, 1/2) / 10, with P(<= 1) = 0.0107 and P(<= 2) = 0.0547.
    assert interval([0.0] * 5 + [1.0] * 5) == pytest.approx((0.2, 0.8), abs=1e-12)


def test_numbers_at_the_end_of_float64_do_not_overflow() -> None:
    values = [1.7e308, -1.7e308, 1.7e308]
    assert all(map(math.isfinite, (standard_error(values), *interval(values))))


@pytest.mark.parametrize("values", [(0.1, 1e16, -1e16, 3.3), (3.1, 1.0, 4.1, 1.5, 9.2, 6.5)])
def test_the_order_of_the_pairs_does_not_move_a_bit(values: tuple[float, ...]) -> None:
    given = [*map(reading, values), reading("nan")]
    orders = itertools.islice(itertools.permutations(given), 0, None, 7)
    spreads = {(mean_of(order), spread_of(order).standard_error, spread_of(order).interval) for order in orders}
    assert len(spreads) == 1


def test_the_same_readings_have_the_same_interval_in_another_process() -> None:
    # Of the seed and NumPy's PCG64, whose stream NumPy keeps: the ends are quantiles of RESAMPLES means of draws.
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    draws = np.random.default_rng(0).multinomial(5, [0.2] * 5, size=RESAMPLES) / 5
    assert interval(values) == pytest.approx(tuple(np.percentile(draws @ np.sort(values), (2.5, 97.5))), rel=1e-12)


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    """400 seeded samples of 30 normal readings: 95 % are too many by what a percentile interval is too narrow, 93.3 %
    where the factor of t with 29 degrees is replaced by sqrt(29/30) x 1.96; two standard errors of 400 are 2.4 %."""
    generator = np.random.default_rng(7)
    ends = [interval(generator.normal(50.0, 10.0, 30).tolist()) for _ in range(400)]
    assert 0.905 <= np.mean([low <= 50.0 <= high for low, high in ends]) <= 0.96


def test_of_ten_pairs_it_holds_it_nine_times_of_ten() -> None:
    generator = np.random.default_rng(7)
    ends = [interval(generator.normal(50.0, 10.0, 10).tolist()) for _ in range(400)]
    assert 0.865 <= np.mean([low <= 50.0 <= high for low, high in ends]) <= 0.935
