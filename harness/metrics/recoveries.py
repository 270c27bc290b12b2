"""Recovery: how far a patched run comes back from the corrupted value of a metric to the clean one, in percent."""

from __future__ import annotations

from fractions import Fraction

from harness.vocabulary import Reading, State


def recovery(clean: Reading, corrupted: Reading, patched: Reading) -> Reading:
    """Return 100 x (m(patched) - m(corrupted)) / (m(clean) - m(corrupted)), in percent, or the state that replaces it.

    A baseline without a value leaves the recovery undefined; equal baselines are a zero baseline; a patched run
    without a value gives the recovery its state. The quotient is exact and rounded once, so that readings near 1e300
    or 1e-300 cost no digits; a quotient beyond float64 is inf.
    """
    if clean.value is None or corrupted.value is None:
        return Reading.absent(State.UNDEFINED)
    start = Fraction(corrupted.value)
    gap = Fraction(clean.value) - start
    if gap == 0:
        return Reading.absent(State.ZERO_BASELINE)
    if patched.value is None:
        return Reading.absent(patched.state)
    try:
        return Reading.of(float(100 * (Fraction(patched.value) - start) / gap))
    except OverflowError:
        return Reading.absent(State.INF)
