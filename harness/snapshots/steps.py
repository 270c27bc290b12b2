"""What a snapshot comparison finds, and what happens on a backend that has no snapshot yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from harness.files import write_text
from harness.snapshots.comparison import Difference, differences
from harness.snapshots.document import Document
from harness.snapshots.extension import location_of
from harness.vocabulary import Finding

REFERENCE_BACKEND = "cpu"
_SHOWN = 5


def missing(case_file: Path, job: str, backend: str) -> bool:
    """Return whether a job has no snapshot on a backend."""
    return not location_of(case_file, job, backend).exists()


def difference_finding(case_file: Path, job: str, backend: str, new: Document) -> Finding:
    """Describe how a job differs from its snapshot."""
    location = location_of(case_file, job, backend)
    try:
        return _differs(location, differences(_stored(location), new))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Finding("SNP001", f"{location} cannot be read as a snapshot ({type(error).__name__}: {error})")


def against_other_backend(
    case_file: Path, job: str, backend: str, new: Document, tolerance: Mapping[str, float], results: Path
) -> list[Finding]:
    """Compare with the reference backend within a wider tolerance, and leave a candidate in the results folder."""
    location = location_of(case_file, job, backend)
    if backend == REFERENCE_BACKEND or missing(case_file, job, REFERENCE_BACKEND):
        return [Finding("SNP002", f"{location} does not exist")]
    candidate = results / "snapshots" / location.parent.name / location.name
    write_text(candidate, json.dumps(new, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    warning = Finding("SNP003", f"compared with {REFERENCE_BACKEND}; candidate for {backend}: {candidate}")
    reference = location_of(case_file, job, REFERENCE_BACKEND)
    moved = differences(_stored(reference), new, tolerance)
    return [warning, *([_differs(reference, moved)] if moved else [])]


def _stored(location: Path) -> Document:
    document: Document = json.loads(location.read_text(encoding="utf-8"))
    return document


def _differs(location: Path, moved: list[Difference]) -> Finding:
    shown = "; ".join(map(str, moved[:_SHOWN])) + (f"; and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else "")
    return Finding("SNP001", f"{location}: {shown}", evidence={"differences": [str(each) for each in moved]})
