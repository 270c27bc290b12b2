"""Which snapshots are there, missing or stale, and which belong to nobody: read from files, without running a model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.snapshots.document import SNAPSHOT_SCHEMA
from harness.snapshots.places import CASE_SUFFIX, REFERENCE_BACKEND, SnapshotPlace, folder_of

SCHEMA_FAMILY = SNAPSHOT_SCHEMA.rpartition("/")[0] + "/"
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
    tolerance: Mapping[str, float]
    curves: frozenset[tuple[str, str]]


def standing(expected: Expected) -> tuple[Standing, str]:
    """Return how the stored file stands to its case, and why; a fresh run may find it different all the same."""
    if not expected.place.location.exists():
        other = expected.place.on(REFERENCE_BACKEND).location
        return (Standing.ELSEWHERE, f"compared with {other.name}") if other.exists() else (Standing.MISSING, "")
    try:
        why = _staleness(json.loads(expected.place.location.read_text(encoding="utf-8")), expected)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"cannot be read: {type(error).__name__}: {error}"
    return (Standing.STALE, why) if why else (Standing.STORED, "")


def _staleness(stored: Any, expected: Expected) -> str:
    place = expected.place
    named = f"{stored['case']} {stored['engine']}@{stored['model']}"
    curves = {(curve["component"], curve["metric"]) for curve in stored["curves"]}
    reasons = {
        f"its schema is {stored['schema']}": stored["schema"] != SNAPSHOT_SCHEMA,
        f"it holds {named}": named != f"{place.case} {place.job}",
        "the case has another tolerance": stored["tolerance"] != expected.tolerance,
        f"the case has no {_listed(curves - expected.curves)}": curves - expected.curves,
        f"it has no {_listed(expected.curves - curves)}": expected.curves - curves,
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
    snapshots count, and the temporary files of their writers.
    """
    stems = {place.location.with_name(place.location.name.removesuffix(f".{place.backend}.json")) for place in places}
    files = sorted(file for file in folder.glob("*/*") if file.is_file() and not file.is_symlink())
    return [file for file in files if _left_over(file) or (_is_snapshot(file) and _stem(file) not in stems)]


def _stem(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(".json").rpartition(".")[0])


def _is_snapshot(file: Path) -> bool:
    engine, at, rest = file.name.partition("@")
    if file.suffix != ".json" or not (engine and at and rest.count(".") >= 2) or engine.startswith("."):
        return False
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["schema"]).startswith(SCHEMA_FAMILY)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _left_over(file: Path) -> bool:
    name, _, random = file.name.rpartition(".")
    ours = name.startswith(".") and "@" in name and name.endswith(".json") and len(random) == 8
    return ours and time.time() - file.stat().st_mtime > _WRITING_S
