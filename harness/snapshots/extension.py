"""How syrupy stores a job: `snapshots/<case>/<engine>@<model>.<backend>.json`.

Stock settings delete snapshots that a narrowed run did not use. This extension offers syrupy nothing to delete:
removing a snapshot is a decision, not a side effect of running.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from syrupy.data import SnapshotCollection, SnapshotCollections
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from syrupy.location import PyTestLocation

from harness.snapshots.comparison import differences
from harness.snapshots.document import dumps, refuse_non_finite
from harness.snapshots.places import location_of
from harness.support.files import write_text


class JobSnapshot(SingleFileSnapshotExtension):
    """Stores a `Document`; compares within its tolerance; writes in one step; never deletes."""

    file_extension = "json"
    _write_mode = WriteMode.TEXT
    backend = "cpu"
    """Set by the worker that knows its device."""

    def serialize(self, data: Any, **_: Any) -> str:
        refuse_non_finite(data)
        return dumps(data)

    def matches(self, *, serialized_data: Any, snapshot_data: Any) -> bool:
        return not differences(json.loads(snapshot_data), json.loads(serialized_data))

    @classmethod
    def get_location(cls, *, test_location: PyTestLocation, index: Any) -> str:
        job = test_location.item.name.partition("[")[2].removesuffix("]")
        return str(location_of(Path(test_location.filepath), job, cls.backend))

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:
        return os.path.dirname(cls.get_location(test_location=test_location, index=0))

    @classmethod
    def discovery_dirname(cls, *, test_location: PyTestLocation) -> str:
        return cls.dirname(test_location=test_location)

    @classmethod
    def matches_test_location(cls, *, test_location: PyTestLocation, snapshot_location: str) -> bool:
        return snapshot_location == cls.get_location(test_location=test_location, index=0)

    def discover_snapshots(self, **_: Any) -> SnapshotCollections:
        return SnapshotCollections()

    def delete_snapshots(self, **_: Any) -> None:
        return

    @classmethod
    def write_snapshot_collection(cls, *, snapshot_collection: SnapshotCollection, **_: Any) -> None:
        (snapshot,) = snapshot_collection
        write_text(Path(snapshot_collection.location), str(snapshot.data))
