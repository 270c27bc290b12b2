"""`[tool.harness]` in pyproject.toml: what a project wants of every run, so that nobody has to type it.

    [tool.harness]
    paths = ["cases"]                # case files or folders, relative to this file, or "bundled"
    models = ["cases/models.yaml"]   # model tables beside the bundled one
    tags = ["fast"]                  # only cases or models with one of these tags
    engines = ["native"]
    workers = 2                      # or "auto"
    strict = true                    # warnings about the engine or the case fail a job
    require-models = true            # a job skipped for want of its model fails
    download = false
    job-timeout = 600                # seconds that a job may take, where its case states no timeout
    results = "results"              # where snapshot candidates go
    known = "known.yaml"             # failures known of an engine, for `run` and `conformance`

The nearest pyproject.toml with this table counts, from the current folder upwards. The command line wins over it.

A project may be a stranger's, so a folder in which a run writes is one of the project's own: `results`, and `paths`, as
snapshots lie beside the cases. Another one has to be typed.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.support.files import is_below
from harness.support.inputs import read_input
from harness.vocabulary.errors import CaseFileError, Problem, UsageError, suggest
from harness.vocabulary.paths import near

FILE = "pyproject.toml"
MOST_BYTES = 4 << 20
"""Bytes of such a file."""
BUNDLED = "bundled"
"""The name of the bundled cases where paths are given; `bundled:ladder` is one of them."""


@dataclass(frozen=True)
class Key:
    """One entry of the table: what it must be, in words and as a test; whether it names files, and whether only files
    of the project."""

    expected: str
    fits: Callable[[Any], bool]
    is_path: bool = False
    is_inside: bool = False


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and each for each in value)


def _workers(value: Any) -> bool:
    return value in ("auto", "logical") or (type(value) is int and value >= 0)


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


_LIST, _FLAG = "a list of texts", "true or false"

KEYS: Mapping[str, Key] = {
    "paths": Key(_LIST, _texts, is_path=True, is_inside=True),
    "models": Key(_LIST, _texts, is_path=True),
    "tags": Key(_LIST, _texts),
    "engines": Key(_LIST, _texts),
    "workers": Key("a number of processes, or 'auto'", _workers),
    "strict": Key(_FLAG, lambda value: isinstance(value, bool)),
    "require-models": Key(_FLAG, lambda value: isinstance(value, bool)),
    "download": Key(_FLAG, lambda value: isinstance(value, bool)),
    "job-timeout": Key("a number of seconds above 0", _seconds),
    "results": Key(
        "the name of a folder", lambda value: isinstance(value, str) and bool(value), is_path=True, is_inside=True
    ),
    "known": Key("the name of a file", lambda value: isinstance(value, str) and bool(value), is_path=True),
}


@dataclass(frozen=True)
class Configuration:
    """The values of the table that was found, paths resolved; without a file there are none."""

    file: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{near(self.file)} [tool.harness]: {', '.join(self.values)}" if self.file else "none"


def load(folder: Path) -> Configuration:
    """Return the nearest table at or above a folder. Raises CaseFileError with every fault, as file:line:column."""
    for parent in (folder, *folder.parents):
        file = parent / FILE
        if file.is_file():
            text, table = _read(file)
            if table is not None:
                return Configuration(file, _checked(file, text, table))
    return Configuration()


def _read(file: Path) -> tuple[str, Any]:
    """Return the text and the table in it, or None where it has none."""
    try:
        text = read_input(file, MOST_BYTES).decode("utf-8").replace("\r\n", "\n")
        tool = tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise CaseFileError([_undecodable(file, str(error))]) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: cannot be read: {error}") from None
    except (RecursionError, ValueError) as error:  # tables in tables in tables; a number of 5,000 digits
        raise UsageError(f"{file}: cannot be read as TOML: {error}") from None
    return text, tool.get("harness") if isinstance(tool, dict) else None


def _undecodable(file: Path, said: str) -> Problem:
    where = re.search(r" \(at line (\d+), column (\d+)\)", said)
    line, column = (int(where[1]), int(where[2])) if where else (1, 1)
    return Problem(near(file), line, column, "", f"is not TOML: {said[: where.start()] if where else said}")


def _checked(file: Path, text: str, table: Any) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise CaseFileError([Problem(near(file), *_place(text, "harness"), "tool.harness", "expected a table")])
    if problems := list(_problems(file, text, table)):
        raise CaseFileError(problems)
    return {key: _anchored(value, file.parent) if KEYS[key].is_path else value for key, value in table.items()}


def _problems(file: Path, text: str, table: Mapping[str, Any]) -> Iterator[Problem]:
    for key, value in table.items():
        where = (near(file), *_place(text, key), f"tool.harness.{key}")
        if key not in KEYS:
            yield Problem(*where, f"is not a setting; {suggest(key, KEYS)}")
        elif not KEYS[key].fits(value):
            yield Problem(*where, f"expected {KEYS[key].expected}, found {value!r}")
        elif KEYS[key].is_inside:
            for name in [value] if isinstance(value, str) else value:
                if not is_below(file.parent / Path(name).expanduser(), file.parent):
                    yield Problem(*where, f"{name!r} is outside of the project {file.parent}; {_TYPED}")


_TYPED = "a folder elsewhere has to be given on the command line"


def refuse_linked_results(results: str) -> None:
    """Raise UsageError where the results folder that nobody typed is a link that leads out of the current folder."""
    if not is_below(Path(results), Path.cwd()):
        raise UsageError(f"{results} leads to {os.path.realpath(results)}, outside of this folder; {_TYPED}")


def _place(text: str, key: str) -> tuple[int, int]:
    """Return line and column of a key, as far as text alone tells: tomllib does not keep them."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(r"\s*\[\s*tool\s*\.\s*harness\s*\]", line)), 0)
    for i, line in enumerate(lines[start:], start + 1):
        if found := re.match(rf"""(\s*(?:tool\.harness\.|harness\.)?)["']?{re.escape(key)}["']?\s*=""", line):
            return i, len(found[1]) + 1
    return start + 1, 1


def is_bundled(path: str) -> bool:
    """Return whether a path is the name of the bundled cases, or of one of them."""
    return path == BUNDLED or path.startswith(f"{BUNDLED}:")


def _anchored(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [each if is_bundled(each) else _anchored(each, folder) for each in value]
    return near(folder / Path(value).expanduser())
