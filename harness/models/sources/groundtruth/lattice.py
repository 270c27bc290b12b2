"""Logits on a lattice: whole steps of one unit, few enough that every mixture of two rows is exact in the dtype.

A closed form is only worth its tolerance if the model itself does not round. A dtype with p bits of precision holds
every whole number up to 2^p, times any power of two. So logits are whole steps of a unit with few bits; patching
refines the unit by a known factor; and where `largest step x factor` stays within 2^p, nothing rounds, in float32,
float16 and bfloat16 alike.

Numbers come from the raw bits of PCG64, which NumPy keeps stable, unlike its distributions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

SPREADS = (8.0, 4.0, 2.0, 1.0, 0.0)
"""Size of the logits all rows share, against the rms difference of two rows, in order of preference.

8 gives the cosine distance of the report, 0.0078; a coarse dtype takes the largest that it holds exactly.
"""

Steps = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Format:
    """What a floating-point format can hold: bits of precision, the largest value, the smallest exact step."""

    bits: int
    largest: float
    smallest: float


FORMATS = {
    "float32": Format(24, (2 - 2.0**-23) * 2.0**127, 2.0**-126),
    "float16": Format(11, 65504.0, 2.0**-24),
    "bfloat16": Format(8, (2 - 2.0**-7) * 2.0**127, 2.0**-126),
}


@dataclass(frozen=True)
class Lattice:
    """Rows of logits: `steps [rows, vocab]`, whole multiples of `unit` (logits)."""

    steps: Steps
    unit: float

    @property
    def top(self) -> int:
        return int(np.abs(self.steps).max())

    def values(self) -> Values:
        """Return the logits `[rows, vocab]` in float64."""
        return np.asarray(self.steps * self.unit, np.float64)


def exact(top: int, unit: float, factor: int, dtype: str) -> bool:
    """Say whether steps up to `top`, refined by `factor`, are all held exactly by the dtype."""
    form = FORMATS[dtype]
    odd = Fraction(unit).numerator
    odd //= odd & -odd
    return top * odd * factor <= 2**form.bits and top * unit <= form.largest and unit / (2 * factor) >= form.smallest


def denominator(values: Iterable[float]) -> int:
    """Return the smallest power of two that makes all values whole."""
    return max((Fraction(value).denominator for value in values), default=1)


def raw_steps(seed: int, shape: tuple[int, ...], reach: int) -> Steps:
    """Return whole numbers from -reach to reach, all equally likely."""
    raw = np.random.PCG64(seed).random_raw(math.prod(shape)).reshape(shape)
    return (raw % np.uint64(2 * reach + 1)).astype(np.int64) - reach


def raw_uniform(seed: int, shape: tuple[int, ...]) -> Values:
    """Return float64 numbers in [0, 1), from the upper 53 of 64 raw bits."""
    raw = np.random.PCG64(seed).random_raw(math.prod(shape)).reshape(shape)
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53, np.float64)


def unit_of(scale: float) -> float:
    """Return the power of two in [scale, 2 scale)."""
    return 2.0 ** math.ceil(math.log2(scale))


def amplitude(scale: float, spread: float) -> float:
    """Return how far the shared logits reach, in steps, for an rms of `spread x scale`.

    Rounding to whole steps adds 1/12 to a variance, which is taken off first.
    """
    variance = (spread * scale / unit_of(scale)) ** 2 - 1 / 12
    return math.sqrt(3 * max(variance, 0.0))


def top_of(scale: float, spread: float) -> int:
    """Return the largest step that `subject_rows` makes: the answer's column of its own row."""
    return round(amplitude(scale, spread)) + 2


def subject_rows(seed: int, vocab: int, answers: Sequence[int], scale: float, spread: float) -> tuple[Steps, Steps]:
    """Return shared steps `[vocab]` and one row of own steps per answer `[len(answers), vocab]`.

    The logits of subject r are shared + own[r]. Two subjects differ by an rms of `scale`: the share of columns
    with a step of one is chosen for it, because the unit has to stay a power of two. Subject r alone has its maximum
    at column answers[r].
    """
    uniform = raw_uniform(seed, (1 + len(answers), vocab))
    reach = amplitude(scale, spread)
    shared = np.rint((2 * uniform[0] - 1) * reach).astype(np.int64)
    share = (scale / unit_of(scale)) ** 2 / 2
    own = np.where(uniform[1:] < share, np.where(uniform[1:] < share / 2, 1, -1), 0)
    columns = list(answers)
    shared[columns] = round(reach) + 1
    own[:, columns] = -1
    own[np.arange(len(columns)), columns] = 1
    return shared, own
