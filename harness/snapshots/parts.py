"""Comparing a part of a job, some of its metrics or components, with that part of its snapshot; writing nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping

from harness.snapshots.comparison import differences
from harness.snapshots.document import Document
from harness.snapshots.places import REFERENCE_BACKEND, SnapshotPlace
from harness.vocabulary import Finding

_SHOWN = 5


def compare_part(place: SnapshotPlace, new: Document, wide: Mapping[str, float]) -> list[Finding]:
    """Return what differs from the stored numbers of the same metrics and components; the others are left alone.

    Where the backend has no snapshot, the reference backend's is compared within the tolerance `wide`.
    """
    reference = place.on(REFERENCE_BACKEND).location
    location, tolerance = (place.location, None) if place.location.exists() else (reference, wide)
    try:
        moved = differences(_part_of(json.loads(location.read_text(encoding="utf-8")), new), new, tolerance)
    except FileNotFoundError:
        return [Finding("SNP002", f"{place.location} does not exist")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return [Finding("SNP001", f"{location} cannot be read as a snapshot ({type(error).__name__}: {error})")]
    shown = "; ".join(map(str, moved[:_SHOWN])) + (f"; and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else "")
    evidence = {"differences": [str(each) for each in moved]}
    return [Finding("SNP001", f"{location}: {shown}", evidence=evidence)] if moved else []


def _part_of(old: Document, new: Document) -> Document:
    asked = {(curve["component"], curve["metric"]) for curve in new["curves"]}
    return {**old, "curves": [each for each in old["curves"] if (each["component"], each["metric"]) in asked]}
