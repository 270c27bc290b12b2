"""The result as JSON, in its published schema: the source of every other report."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.support.files import write_text
from harness.vocabulary import RESULT_SCHEMA, JobResult, RunResult
from harness.vocabulary.errors import UsageError
from harness.vocabulary.visible import json_text


def dump_job(job: JobResult) -> dict[str, Any]:
    """Return a job as plain JSON types; what crosses a process boundary is exactly what a file would hold."""
    return dict(_adapter(JobResult).dump_python(job, mode="json"))


def load_job(data: Any) -> JobResult:
    """The inverse of `dump_job`."""
    job: JobResult = _adapter(JobResult).validate_python(data)
    return job


def dumps(run: RunResult) -> str:
    """Return a run as JSON text. Raises ValueError on a bare NaN or Infinity, which no result may hold."""
    plain = _adapter(RunResult).dump_python(run, mode="json")
    return json_text(plain) + "\n"


def write(run: RunResult, path: Path, within: Path | None = None) -> None:
    """Write a run to a file, which holds the old text or the new, never half; `within` is for a path nobody typed."""
    write_text(path, dumps(run), within)


def read(path: Path) -> RunResult:
    """Read a run back. Raises UsageError when the file is not a result in this schema."""
    try:
        run: RunResult = _adapter(RunResult).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UsageError(f"{path} is not a result of `harness run --json`: {str(error).splitlines()[0]}") from error
    if run.schema != RESULT_SCHEMA:
        raise UsageError(f"{path} has schema {run.schema!r}; this version reads {RESULT_SCHEMA!r}")
    return run


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a result."""
    return {"$id": RESULT_SCHEMA, **_adapter(RunResult).json_schema(mode="serialization")}


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
