"""What a law says is the same, whoever made it: rows of logits, or recoveries in percent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from harness.metrics.tolerances import Work, equal, equal_readings, same_bits
from harness.vocabulary import Reading


@dataclass(frozen=True)
class Compared:
    """Two mappings of place -> row of logits `[vocab]`, or place -> recovery, which a law says are the same.

    A place that one side lacks is a difference. `told` puts the places that differ into words. `work` says how the work
    behind the two sides differs, `dtype` what the model computes in, and `least` how many points count as rounding in
    any case.
    """

    wanted: Mapping[Any, Any]
    got: Mapping[Any, Any]
    told: Callable[[list[Any]], str]
    work: Work = Work.SAME
    dtype: str = "float32"
    least: float = 0.0

    def breach(self, bit_for_bit: bool = False) -> str | None:
        """Return what differs by more than this work may, or in any bit of a row of logits, in words; or None."""
        places = {**self.wanted, **self.got}
        apart = [at for at in places if not self._same(self.wanted.get(at), self.got.get(at), bit_for_bit)]
        return self.told(apart) if apart else None

    def _same(self, a: Any, b: Any, bit_for_bit: bool) -> bool:
        if isinstance(a, mx.array) and isinstance(b, mx.array):
            return same_bits(a, b) if bit_for_bit else equal(a, b, self.work)
        if isinstance(a, Reading) and isinstance(b, Reading):
            return equal_readings(a, b, self.work, self.dtype, self.least)
        return False
