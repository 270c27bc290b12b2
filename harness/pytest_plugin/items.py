"""Case items among other items: `cases/x.case.yaml::job[engine@model]`, or `job[variant~engine@model]`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.jobs.planning import Job

CASE_SUFFIX = ".case.yaml"
VARIANT_MARK = "~"
MEANT_AS_CASE = re.compile(r"\.case\.ya?ml$", re.IGNORECASE)
"""Also a file that is almost named as a case file is collected, to be refused."""


def job_of(item: pytest.Item) -> Job | None:
    """Return the job of a case item, or None for any other item."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("harness_job") if callspec is not None else None


def nodeid_of(file: Path, root: Path) -> str:
    """Return the node id of a case file: below pytest's root its path from there, elsewhere its whole path.

    pytest itself gives a file outside its root an empty one, by which no report of it could be told.
    """
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()


def names_of(nodeid: str) -> tuple[str, str, str] | None:
    """Return (case file, engine, model) of a case item's node id, or None for any other item."""
    file, found, job = nodeid.rpartition(f"{CASE_SUFFIX}::job[")
    if not found:
        return None
    engine, _, model = job.removesuffix("]").rpartition("@")
    return file + CASE_SUFFIX, engine.rpartition(VARIANT_MARK)[2], model
