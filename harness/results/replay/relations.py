"""What must hold between the numbers of a table, whatever the model: every relation, solved for each of its numbers.

- A distance is not negative, nor is what a patch leaves of it: no recovery of a distance exceeds 100 %. A cosine
  distance is at most 2, that of a patched run too.
- l2² = N x mse for two rows of N logits, so for the baselines.
- What leaves the last block at the last token is all that the logits are made of: resid_post there recovers 100 % when
  denoising and 0 % when noising.
- Divided by the baselines, N falls out: what is left of mse is the square of what is left of l2,
  recovery_l2 = 1 - sqrt(1 - recovery_mse). The order of layers under l2 and mse follows, and needs no check of its own.

logit_diff and log_prob are scores: their recoveries go anywhere. Cosine distance and KL divergence follow from no other
number here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.results.replay.numbers import ANY, Interval, Number, StatedPart
from harness.results.replay.table import RecoveryTable

SCORES = ("logit_diff", "log_prob")
_LARGEST = {"cosine": 2.0}


@dataclass(frozen=True)
class Relation:
    """A law and the numbers it ties together: two of them, and what each leaves to the other."""

    law: str
    pair: tuple[Number, Number]
    first: Callable[[Interval], Interval]
    """From the quantity of the second number to those allowed to the first."""
    second: Callable[[Interval], Interval]

    @property
    def holds(self) -> bool:
        return self.allowed(self.pair[0]).meets(self.pair[0].quantity)

    def allowed(self, number: Number) -> Interval:
        """Return the quantities that the other number leaves to this one."""
        one, other = self.pair
        return self.first(_positive(other)) if number == one else self.second(_positive(one))

    def other(self, number: Number) -> Number:
        return self.pair[1] if number == self.pair[0] else self.pair[0]


def bound(number: Number) -> Interval:
    """Return the quantities that a number may have whatever stands beside it."""
    if number.known is not None:
        return number.known
    if number.metric in SCORES:
        return ANY
    return Interval(0, _LARGEST.get(number.metric, math.inf) if number.part is StatedPart.BASELINE else math.inf)


def sound(number: Number) -> bool:
    """Return whether a number is possible by itself; one that is not says nothing about others."""
    return number.finite and bound(number).meets(number.quantity)


def relations(table: RecoveryTable) -> Iterator[Relation]:
    """Yield every relation between two finite numbers of a table."""
    for relation in _all(table):
        if all(number.finite for number in relation.pair):
            yield relation


def _all(table: RecoveryTable) -> Iterator[Relation]:
    if "l2" in table.columns and "mse" in table.columns:
        l2, mse = table.columns["l2"], table.columns["mse"]
        yield _size(l2.baseline, mse.baseline, table.logits)
        for site in l2.recoveries.keys() & mse.recoveries.keys():
            yield _recoveries(l2.recoveries[site], mse.recoveries[site])
    for metric, largest in _LARGEST.items():
        if column := table.columns.get(metric):
            for recovery in column.recoveries.values():
                yield _largest(column.baseline, recovery, largest)


def _size(l2: Number, mse: Number, logits: int | None) -> Relation:
    fewest, most = (logits, logits) if logits else (1, math.inf)
    law = f"l2² = N x mse with N = {logits:,}" if logits else "l2² = N x mse with N of at least 1"
    return Relation(
        law,
        (l2, mse),
        lambda mse: Interval(_root(fewest, mse.low), _root(most, mse.high) if mse.high else 0.0),
        lambda l2: Interval(squared(l2).low / most, squared(l2).high / fewest),
    )


def _recoveries(l2: Number, mse: Number) -> Relation:
    return Relation(
        "recovery_l2 = 1 - sqrt(1 - recovery_mse)",
        (l2, mse),
        lambda mse: Interval(math.sqrt(mse.low), math.sqrt(mse.high)),
        squared,
    )


def squared(quantity: Interval) -> Interval:
    """Return the squares of quantities; where floats end, what is beyond them stays possible."""
    return Interval(min(quantity.low * quantity.low, sys.float_info.max), quantity.high * quantity.high)


def _root(logits: float, mse: float) -> float:
    """Return the root of the product, also where the product is beyond the floats and its root is not."""
    product = logits * mse
    return math.sqrt(product) if math.isfinite(product) else math.sqrt(logits) * math.sqrt(mse)


def _largest(baseline: Number, recovery: Number, largest: float) -> Relation:
    def rest(other: Interval) -> Interval:
        return Interval(0, largest / other.low if other.low else math.inf)

    law = f"a {baseline.metric} distance is at most {largest:g}, that of a patched run too"
    return Relation(law, (baseline, recovery), rest, rest)


def _positive(number: Number) -> Interval:
    return number.quantity & Interval(0, math.inf)
