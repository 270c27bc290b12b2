"""Whole numbers in few words."""

from __future__ import annotations

from collections.abc import Sequence


def ranges(numbers: Sequence[int], to: str = "-") -> str:
    """Return `0-11` or `0-3, 5` for numbers in any order."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}{to}{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
