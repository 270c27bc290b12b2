"""Which snapshots are there, missing or stale, and which belong to nobody: read from files, without running a model."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.snapshots.document import Snapshot, SnapshotTolerance
from harness.snapshots.file import read
from harness.snapshots.places import CASE_SUFFIX, SnapshotPlace, folder_of
from harness.vocabulary.errors import SnapshotUnreadable

_WRITING_S = 3600.0
"""A file that is still being written is younger than this; an older one was left by a process that was killed."""


class Standing(StrEnum):
    """How a job and its snapshot on one backend stand to each other."""

    STORED = "stored"
    MISSING = "missing"
    STALE = "stale"
    ELSEWHERE = "elsewhere"
    NONE = "none"


@dataclass(frozen=True)
class Expected:
    """What a case says its snapshot on a backend must hold, as far as that is known without running it."""

    place: SnapshotPlace
    tolerance: SnapshotTolerance
    curves: frozenset[tuple[str, str]]
    declared: bool = True
    """Whether the engine has said which of these curves it answers."""


def standing(expected: Expected) -> tuple[Standing, str]:
    """Return how the stored file stands to its case, and why; a fresh run may find it different all the same."""
    nearest = expected.place.nearest()
    if nearest is None:
        return Standing.MISSING, ""
    if nearest != expected.place:
        return Standing.ELSEWHERE, f"compared with {nearest.location.name}"
    try:
        why = _staleness(read(nearest.location), expected)
    except SnapshotUnreadable as error:
        why = f"cannot be read: {error.reason}"
    return (Standing.STALE, why) if why else (Standing.STORED, "")


def _staleness(stored: Snapshot, expected: Expected) -> str:
    curves = {curve.key for curve in stored.curves}
    reasons = {
        f"it holds {stored.holds}": stored.holds != expected.place.holds,
        "the case has another tolerance": stored.tolerance != expected.tolerance,
        f"the case has no {_listed(curves - expected.curves)}": curves - expected.curves,
        f"it has no {_listed(expected.curves - curves)}": expected.declared and expected.curves - curves,
    }
    return "; ".join(reason for reason, holds in reasons.items() if holds)


def _listed(curves: Iterable[tuple[str, str]]) -> str:
    return ", ".join(" ".join(curve) for curve in sorted(curves))


def owners(folder: Path) -> list[Path]:
    """Return every case file whose snapshots live in a folder, whichever of them a command is about."""
    near = folder.parent
    files = sorted([*near.glob(f"*{CASE_SUFFIX}"), *near.glob(f"cases/*{CASE_SUFFIX}")])
    return [file for file in files if folder_of(file) == folder]


def orphans(folder: Path, places: Iterable[SnapshotPlace]) -> list[Path]:
    """Return the snapshots in a folder that no job is compared with, and what killed writers left there.

    `places` are those of all jobs of all `owners`, on any backend. Only files that name and content show to be
    snapshots count, and the temporary files of their writers; what a linked folder holds elsewhere is left alone.
    """
    inside = folder.parent.resolve()
    stems = {place.location.with_name(place.location.name.removesuffix(f".{place.backend}.json")) for place in places}
    files = sorted(file for file in folder.glob("*/*") if file.is_file() and not file.is_symlink())
    files = [file for file in files if inside in file.resolve().parents]
    return [file for file in files if _left_over(file) or (_is_snapshot(file) and _stem(file) not in stems)]


def model_of(file: Path) -> str | None:
    """Return the model that a stored snapshot names: itself, or by its file where it is of another version. None for
    what a writer left."""
    if file.name.startswith("."):
        return None
    try:
        return read(file).model
    except SnapshotUnreadable:
        return _stem(file).name.partition("@")[2]


def _stem(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(".json").rpartition(".")[0])


def _is_snapshot(file: Path) -> bool:
    engine, at, rest = file.name.partition("@")
    if file.suffix != ".json" or not (engine and at and rest.count(".") >= 2) or engine.startswith("."):
        return False
    try:
        read(file)
    except SnapshotUnreadable as error:
        return error.schema is not None
    return True


def _left_over(file: Path) -> bool:
    name, _, random = file.name.rpartition(".")
    ours = name.startswith(".") and "@" in name and name.endswith(".json") and len(random) == 8
    return ours and time.time() - file.stat().st_mtime > _WRITING_S
