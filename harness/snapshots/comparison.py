"""Comparing a new snapshot with a stored one, within a tolerance that NaN never meets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.snapshots.document import Quantity, Snapshot, SnapshotTolerance
from harness.vocabulary import Reading, State


@dataclass(frozen=True)
class Difference:
    """One value that moved further than its tolerance, or appeared, vanished or changed its state.

    `where` is a number of the snapshot or the name of another entry of its file.
    """

    where: Quantity | str
    old: Any
    new: Any
    share: float = field(default=math.inf, compare=False)
    """How much of its tolerance it moved by; what is no number moved further than any."""

    @property
    def change(self) -> str:
        """How far it moved: a recovery in points, a baseline in percent of itself, a count of pairs; nothing for what
        is no number."""
        if not (isinstance(self.old, float) and isinstance(self.new, float)):
            return ""
        moved = self.new - self.old
        if isinstance(self.where, Quantity) and self.where.is_count:
            return f"{moved:+g}"
        if not (isinstance(self.where, Quantity) and self.where.is_baseline):
            return f"{moved:+.3g} points"
        return f"{100 * moved / abs(self.old):+.3g} %" if self.old else f"{moved:+.3g}"

    @property
    def row(self) -> list[str]:
        """Where, what is stored, what it is now, and how far that is."""
        shown = [f"{each:.7g}" if self.change else str(each) for each in (self.old, self.new)]
        return [str(self.where), *shown, self.change]

    def __str__(self) -> str:
        where, old, new, change = self.row
        return f"{where}: {old} -> {new}" + (f" ({change})" if change else "")


def differences(old: Snapshot, new: Snapshot, tolerance: SnapshotTolerance | None = None) -> list[Difference]:
    """Return every difference beyond the tolerance.

    Without a tolerance given, the new snapshot's own is used and must equal the stored one: loosening it is a change.
    Provenance is not compared. Rounding to the stored digits is allowed for.
    """
    was, now = old.plain(), new.plain()
    found = [
        Difference(entry, was[entry], now[entry])
        for entry in ("case", "model", "engine", "tokens", *(() if tolerance else ("tolerance",)))
        if was[entry] != now[entry]
    ]
    return found + list(_moved(old.numbers(), new.numbers(), tolerance or new.tolerance))


def origins(old: Snapshot, new: Snapshot) -> str:
    """Return what the provenance of two snapshots disagrees on, as `mlx 0.32.3, now 0.32.4; device ...`."""
    was, now = old.provenance, new.provenance
    return "; ".join(f"{key} {was.get(key)}, now {value}" for key, value in now.items() if was.get(key) != value)


_Numbers = dict[Quantity, tuple[Reading, str]]


def _moved(old: _Numbers, new: _Numbers, limits: SnapshotTolerance) -> Iterator[Difference]:
    for where in [*old, *(each for each in new if each not in old)]:
        was, now = old.get(where), new.get(where)
        if was is None or now is None or not _equal(where, was, now, limits):
            yield Difference(where, _shown(was), _shown(now), _share(where, was, now, limits))


def _share(
    where: Quantity, old: tuple[Reading, str] | None, new: tuple[Reading, str] | None, limits: SnapshotTolerance
) -> float:
    was, now = (None if each is None else each[0].value for each in (old, new))
    limit = limits.of(where) * (max(abs(was or 0.0), abs(now or 0.0)) if where.is_baseline else 1.0)
    return math.inf if was is None or now is None or not limit else abs(was - now) / limit


def _equal(where: Quantity, old: tuple[Reading, str], new: tuple[Reading, str], limits: SnapshotTolerance) -> bool:
    (was, old_unit), (now, new_unit) = old, new
    if old_unit != new_unit:
        return False
    if was.value is None or now.value is None:
        return was.state == now.state and was.state not in (State.INF, State.NAN)
    away = abs(was.value - now.value)
    if where.is_baseline:
        return away <= (limits.of(where) + 1e-6) * max(abs(was.value), abs(now.value))
    return away <= limits.of(where) + 1e-4


def _shown(number: tuple[Reading, str] | None) -> Any:
    if number is None:
        return "absent"
    reading, _ = number
    return reading.state.value if reading.value is None else reading.value
