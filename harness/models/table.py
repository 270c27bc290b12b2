"""The table of models: the bundled rows, and those of a user's own YAML files.

A user's table has the form of the bundled one (`table.yaml`) and adds to it. An id means one model, so a second row of
the same id is an error and never replaces the first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from harness.casefile import load_yaml_as
from harness.models.spec import HubRow, ModelRow, PathRow
from harness.vocabulary.errors import UsageError, suggest

BUNDLED = Path(__file__).with_name("table.yaml")


class ModelTable(BaseModel):
    """The content of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    models: tuple[ModelRow, ...] = Field(min_length=1)


_MOST_OF_NAME = 70
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def load_table(paths: Iterable[Path] = ()) -> dict[str, ModelRow]:
    """Return id -> row of the bundled table and the given files, in file order.

    Raises CaseFileError with every problem of a file, UsageError when an id is defined twice or a file cannot be read.
    """
    rows, origin = dict(bundled()), dict.fromkeys(bundled(), BUNDLED)
    for path in paths:
        _add(path, rows, origin)
    return rows


def bundled() -> dict[str, ModelRow]:
    """Return id -> row of the table that comes with the harness."""
    return dict(_bundled())


def row_named(name: str, table: Mapping[str, ModelRow] | None = None) -> ModelRow:
    """Return the row of a model as people name it: an id of a table, an mlx-lm folder, or a repository of the hub.

    Without a table it is the bundled one. Raises UsageError for a name that is none of them.
    """
    rows = bundled() if table is None else table
    if name in rows:
        return rows[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        # The name as it is given, also of a link, and that of the folder for `.`.
        return PathRow(id=_id_of(Path(os.path.abspath(folder)).name, rows), source="path", path=str(folder.resolve()))
    if _REPOSITORY.fullmatch(name) and not folder.parent.is_dir():
        return HubRow(id=_id_of(name.replace("/", "--"), rows), source="hub", repo=name, revision="main")
    raise UsageError(f"{name!r} is neither a model, a folder nor a repository `org/name`; {suggest(name, rows)}")


def _id_of(name: str, rows: Mapping[str, ModelRow]) -> str:
    """Return an id for a folder or a repository, which no row of a table has and a file's name can hold."""
    own = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).lstrip("._-")[:_MOST_OF_NAME] or "model"
    return f"{own}-given" if own in rows else own


@cache
def _bundled() -> dict[str, ModelRow]:
    rows: dict[str, ModelRow] = {}
    _add(BUNDLED, rows, {})
    return rows


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a table."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(ModelTable).json_schema()}


def _add(path: Path, rows: dict[str, ModelRow], origin: dict[str, Path]) -> None:
    for row in _rows(path):
        if row.id in rows:
            other = "earlier in the same file" if origin[row.id] == path else f"in {origin[row.id]}"
            raise UsageError(f"{path}: model id {row.id!r} is already defined {other}; choose another id")
        rows[row.id], origin[row.id] = row, path


def _rows(path: Path) -> Iterator[ModelRow]:
    for row in load_yaml_as(TypeAdapter(ModelTable), path).models:
        yield _anchored(row, path.parent) if isinstance(row, PathRow) else row


def _anchored(row: PathRow, folder: Path) -> PathRow:
    """Return the row with an absolute path, a relative one counting from the table's folder."""
    return row.model_copy(update={"path": str((folder / Path(row.path).expanduser()).resolve())})
