"""A number as somebody printed it, and the interval of quantities it stands for.

Relations hold between *quantities*: distances, not the percentages made of them. The quantity of a baseline is the
number itself; that of a recovery is what is left of the distance, 1 - recovery / 100. Half a unit of the last printed
digit, and what the arithmetic behind the number may be off by, make an interval of it. `printable` goes the other way:
from the quantities that are allowed to the numbers that could have been printed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from harness.vocabulary import State

NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_INFINITE = re.compile(r"[-+]?inf", re.IGNORECASE)


class StatedPart(StrEnum):
    """What a number is in its table."""

    BASELINE = "baseline"
    RECOVERY = "recovery"


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` to `high`, both included; none of them where `low` is larger."""

    low: float
    high: float

    def meets(self, other: Interval) -> bool:
        return not (self & other).empty

    @property
    def empty(self) -> bool:
        return self.low > self.high

    def __and__(self, other: Interval) -> Interval:
        return Interval(max(self.low, other.low), min(self.high, other.high))


ANY = Interval(-math.inf, math.inf)
NOTHING = Interval(math.inf, -math.inf)


def state_of(text: str) -> State | None:
    """Return the state that a text stands for, or None of a text that is neither a number nor a state."""
    if NUMBER.fullmatch(text):
        return State.FINITE
    if _INFINITE.fullmatch(text):
        return State.INF
    return next((state for state in State if state is not State.FINITE and state.value == text.lower()), None)


@dataclass(frozen=True)
class Number:
    """One number of a table.

    `half` is half a unit of the last printed digit, 0 where the number was never rounded for print; `error` is the
    part of a distance by which the arithmetic may be off. `site` is empty for a baseline, which belongs to no site.
    `known` are the quantities that a number can only have whatever the model, where there is such a law.
    """

    metric: str
    part: StatedPart
    site: str
    text: str
    half: float
    error: float
    known: Interval | None = None

    @classmethod
    def printed(
        cls, metric: str, part: StatedPart, site: str, text: str, error: float, known: Interval | None = None
    ) -> Number:
        """Return a number as printed: its last digit is rounded."""
        finite = state_of(text) is State.FINITE
        half = float(Decimal(1).scaleb(int(Decimal(text).as_tuple().exponent)) / 2) if finite else 0.0
        return cls(metric, part, site, text, half, error, known)

    def __str__(self) -> str:
        return f"{self.metric} {self.part}" + (f" at {self.site}" if self.site else "")

    @property
    def state(self) -> State:
        return state_of(self.text) or State.UNDEFINED

    @property
    def finite(self) -> bool:
        return self.state is State.FINITE

    @property
    def unit(self) -> str:
        return " %" if self.part is StatedPart.RECOVERY else ""

    @property
    def quantity(self) -> Interval:
        """The distances, or parts of a distance, that the number may stand for; only a finite one has any."""
        value = float(self.text)
        if self.part is StatedPart.BASELINE:
            return self._widened(value - self.half, value + self.half)
        return self._widened(1 - (value + self.half) / 100, 1 - (value - self.half) / 100)

    def printable(self, allowed: Interval) -> Interval:
        """Return the numbers that could be printed here if the quantity is one of those allowed."""
        if allowed.empty:
            return NOTHING
        low, high = self._spread(allowed.low - self._absolute, allowed.high + self._absolute)
        if self.part is StatedPart.BASELINE:
            return Interval(low - self.half, high + self.half)
        return Interval(100 * (1 - high) - self.half, 100 * (1 - low) + self.half)

    def _widened(self, low: float, high: float) -> Interval:
        low, high = self._spread(low, high)
        return Interval(low - self._absolute, high + self._absolute)

    def _spread(self, low: float, high: float) -> tuple[float, float]:
        """Move two ends apart by the error's part of each: a score may be negative, and then its low end grows."""
        factor = 1 + self.error
        return min(low / factor, low * factor), max(high / factor, high * factor)

    @property
    def _absolute(self) -> float:
        """Near 100 % a recovery is 1 minus next to nothing, so that its error is one of the 1."""
        return self.error if self.part is StatedPart.RECOVERY else 0.0
