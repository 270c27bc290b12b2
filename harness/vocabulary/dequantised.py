"""Whether a sweep of a quantised model ran on a float32 copy of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.vocabulary.memory import size_text

NEVER, AUTO = DEQUANTISE = ("never", "auto")
"""What may be asked: the quantised weights in any case, or their float32 copy where it pays."""


@dataclass(frozen=True)
class Dequantised:
    """What became of the float32 copy of a quantised model, where a sweep was to run on one if it pays.

    `bytes` is what the copy takes, or would take. `difference` is the largest difference between the copy's unpatched
    logits and the quantised model's, of both prompts, as a share of the largest logit; None where the two were not
    compared or are not finite. `refused` says why the sweep ran on the quantised weights; empty where it did not.
    """

    bytes: int
    difference: float | None = None
    refused: str = ""

    @classmethod
    def of_all(cls, pairs: Sequence[Dequantised]) -> Dequantised | None:
        """Return what to say of the sweeps of several pairs of prompts: one that was refused, else the farthest off."""
        refused = next((each for each in pairs if each.refused), None)
        return refused or max(pairs, key=lambda each: each.difference or 0.0, default=None)

    @property
    def used(self) -> bool:
        """Whether the sweep, and what was checked of it, ran on the copy."""
        return not self.refused

    def __str__(self) -> str:
        if self.refused:
            return f"not dequantised: {self.refused}"
        return (
            f"on a float32 copy of the weights ({size_text(self.bytes)}; unpatched logits "
            f"{self.difference or 0.0:.1e} of the largest from the quantised ones)"
        )
