"""What a YAML file says and where it says it: plain data beside the position of every key and value.

A *key path* names a place in the data as a tuple: `("metrics", 1)` is what people write as `metrics[1]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.vocabulary.errors import SHOWN_PROBLEMS, Problem

KeyPath = tuple[str | int, ...]
PLAIN_KEY = re.compile(r"[\w-]{1,80}")
# Long enough for any name, short enough that a message stays one line.
SHOWN = 60
# One more than is shown of a file, which says that there are more; a file with as many is another kind of file.
MAX_PROBLEMS = SHOWN_PROBLEMS + 1


@dataclass(frozen=True)
class Location:
    """Where an entry is written: its key (or list item) and its value as 1-based (line, column), and the file and path.

    In a case that includes a file, or varies, the key path in the file is not the one in the case.
    """

    key: tuple[int, int]
    value: tuple[int, int]
    file: Path
    path: KeyPath


@dataclass(frozen=True)
class Document:
    """One YAML document: a mapping whose keys are text, and the place of every entry in it."""

    path: Path
    data: dict[str, Any]
    places: Mapping[KeyPath, Location]

    def place(self, path: KeyPath) -> Location:
        """Return the place of an entry, or of the innermost entry around it that is written."""
        return self.places[self._written(path)]

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False) -> Problem:
        """Return a problem with the entry at `path`, pointing at its value or at its key, in the file that holds it."""
        written = self._written(path)
        place = self.places[written]
        line, column = place.key if at_key else place.value
        return Problem(str(place.file), line, column, dotted((*place.path, *path[len(written) :])), message)

    def _written(self, path: KeyPath) -> KeyPath:
        while path not in self.places:
            path = path[:-1]
        return path

    def under(self, key: str) -> Document:
        """Return the mapping at a key as a document of its own, whose entries keep their places."""
        places = {path[1:]: place for path, place in self.places.items() if path[:1] == (key,)}
        return Document(self.path, self.data[key], places)

    def json(self) -> str:
        """Return the data as JSON, in which strict validation reads lists as tuples and keys as numbers."""
        return json.dumps(self.data)


def dotted(path: KeyPath) -> str:
    """Return a key path as people write it: `expect.baselines[0].metric`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{_key(key)}" for key in path)
    return text.removeprefix(".")


def _key(key: str) -> str:
    return key if PLAIN_KEY.fullmatch(key) else shown(key)


def shown(text: str) -> str:
    """Return text in quotes on one line, shortened."""
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")


def with_article(noun: str) -> str:
    """Return `a metric`, `an engine`."""
    return f"{'an' if noun[:1] in tuple('aeiou') else 'a'} {noun}"


def described(value: Any) -> str:
    """Return what a value is, in words: `the text 'x'`, `the number 5`, `a list`."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {shown(value)}"
        case list():
            return "a list"
        case _:
            return "a mapping"
