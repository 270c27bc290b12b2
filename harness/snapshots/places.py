"""Where snapshots live, where candidates wait, and when nobody may write."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from harness.vocabulary.backends import BACKENDS
from harness.vocabulary.errors import UsageError

CASE_SUFFIX = ".case.yaml"


def folder_of(case_file: Path) -> Path:
    """Return where the snapshots of a case file live: `../snapshots` from a folder named `cases`, else `snapshots`."""
    folder = case_file.absolute().parent
    return (folder.parent if folder.name == "cases" else folder) / "snapshots"


def location_of(case_file: Path, job: str, backend: str) -> Path:
    """Return the file of a job (`engine@model`) of a case file on a backend."""
    return folder_of(case_file) / case_file.name.removesuffix(CASE_SUFFIX) / f"{_safe(job)}.{backend}.json"


def home_of(location: Path) -> Path:
    """Return the folder that has the `snapshots` with this file in it: nothing is stored outside of it."""
    return location.parents[2]


def _safe(job: str) -> str:
    return job.replace(":", "+")


@dataclass(frozen=True)
class SnapshotPlace:
    """Where one job's numbers are stored on a backend, and which job that is.

    `job` is its name beside the others of the case file: `engine@model`, after the variant if there is one.
    """

    case: str
    case_file: Path
    job: str
    engine: str
    model: str
    backend: str

    @property
    def holds(self) -> str:
        """The job that a snapshot here holds the numbers of, as `Snapshot.holds` says it."""
        return f"{self.case} {self.engine}@{self.model}"

    @property
    def location(self) -> Path:
        return location_of(self.case_file, self.job, self.backend)

    def on(self, backend: str) -> SnapshotPlace:
        return replace(self, backend=backend)

    def nearest(self) -> SnapshotPlace | None:
        """Return the place that new numbers are compared with: this one, else the nearest backend's, else None."""
        known = dict.fromkeys((self.backend, *BACKENDS, *(each.backend for each in self.everywhere())))
        return next((each for each in map(self.on, known) if each.location.exists()), None)

    def candidate(self, results: Path) -> Path:
        """Return where new numbers wait for a review. A case's id is unique in a run, its file's name need not be.

        Raises UsageError as `refuse_mixing` does.
        """
        refuse_mixing(results, self.case_file)
        return results / "snapshots" / self.case / self.location.name

    def everywhere(self, results: Path | None = None) -> list[SnapshotPlace]:
        """Return this place on every backend that has a snapshot; given a results folder, that has a candidate."""
        folder = (self.candidate(results) if results else self.location).parent
        start = f"{_safe(self.job)}."
        names = sorted(file.name for file in folder.glob("*.json") if file.name.startswith(start))
        backends = [name.removeprefix(start).removesuffix(".json") for name in names]
        return [self.on(backend) for backend in backends if "." not in backend]


def refuse_mixing(results: Path, case_file: Path) -> None:
    """Raise UsageError where candidates would lie among a case's snapshots: a run would replace or remove those."""
    if (results / "snapshots").resolve() == folder_of(case_file).resolve():
        raise UsageError(f"{results}/snapshots holds the snapshots of {case_file}; give another folder for results")


def refuse_in_ci() -> None:
    """Raise UsageError when `CI` is set: a machine that judges must not change what it judges by."""
    if os.environ.get("CI"):
        raise UsageError("CI is set: snapshots are compared and never written; update them where you commit")
