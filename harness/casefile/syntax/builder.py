"""From YAML text to data, strictly: what looks like one thing must not silently be another.

PyYAML keeps the last of two equal keys, reads `no` as False and `1e-3` as text, and follows aliases into a gigabyte.
Here PyYAML only cuts the text into events, and `Builder` makes the data of them. A key written twice, a tag, an
anchor, a second document, a number that is not finite, or nothing at all is a `Problem` at its line and column.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

import yaml

from harness.casefile.syntax.document import MAX_PROBLEMS, Document, KeyPath, Location, described, shown
from harness.casefile.syntax.scalars import Scalar, plain_scalar
from harness.vocabulary.errors import CaseFileError, Problem

# A case nests five deep; PyYAML's and Python's recursion ends at some hundred.
MAX_DEPTH = 32

HINTS = {
    "'\\t'": "indent with spaces, not with a tab",
    "mapping values are not allowed here": "put text that contains ': ' in quotes",
    "found character '@'": "put text that starts with '@' in quotes",
    "found character '`'": "put text that starts with '`' in quotes",
}


_FAST: Any = getattr(yaml, "CSafeLoader", None)
"""LibYAML's parser: eight times as fast, where PyYAML was built with it."""
_PLAIN = {"\n", *map(chr, range(ord(" "), ord("~") + 1))} - set("!%&*?@`\\")
"""Characters that both parsers read alike. Of others they count columns, break lines, and refuse differently."""
_COMMENTED_BLOCK = re.compile(r"[|>][-+0-9]*#").search
"""What one of the parsers takes for a comment after the sign of a block of text."""


class _ReadOtherwise(Exception):
    """The two parsers do not agree on the place of this."""


class Builder:
    """Makes a document of PyYAML's events, collecting what is wrong until the syntax itself breaks."""

    def __init__(self, path: Path, text: str, as_written: bool = False):
        self.path, self.text, self.as_written = path, text, as_written
        self.places: dict[KeyPath, Location] = {}
        self.problems: list[Problem] = []

    def document(self) -> Document:
        if _FAST is not None and _PLAIN.issuperset(self.text) and not _COMMENTED_BLOCK(self.text):
            try:
                return self._made_by(_FAST)
            except (CaseFileError, _ReadOtherwise):  # in the words, and at the places, of the parser in Python
                self.places, self.problems = {}, []
        try:
            return self._made_by(yaml.SafeLoader)
        except yaml.reader.ReaderError as error:
            self._unprintable(error)

    def _made_by(self, loader: Callable[[str], Any]) -> Document:
        self.loader = loader(self.text)
        self._next()
        start = self._next()
        if isinstance(start, yaml.StreamEndEvent):
            self._stop((1, 1), "the file is empty")
        data = self._root()
        self._next()
        extra = self._next()
        if not isinstance(extra, yaml.StreamEndEvent):
            self._stop(_start(extra), "a second document starts here; a file holds one")
        if self.problems:
            raise CaseFileError(self.problems)
        return Document(self.path, data, self.places)

    def _root(self) -> dict[str, Any]:
        event = self._next()
        self._note((), _start(event), _start(event))
        data = self._value(event, ())
        if not isinstance(data, dict):
            what = "the file is empty" if data is None else f"expected a mapping, found {described(data)}"
            self._stop(_start(event), what)
        return data

    def _value(self, event: yaml.Event, path: KeyPath) -> Any:
        self._refuse_indirection(event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if len(path) >= MAX_DEPTH:
            self._stop(_start(event), f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            inner = (*path, len(items))
            self._note(inner, _start(event), _start(event))
            items.append(self._value(event, inner))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key, at = self._key(event, path), _start(event)
            inner = (*path, key)
            if inner in self.places:
                self._complain(at, f"{shown(key)} is written twice; the first is on line {self.places[inner].key[0]}")
            event = self._next()
            if inner not in self.places:
                self._note(inner, at, _start(event))
            entries[key] = self._value(event, inner)
        return entries

    def _key(self, event: yaml.Event, path: KeyPath) -> str:
        key = self._value(event, (*path, "?"))
        if isinstance(key, bool) or not isinstance(key, str | int):
            self._stop(_start(event), f"a key is text or a whole number, not {described(key)}")
        return str(key)

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        try:
            # Half a surrogate pair, written as an escape, is no character: nothing could print or tokenize it.
            event.value.encode()
            if not event.value and not event.style and isinstance(self.loader, _FAST or ()):
                raise _ReadOtherwise
            return event.value if event.style else self._plain(event.value)
        except UnicodeEncodeError:
            self._complain(_start(event), "this text holds half a surrogate pair; write the character itself")
        except ValueError as error:
            self._complain(_start(event), str(error))
        return None

    def _plain(self, text: str) -> Scalar:
        value = plain_scalar(text)
        return text if self.as_written and isinstance(value, int | float) and not isinstance(value, bool) else value

    def _refuse_indirection(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            self._stop(_start(event), "anchors and aliases are not used here; write the value out")
        if getattr(event, "tag", None) is not None:
            self._stop(_start(event), f"the tag {shown(str(getattr(event, 'tag', '')))} is not used here; leave it out")

    def _next(self) -> yaml.Event:
        try:
            # The loader's stub leaves this method untyped.
            return cast(yaml.Event, self.loader.get_event())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            position = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            self._stop(position, _syntax(error.problem or error.context or "unreadable"))
        except (ValueError, OverflowError):
            mark = self.loader.get_mark()
            self._stop((mark.line + 1, mark.column + 1), "not valid YAML: an escape or a version is out of range")

    def _unprintable(self, error: yaml.reader.ReaderError) -> NoReturn:
        message = f"the character U+{ord(self.text[error.position]):04X} cannot stand in YAML"
        self._stop(position_after(self.text[: error.position]), message)

    def _note(self, path: KeyPath, key: tuple[int, int], value: tuple[int, int]) -> None:
        self.places[path] = Location(key, value, self.path, path)

    def _complain(self, position: tuple[int, int], message: str) -> None:
        self.problems.append(Problem(str(self.path), *position, "", message))
        if len(self.problems) == MAX_PROBLEMS:
            raise CaseFileError(self.problems)

    def _stop(self, position: tuple[int, int], message: str) -> NoReturn:
        self._complain(position, message)
        raise CaseFileError(self.problems)


def _start(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    # Every event of the parser carries a mark; only events made by hand may lack it.
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _syntax(problem: str) -> str:
    hint = next((f"; {hint}" for sign, hint in HINTS.items() if sign in problem), "")
    return f"not valid YAML: {problem}{hint}"


def position_after(before: str) -> tuple[int, int]:
    """Return the 1-based line and column that follow a text."""
    lines = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return len(lines), len(lines[-1]) + 1
