"""Snapshots: stored numbers that notice change. They never decide what is right; oracles, laws and closed forms do.

places       where they live, where candidates wait, and when nobody may write
document     a job's result -> what is stored: readings with states, tolerance, provenance, verdict
file         its file: JSON that is written in one way, or unreadable for one named reason
comparison   stored and new -> the differences beyond the tolerance
candidates   numbers waiting in the results folder for a review
steps        what the comparison of a job or of a part of it finds, on a backend with a snapshot and on one without
inventory    which snapshots are there, missing, stale, or nobody's
extension    the syrupy extension that stores one JSON file for each case x model x engine and backend
"""

from harness.snapshots.comparison import Difference, differences
from harness.snapshots.document import Quantity, Snapshot, SnapshotTolerance, WidenedTolerance, snapshot_of
from harness.snapshots.places import SnapshotPlace, folder_of, location_of, refuse_in_ci, refuse_mixing
from harness.snapshots.steps import compare, compare_part

__all__ = [
    "Difference",
    "Quantity",
    "Snapshot",
    "SnapshotPlace",
    "SnapshotTolerance",
    "WidenedTolerance",
    "compare",
    "compare_part",
    "differences",
    "folder_of",
    "location_of",
    "refuse_in_ci",
    "refuse_mixing",
    "snapshot_of",
]
