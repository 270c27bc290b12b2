"""Candidates: numbers that a run found and did not store, waiting in the results folder for somebody to look at them.

A comparison that fails, and a backend that has no snapshot yet, leave one. Accepting it is the only way from here into
`snapshots/`; rejecting it removes it. A later run that agrees with the snapshot removes it too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.snapshots import file as snapshot_file
from harness.snapshots.document import Snapshot, SnapshotTolerance
from harness.snapshots.file import dumps
from harness.snapshots.places import SnapshotPlace, home_of, refuse_in_ci
from harness.support.files import is_below, make_results_folder, write_text
from harness.vocabulary.errors import SnapshotUnreadable, UsageError


def leave(place: SnapshotPlace, new: Snapshot, results: Path, wide: SnapshotTolerance) -> str:
    """Write the candidate and return its path, or why there is none: a finding must not become a crash.

    It keeps what `wide` allows single numbers between two backends: whoever looks at it has no run to tell from.
    """
    candidate = place.candidate(results)
    try:
        make_results_folder(results)
        write_text(candidate, dumps(replace(new, widened=wide.beyond() or None)), within=results)
    except OSError as error:
        return f"none, {candidate} cannot be written ({error})"
    return str(candidate)


def withdraw(place: SnapshotPlace, results: Path) -> None:
    """Remove the candidate, if there is one: it was rejected, or its question is settled."""
    try:
        candidate = place.candidate(results)
        if is_below(candidate.parent, results):
            candidate.unlink(missing_ok=True)
    except OSError:
        return  # nor can a candidate be there


def read(place: SnapshotPlace, results: Path) -> Snapshot:
    """Return a candidate. Raises UsageError when the file is not one of this job's."""
    file = place.candidate(results)
    try:
        new = snapshot_file.read(file)
    except SnapshotUnreadable as error:
        raise UsageError(f"{error}; remove it") from error
    said, right = f"{new.holds} {new.backend}", f"{place.holds} {place.backend}"
    if said != right:
        raise UsageError(f"{file} is not a candidate of this job: it says {said}, expected {right}; remove it")
    return new


def accept(place: SnapshotPlace, results: Path) -> Path:
    """Make a candidate the snapshot, in one step, and return where. Raises UsageError under CI, OSError."""
    refuse_in_ci()
    new = replace(read(place, results), widened=None)
    write_text(place.location, dumps(new), within=home_of(place.location))
    withdraw(place, results)
    return place.location
