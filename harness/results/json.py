"""The result as JSON, in its published schema: the source of every other report."""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from harness import vocabulary
from harness.support.files import write_text
from harness.support.inputs import read_input
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
    """Read a run back. Raises UsageError when the file is not a result in this schema, with the place of the fault.

    Findings may have codes that this version does not know; the schema must be named, and every number finite.
    """
    try:
        data = from_json(read_input(path), allow_inf_nan=False)
        if not isinstance(data, dict) or "schema" not in data:
            raise ValueError("it names no schema")
        if data["schema"] != RESULT_SCHEMA:
            raise UsageError(f"{path} has schema {data['schema']!r}; this version reads {RESULT_SCHEMA!r}")
        run: RunResult = _adapter(RunResult).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path} is not a result of `harness run --json`: {place}: {first['msg']}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not a result of `harness run --json`: {error}") from error
    return run


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a result."""
    published = _adapter(RunResult).json_schema(mode="serialization")
    return {"$id": RESULT_SCHEMA, **published, "required": [*published["required"], "schema"]}


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    for noun in vars(vocabulary).values():
        if is_dataclass(noun):
            # Also "nan" in quotes, and numbers beyond the floats.
            setattr(noun, "__pydantic_config__", ConfigDict(allow_inf_nan=False))  # noqa: B010  typeshed lacks it
    return TypeAdapter(kind)
