"""What a snapshot comparison finds, and what happens on a backend that has no snapshot yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import SnapshotRefused
from harness.files import write_text
from harness.snapshots.comparison import differences
from harness.snapshots.document import Document, dumps
from harness.snapshots.extension import JobSnapshot, location_of, refuse_non_finite
from harness.vocabulary import Finding

REFERENCE_BACKEND = "cpu"
_SHOWN = 5


@dataclass(frozen=True)
class Place:
    """A job as snapshots know it: its case file, its `engine@model`, and the backend it ran on."""

    case_file: Path
    job: str
    backend: str

    @property
    def location(self) -> Path:
        return location_of(self.case_file, self.job, self.backend)

    def on(self, backend: str) -> Place:
        return replace(self, backend=backend)


def compare(
    place: Place, new: Document, wide: Mapping[str, float], results: Path, syrupy: Any, updating: bool
) -> list[Finding]:
    """Compare a document with its snapshot, or store it when updating, through syrupy's fixture.

    A backend without a snapshot is compared with the reference backend within the tolerance `wide`, and its document is
    left as a candidate below `results`: what a new machine computes is reviewed before it is believed.
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
        return []
    obstacle = stored.executions[stored.num_executions - 1].exception
    if updating and isinstance(obstacle, OSError):
        return [Finding("SNP001", f"{place.location} cannot be stored: {obstacle}")]
    return [_difference(place.location, new)]


def _elsewhere(place: Place, new: Document, wide: Mapping[str, float], results: Path) -> list[Finding]:
    reference = place.on(REFERENCE_BACKEND).location
    if place.location == reference or not reference.exists():
        return [Finding("SNP002", f"{place.location} does not exist")]
    candidate = _left_as_candidate(place, new, results)
    warning = Finding("SNP003", f"compared with {reference.name}; candidate: {candidate}")
    found = _difference(reference, new, wide)
    return [warning, found] if found.evidence.get("differences") else [warning]


def _left_as_candidate(place: Place, new: Document, results: Path) -> str:
    """Write the candidate and return its path, or why there is none: a warning must not become a crash."""
    candidate = results / "snapshots" / place.location.parent.name / place.location.name
    try:
        write_text(candidate, dumps(new))
    except OSError as error:
        return f"none, {candidate} cannot be written ({error})"
    return str(candidate)


def _difference(location: Path, new: Document, tolerance: Mapping[str, float] | None = None) -> Finding:
    try:
        moved = differences(json.loads(location.read_text(encoding="utf-8")), new, tolerance)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{location} cannot be read as a snapshot ({type(error).__name__}: {error}); restore or remove it"
        return Finding("SNP001", why, evidence={"differences": [why]})
    shown = "; ".join(map(str, moved[:_SHOWN])) + (f"; and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else "")
    return Finding("SNP001", f"{location}: {shown}", evidence={"differences": [str(each) for each in moved]})
