"""What many pairs make of one number: its mean, and how sure the mean is.

A pair whose number is undefined has no place in a mean: the mean is over the others, and the undefined ones stay
beside it by their states. In float64, and the same for any order of the pairs:

mean             of the defined readings, exact and rounded once
standard error   s / sqrt(n) of n defined readings, with s the standard deviation over n - 1; none for fewer than two
interval         95 % by the percentile bootstrap (Efron 1979): the defined readings are drawn n at a time with
                 replacement, `RESAMPLES` times, by NumPy's default generator from the seed `SEED`; its ends are the
                 2.5th and 97.5th percentile of the means of the draws; none for fewer than two

With few pairs the percentile interval is too narrow: of ten pairs it holds the true mean nine times of ten.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from harness.vocabulary import Reading, Spread, State

RESAMPLES = 10_000
"""Draws of a bootstrap: its ends then move by about 3 % of the standard error with another seed."""

SEED = 0

PERCENTILES = (2.5, 97.5)

_SHRUNK = 4.0
"""Readings are divided by it while differences are taken: between two near 1.8e308 they are beyond float64."""


def mean_of(readings: Iterable[Reading]) -> Reading:
    """Return the mean of the defined readings; without any, the state that all share, or `undefined`."""
    given = list(readings)
    if values := _defined(given):
        return Reading.of(statistics.mean(values))
    states = {reading.state for reading in given}
    return Reading.absent(states.pop() if len(states) == 1 else State.UNDEFINED)


def spread_of(readings: Iterable[Reading]) -> Spread:
    """Return the readings of all pairs, and how sure the mean of the defined ones is."""
    given = tuple(readings)
    values = _defined(given)
    if len(values) < 2:
        return Spread(given)
    return Spread(given, standard_error(values), interval(values))


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of two values or more."""
    deviation = statistics.stdev([value / _SHRUNK for value in values])
    return deviation * (_SHRUNK / math.sqrt(len(values)))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of the mean of two values or more."""
    middle = statistics.mean(values) / _SHRUNK
    # Sorted, since a draw names places; around the mean, so that equal values have no width.
    apart = np.sort(np.asarray(values, np.float64)) / _SHRUNK - middle
    low, high = np.percentile(_draws(len(values)) @ apart, PERCENTILES)
    return float(_SHRUNK * (middle + low)), float(_SHRUNK * (middle + high))


@lru_cache(maxsize=2)
def _draws(count: int) -> npt.NDArray[np.float64]:
    """Return `[RESAMPLES, count]`: which share of each draw every reading has."""
    generator = np.random.default_rng(SEED)
    return generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count


def _defined(readings: Sequence[Reading]) -> list[float]:
    return [reading.value for reading in readings if reading.value is not None]
