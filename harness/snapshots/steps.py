"""What a snapshot comparison finds, and what happens on a backend that has no snapshot yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.snapshots.candidates import leave, withdraw
from harness.snapshots.comparison import differences, origins
from harness.snapshots.document import Document, refuse_non_finite
from harness.snapshots.extension import JobSnapshot
from harness.snapshots.places import REFERENCE_BACKEND, SnapshotPlace
from harness.vocabulary import Finding
from harness.vocabulary.errors import SnapshotRefused

_SHOWN = 5


def compare(
    place: SnapshotPlace, new: Document, wide: Mapping[str, float], results: Path, syrupy: Any, updating: bool
) -> list[Finding]:
    """Compare a document with its snapshot, or store it when updating, through syrupy's fixture.

    A backend without a snapshot is compared with the reference backend within the tolerance `wide`. There, and where
    the comparison fails, the document is left as a candidate below `results`: new numbers are reviewed before they
    are believed.
    """
    try:
        refuse_non_finite(new)
    except SnapshotRefused as error:
        return [Finding("SNP004", str(error))]
    if not updating and not place.location.exists():
        return _elsewhere(place, new, wide, results)
    JobSnapshot.backend = place.backend
    stored = syrupy(extension_class=JobSnapshot)
    if stored == new:
        withdraw(place, results)
        return []
    obstacle = stored.executions[stored.num_executions - 1].exception
    if updating and isinstance(obstacle, OSError):
        return [Finding("SNP005", f"{place.location}: {obstacle}")]
    return [_difference(place.location, new, candidate=leave(place, new, results))]


def _elsewhere(place: SnapshotPlace, new: Document, wide: Mapping[str, float], results: Path) -> list[Finding]:
    reference = place.on(REFERENCE_BACKEND).location
    if place.location == reference or not reference.exists():
        return [Finding("SNP002", f"{place.location} does not exist")]
    candidate = leave(place, new, results)
    note = Finding("SNP003", f"compared with {reference.name}; candidate: {candidate}")
    found = _difference(reference, new, wide, candidate)
    return [note, found] if found.evidence.get("differences") else [note]


def _difference(
    location: Path, new: Document, tolerance: Mapping[str, float] | None = None, candidate: str = ""
) -> Finding:
    try:
        old = json.loads(location.read_text(encoding="utf-8"))
        moved, origin = differences(old, new, tolerance), origins(old, new)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{location} cannot be read as a snapshot ({type(error).__name__}: {error}); restore or remove it"
        return Finding("SNP001", why, evidence={"differences": [why]})
    shown = [*map(str, moved[:_SHOWN]), *([f"and {len(moved) - _SHOWN} more"] if len(moved) > _SHOWN else [])]
    shown += [f"stored with {origin}"] if origin else []
    shown += [f"candidate: {candidate}"]
    evidence = {"differences": [str(each) for each in moved]}
    return Finding("SNP001", f"{location}: {'; '.join(shown)}", evidence=evidence)
