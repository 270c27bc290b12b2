"""Where a number lies in a picture: percent to pixels, and percent to one of the colour steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

STEPS = 5
"""Colour steps on each side of 0 %; the style sheet has a class for each."""
LARGEST = 1e39
"""Percent beyond which a value is drawn at the edge: a span of floats may itself be beyond them."""


@dataclass(frozen=True)
class Scale:
    """A vertical axis in percent, `top` pixels down from the upper edge and `height` pixels high."""

    low: float
    high: float
    top: float
    height: float

    @classmethod
    def around(cls, values: Iterable[float], top: float, height: float) -> Scale:
        """Return a scale that holds 0 %, 100 % and all values up to `LARGEST`, with a little air."""
        held = [0.0, 100.0, *map(_drawn, values)]
        air = 0.04 * (max(held) - min(held))
        return cls(min(held) - air, max(held) + air, top, height)

    def y(self, percent: float) -> float:
        """Return the pixel row of a value."""
        return self.top + self.height * (self.high - _drawn(percent)) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return a few round values between the ends, 0 and 100 among them."""
        span = self.high - self.low
        step = next(size for size in _STEP_SIZES if span / size <= 4)
        return [k * step for k in range(int(self.low // step), int(self.high // step) + 1) if k * step >= self.low]


# Divisors and multiples of 100, so that 100 % always has a line.
_STEP_SIZES = [50.0, 100.0] + [factor * 10.0**power for power in range(2, 40) for factor in (2, 5, 10)]


def _drawn(percent: float) -> float:
    return max(-LARGEST, min(percent, LARGEST))


def step(percent: float, reach: float) -> int:
    """Return the colour step of a value, -STEPS to STEPS; `reach` is the value of the last step."""
    size = min(STEPS, 1 + int(STEPS * min(abs(percent) / reach, 1.0) * 0.999)) if percent else 0
    return size if percent >= 0 else -size


def number(value: float) -> str:
    """Return a coordinate to the nearest pixel, which is as near as a picture of this size shows."""
    return str(round(value))
