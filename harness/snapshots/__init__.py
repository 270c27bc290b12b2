"""Snapshots: stored numbers that notice change. They never decide what is right; oracles, laws and closed forms do.

places       where they live, where candidates wait, and when nobody may write
document     a job's result -> what is stored: readings with states, tolerance, provenance, verdict
comparison   stored and new -> the differences beyond the tolerance
candidates   numbers waiting in the results folder for a review
steps        what a job's comparison finds, on a backend with a snapshot and on one without
inventory    which snapshots are there, missing, stale, or nobody's
parts        the same for a part of a job
extension    the syrupy extension that stores one JSON file for each case x model x engine and backend
"""

from harness.snapshots.comparison import Difference, differences
from harness.snapshots.document import Document, document, refuse_non_finite
from harness.snapshots.extension import JobSnapshot
from harness.snapshots.parts import compare_part
from harness.snapshots.places import SnapshotPlace, folder_of, location_of, refuse_in_ci, refuse_mixing
from harness.snapshots.steps import compare

__all__ = [
    "Difference",
    "Document",
    "JobSnapshot",
    "SnapshotPlace",
    "compare",
    "compare_part",
    "differences",
    "document",
    "folder_of",
    "location_of",
    "refuse_in_ci",
    "refuse_mixing",
    "refuse_non_finite",
]
