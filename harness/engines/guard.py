"""The guard of the published code: both of its formulas turn a baseline and a patched value into percent through it."""

from __future__ import annotations


def guarded_recovery(baseline: float, patched: float) -> float:
    """Return percent, and 0.0 for a baseline that is zero or NaN: the guard that hides an undefined value."""
    return (baseline - patched) / baseline * 100.0 if baseline > 1e-10 else 0.0
