"""The file of a snapshot: JSON in a stable order, one reading a line.

Whatever is not a snapshot of this version is `SnapshotUnreadable`, and a number that is not finite is never written:
`SnapshotRefused`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.snapshots.document import SNAPSHOT_SCHEMA, Snapshot
from harness.support.inputs import UnreadableInput, read_input
from harness.vocabulary import State
from harness.vocabulary.errors import SnapshotRefused, SnapshotUnreadable


def read(file: Path) -> Snapshot:
    """Return the snapshot in a file. Raises SnapshotUnreadable for whatever is none of this version."""
    try:
        text = read_input(file)
    except UnreadableInput as error:
        raise SnapshotUnreadable(file, error.reason) from error
    return loads(text, file)


def loads(text: str | bytes, file: Path) -> Snapshot:
    """Return the snapshot in a text, which is that of a file. Raises SnapshotUnreadable as `read` does."""
    schema = None
    try:
        schema = _NAMED.validate_json(text).schema
        if schema == SNAPSHOT_SCHEMA:
            snapshot = _SNAPSHOT.validate_json(text)
            _refuse_non_finite(snapshot)
            return snapshot
    except (ValidationError, SnapshotRefused) as error:
        raise SnapshotUnreadable(file, _reason(error), _ours(schema)) from error
    raise SnapshotUnreadable(file, f"its schema is {schema}; this version reads {SNAPSHOT_SCHEMA}", _ours(schema))


def _ours(schema: str | None) -> str | None:
    family = SNAPSHOT_SCHEMA.rpartition("/")[0] + "/"
    return schema if schema and schema.startswith(family) else None


@dataclass(frozen=True)
class _Named:
    schema: str


_NAMED, _SNAPSHOT = TypeAdapter(_Named), TypeAdapter(Snapshot)


def _reason(error: ValidationError | SnapshotRefused) -> str:
    if isinstance(error, SnapshotRefused):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def dumps(snapshot: Snapshot) -> str:
    """Return the text of a snapshot's file, one reading a line. Raises SnapshotRefused if a number is not finite."""
    _refuse_non_finite(snapshot)
    try:
        return _text(snapshot.plain(), "") + "\n"
    except ValueError as error:
        raise SnapshotRefused(f"the snapshot holds a number that is not finite: {error}") from error


def _refuse_non_finite(snapshot: Snapshot) -> None:
    for quantity, (reading, _) in snapshot.numbers().items():
        if reading.state in (State.INF, State.NAN):
            raise SnapshotRefused(f"{quantity} is {reading.state}")


_WIDTH = 118


def _text(value: Any, indent: str) -> str:
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or len(indent) + len(line) <= _WIDTH:
        return line
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_text(entry, inner)}" for key, entry in value.items()]
        opening, closing = "{}"
    else:
        parts = [_text(entry, inner) for entry in value]
        opening, closing = "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{closing}"
