"""How syrupy stores a job: `snapshots/<case>/<engine>@<model>.<backend>.json`.

Stock settings delete snapshots that a narrowed run did not use. This extension offers syrupy nothing to delete:
removing a snapshot is a decision, not a side effect of running.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from syrupy.data import SnapshotCollection, SnapshotCollections
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from harness.snapshots.comparison import differences
from harness.snapshots.document import SNAPSHOT_SCHEMA
from harness.snapshots.file import dumps, loads
from harness.snapshots.places import home_of
from harness.support.files import write_text
from harness.vocabulary.errors import SnapshotUnreadable


class JobSnapshot(SingleFileSnapshotExtension):
    """Stores one `Snapshot` in its file; compares within its tolerance; writes in one step; never deletes.

    Syrupy makes an extension without arguments: hand it `partial(JobSnapshot, file)`.
    """

    file_extension = "json"
    _write_mode = WriteMode.TEXT

    def __init__(self, file: Path):
        self.file = file

    def serialize(self, data: Any, **_: Any) -> str:
        return dumps(data)

    def matches(self, *, serialized_data: Any, snapshot_data: Any) -> bool:
        try:
            stored = loads(snapshot_data, self.file)
        except SnapshotUnreadable as error:
            if error.schema in (None, SNAPSHOT_SCHEMA):
                raise
            return False  # a snapshot of another version, which an update replaces
        return not differences(stored, loads(serialized_data, self.file))

    def get_location(self, **_: Any) -> str:  # type: ignore[override]  # a class method there, always called on an object
        return str(self.file)

    @classmethod
    def matches_test_location(cls, **_: Any) -> bool:
        # The file was handed over with the job, so the test's name has nothing to tell.
        return True

    def discover_snapshots(self, **_: Any) -> SnapshotCollections:
        return SnapshotCollections()

    def delete_snapshots(self, **_: Any) -> None:
        return

    @classmethod
    def write_snapshot_collection(cls, *, snapshot_collection: SnapshotCollection, **_: Any) -> None:
        (snapshot,) = snapshot_collection
        location = Path(snapshot_collection.location)
        write_text(location, str(snapshot.data), within=home_of(location))
