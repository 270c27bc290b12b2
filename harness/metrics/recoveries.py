"""Recovery: how far a patched run comes back from the corrupted value of a metric to the clean one, in percent."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from harness.vocabulary import Denominator, Reading, State


def recovery(clean: Reading, corrupted: Reading, patched: Reading) -> Reading:
    """Return 100 x (m(patched) - m(corrupted)) / (m(clean) - m(corrupted)), in percent, or the state that replaces it.

    A baseline without a value leaves the recovery undefined; equal baselines are a zero baseline; a patched run
    without a value gives the recovery its state. The quotient is exact and rounded once, so that readings near 1e300
    or 1e-300 cost no digits; a quotient beyond float64 is inf.
    """
    start = Fraction(corrupted.value or 0.0)
    return _share(clean, corrupted, patched, start)


def _share(clean: Reading, corrupted: Reading, moved: Reading, start: Fraction = Fraction()) -> Reading:
    """Return how much of the gap lies between `start` and where the patch moved a metric, in percent."""
    if clean.value is None or corrupted.value is None:
        return Reading.absent(State.UNDEFINED)
    gap = Fraction(clean.value) - Fraction(corrupted.value)
    if gap == 0:
        return Reading.absent(State.ZERO_BASELINE)
    if moved.value is None:
        return Reading.absent(moved.state)
    try:
        return Reading.of(float(100 * (Fraction(moved.value) - start) / gap))
    except OverflowError:
        return Reading.absent(State.INF)


@dataclass(frozen=True)
class Ends:
    """A metric on the two unpatched runs, and the denominator they leave: None where one of them has no value."""

    clean: Reading
    corrupted: Reading
    denominator: Denominator | None

    @classmethod
    def of(cls, clean: Reading, corrupted: Reading, resolution: float = 0.0, wrong: Reading | None = None) -> Ends:
        """Return the ends; `wrong` is the clean run's score of the wrong answer."""
        if clean.value is None or corrupted.value is None:
            return cls(clean, corrupted, None)
        score = None if wrong is None else wrong.value
        return cls(clean, corrupted, Denominator(clean.value, corrupted.value, resolution, score))

    @property
    def baseline(self) -> Reading:
        """The metric on the corrupted run, or the state that says why no recovery can be computed from it."""
        for reading in (self.corrupted, self.clean):
            if not reading.finite:
                return reading
        exists = self.recovery(self.corrupted)
        return self.corrupted if exists.finite else Reading.absent(exists.state)

    def recovery(self, patched: Reading) -> Reading:
        """Return the recovery (percent) of a patched run, or the state in its place."""
        if self.ill_conditioned:
            return Reading.absent(State.ILL_CONDITIONED)
        return recovery(self.clean, self.corrupted, patched)

    def share(self, effect: Reading) -> Reading:
        """Return the recovery (percent) of an absolute effect, m(patched) - m(corrupted), or the state in its place."""
        if self.ill_conditioned:
            return Reading.absent(State.ILL_CONDITIONED)
        return _share(self.clean, self.corrupted, effect)

    def said(self, reported: Reading) -> Reading:
        """Return what an engine reports, and no number where the denominator is rounding."""
        return Reading.absent(State.ILL_CONDITIONED) if reported.finite and self.ill_conditioned else reported

    @property
    def ill_conditioned(self) -> bool:
        return self.denominator is not None and self.denominator.state is State.ILL_CONDITIONED
