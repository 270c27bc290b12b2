"""A number that may not exist: a value, or the state that stands in its place."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from harness.vocabulary.words import number_of


class State(StrEnum):
    """What a baseline or a recovery is. Only a finite one has a value; nothing else ever becomes 0.0.

    Ill-conditioned: the clean and the corrupted run are no farther apart than rounding puts them, so that a recovery
    would be rounding over rounding. Unknown: a number that float64 could not check, because nobody saw the run it
    comes from.
    """

    FINITE = "finite"
    INF = "inf"
    NAN = "nan"
    ZERO_BASELINE = "zero-baseline"
    ILL_CONDITIONED = "ill-conditioned"
    UNDEFINED = "undefined"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reading:
    """A number that may not exist: `value` is None exactly when `state` is not finite."""

    value: float | None
    state: State

    def __post_init__(self) -> None:
        finite = self.value is not None and math.isfinite(self.value)
        if finite != (self.state is State.FINITE):
            raise ValueError(f"a reading of {self.value} cannot be {self.state}")

    @classmethod
    def of(cls, value: float) -> Reading:
        """Return the reading of a float, whatever it is."""
        if math.isnan(value):
            return cls(None, State.NAN)
        if math.isinf(value):
            return cls(None, State.INF)
        return cls(float(value), State.FINITE)

    @classmethod
    def absent(cls, state: State) -> Reading:
        """Return a reading that has a state and no value."""
        return cls(None, state)

    @property
    def finite(self) -> bool:
        return self.state is State.FINITE

    def text(self, spec: str = ".4g") -> str:
        """Return the value in the given format, or the name of the state."""
        return format(self.value, spec) if self.value is not None else self.state.value


@dataclass(frozen=True)
class Spread:
    """The readings that a mean is over, one a pair in the order of the pairs, and how sure the mean is.

    Only the readings that have a value are in the mean. `standard_error` and `interval` (95 %, from a bootstrap) are in
    the unit of the readings, None where fewer than two have a value; `harness.metrics.pairs` computes them.
    """

    of: tuple[Reading, ...]
    standard_error: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def defined(self) -> int:
        """How many pairs have a value."""
        return sum(reading.finite for reading in self.of)

    @property
    def over(self) -> str:
        """What the mean is over: `30 pairs`, `28 of 30 pairs`."""
        every = number_of(len(self.of), "pair")
        return every if self.defined == len(self.of) else f"{self.defined} of {every}"

    @property
    def undefined(self) -> str:
        """The pairs without a value, by their states: `2 of 30 zero-baseline, 1 nan`; empty where all have one."""
        counts = Counter(reading.state.value for reading in self.of if not reading.finite)
        said = [f"{count} {state}" for state, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))]
        if said:
            said[0] = said[0].replace(" ", f" of {len(self.of)} ", 1)
        return ", ".join(said)

    @property
    def around(self) -> str:
        """` ± 1.3` after a mean, or nothing."""
        return "" if self.standard_error is None else f" ± {float(f'{self.standard_error:.2g}'):g}"


@dataclass(frozen=True)
class Denominator:
    """What a recovery divides by: a metric on both unpatched runs, in its unit; both values are finite.

    `resolution` is the gap that rounding alone makes of equal runs, 0 where nothing is known of it. `wrong` is the
    clean run's score of the wrong answer, None for metrics without answers.
    """

    clean: float
    corrupted: float
    resolution: float = 0.0
    wrong: float | None = None

    @property
    def gap(self) -> float:
        return self.clean - self.corrupted

    @property
    def state(self) -> State:
        """Finite where a recovery exists."""
        if self.gap == 0:
            return State.ZERO_BASELINE
        return State.FINITE if abs(self.gap) > self.resolution else State.ILL_CONDITIONED
