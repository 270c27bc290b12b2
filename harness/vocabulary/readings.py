"""A number that may not exist: a value, or the state that stands in its place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What a baseline or a recovery is. Only a finite one has a value; nothing else ever becomes 0.0.

    Unknown: a number that float64 could not check, because nobody saw the run it comes from.
    """

    FINITE = "finite"
    INF = "inf"
    NAN = "nan"
    ZERO_BASELINE = "zero-baseline"
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
