"""Snapshots: stored numbers that notice change. They never decide what is right; oracles, laws and closed forms do.

document     a job's result -> what is stored: readings with states, tolerance, provenance
comparison   stored and new -> the differences beyond the tolerance
steps        what a job's comparison finds, on a backend with a snapshot and on one without
extension    the syrupy extension that stores one JSON file for each case x model x engine and backend
"""

from harness.snapshots.comparison import Difference, differences
from harness.snapshots.document import Document, document
from harness.snapshots.extension import JobSnapshot, folder_of, location_of, refuse_non_finite
from harness.snapshots.steps import Place, compare

__all__ = [
    "Difference",
    "Document",
    "JobSnapshot",
    "Place",
    "compare",
    "differences",
    "document",
    "folder_of",
    "location_of",
    "refuse_non_finite",
]
