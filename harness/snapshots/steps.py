"""What a snapshot comparison finds, and what happens on a backend that has no snapshot yet."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from harness.snapshots.candidates import leave, withdraw
from harness.snapshots.comparison import Difference, differences, origins
from harness.snapshots.document import Snapshot, SnapshotTolerance
from harness.snapshots.file import dumps, read
from harness.snapshots.places import SnapshotPlace
from harness.vocabulary import Finding
from harness.vocabulary.errors import SnapshotRefused, SnapshotUnreadable
from harness.vocabulary.paths import near

_SHOWN, _ROWS = 2, 10
"""Differences in the line of the finding, and in the table below it."""


def compare(
    place: SnapshotPlace, new: Snapshot, wide: SnapshotTolerance, results: Path, syrupy: Any, updating: bool
) -> list[Finding]:
    """Compare numbers with their snapshot, or store them when updating, through syrupy's fixture.

    A backend without a snapshot is compared with the nearest one that has one, within the tolerance `wide`. There, and
    where the comparison fails, the numbers are left as a candidate below `results`: new numbers are reviewed before
    they are believed.
    """
    try:
        dumps(new)  # syrupy keeps to itself what its serializer raises
    except SnapshotRefused as error:
        return [Finding("SNP004", str(error))]
    if not updating and not place.location.exists():
        return _elsewhere(place, new, wide, results)
    from harness.snapshots.extension import JobSnapshot  # imports pytest, which a look at stored numbers does not need

    stored = syrupy(extension_class=partial(JobSnapshot, place.location))
    if stored == new:
        withdraw(place, results)
        return []
    obstacle = stored.executions[stored.num_executions - 1].exception
    if updating and isinstance(obstacle, OSError):
        return [Finding("SNP005", f"{near(place.location)}: {obstacle}")]
    return [_difference(place.location, new, candidate=leave(place, new, results, wide))]


def _elsewhere(place: SnapshotPlace, new: Snapshot, wide: SnapshotTolerance, results: Path) -> list[Finding]:
    nearest = place.nearest()
    if nearest is None:
        return [Finding("SNP002", f"{near(place.location)} does not exist")]
    candidate = leave(place, new, results, wide)
    note = Finding("SNP003", f"compared with {nearest.location.name}; candidate: {candidate}")
    found = _difference(nearest.location, new, wide, candidate)
    return [note, found] if found.evidence.get("differences") else [note]


def _difference(
    location: Path, new: Snapshot, tolerance: SnapshotTolerance | None = None, candidate: str = ""
) -> Finding:
    try:
        old = read(location)
    except SnapshotUnreadable as error:
        why = f"{error}; restore or remove it"
        return Finding("SNP001", why, evidence={"differences": [why]})
    origin = origins(old, new)
    told = [f"stored with {origin}"] if origin else []
    return _finding(location, differences(old, new, tolerance), *told, f"candidate: {candidate}")


def _finding(location: Path, moved: list[Difference], *told: str) -> Finding:
    moved = sorted(moved, key=lambda each: -each.share)
    shown = [*map(str, moved[:_SHOWN]), *([f"and {len(moved) - _SHOWN} more"] if len(moved) > _SHOWN else [])]
    evidence = {"differences": [str(each) for each in moved], "moves": [each.row for each in moved[:_ROWS]]}
    return Finding("SNP001", f"{near(location)}: {'; '.join((*shown, *told))}", evidence=evidence)


def compare_part(place: SnapshotPlace, new: Snapshot, wide: SnapshotTolerance) -> list[Finding]:
    """Compare some of a job's metrics and components with the stored numbers of the same; write nothing.

    Where the backend has no snapshot, the nearest backend's is compared within the tolerance `wide`.
    """
    nearest = place.nearest()
    if nearest is None:
        return [Finding("SNP002", f"{near(place.location)} does not exist")]
    try:
        old = read(nearest.location).part({curve.key for curve in new.curves})
    except SnapshotUnreadable as error:
        return [Finding("SNP001", str(error))]
    moved = differences(old, new, None if nearest == place else wide)
    return [_finding(nearest.location, moved)] if moved else []
