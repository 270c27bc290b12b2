"""From a strictly read document to a validated value, or to every fault of it at the place where it is written.

Pydantic names a fault by a `loc` in which keys and indices are mixed with elements of its own (tags of unions, names
of types). `_written` keeps those that exist in the data; the JSON schema of the adapter says which fields a place
allows, for "did you mean".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from harness.casefile.language.fields import REFUSED
from harness.casefile.syntax.document import MAX_PROBLEMS, Document, KeyPath
from harness.casefile.syntax.yamlfile import load_document
from harness.casefile.validation.allowed import fields_at
from harness.casefile.validation.messages import said
from harness.vocabulary.errors import CaseFileError, Problem, suggest

T = TypeVar("T")


def load_yaml_as(adapter: TypeAdapter[T], path: Path, *, as_written: bool = False) -> T:
    """Read a YAML file strictly and return it as the adapter's type.

    `as_written` gives numbers as their text, in which 0.6480 keeps its last digit.

    UsageError if the file cannot be read; CaseFileError with every fault of its content, as file:line:column.
    """
    return validate(adapter, load_document(path, as_written=as_written))


def validate(adapter: TypeAdapter[T], document: Document, *, incomplete: bool = False) -> T:
    """Return the document as the adapter's type; CaseFileError with its faults, at most `MAX_PROBLEMS` of them.

    Of an incomplete document, a file of which could not be read, nobody can say what is missing.
    """
    try:
        return adapter.validate_json(document.json())
    except ValidationError as error:
        faults = [each for each in error.errors(include_url=False) if not (incomplete and each["type"] == "missing")]
    problems = (problem for fault in faults for problem in _problems(adapter, document, fault))
    raise CaseFileError(set(islice(problems, MAX_PROBLEMS)))


def _problems(adapter: TypeAdapter[T], document: Document, fault: ErrorDetails) -> Iterator[Problem]:
    kind, loc, context = fault["type"], fault["loc"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        yield _extra(adapter, document, _written(document.data, loc))
    elif kind == "missing":
        path = _written(document.data, loc[:-1], lacking=str(loc[-1]))
        yield document.problem((*path, str(loc[-1])), said(fault, path, None))
    elif kind == REFUSED:
        path = _written(document.data, loc)
        for refusal in context["refusals"]:
            at_key = refusal.at_key or loc[-1:] == ("[key]",)
            yield document.problem((*path, *refusal.path), refusal.message, at_key=at_key)
    elif not _counts_invalid(document, fault):
        yield _misfit(document, fault)


def _counts_invalid(document: Document, fault: ErrorDetails) -> bool:
    """Return whether a list is called too short only because pydantic leaves its invalid items out of the count."""
    if fault["type"] != "too_short":
        return False
    written: list[Any] = _value(document.data, _written(document.data, fault["loc"]))
    return bool(len(written) >= fault["ctx"]["min_length"])


def _extra(adapter: TypeAdapter[T], document: Document, path: KeyPath) -> Problem:
    allowed = fields_at(_schema(adapter), document.data, path[:-1])
    return document.problem(path, f"is not a field here; {suggest(str(path[-1]), allowed)}", at_key=True)


@lru_cache(maxsize=4)
def _schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    return adapter.json_schema()


def _misfit(document: Document, fault: ErrorDetails) -> Problem:
    loc = fault["loc"]
    if loc and loc[-1] == "[key]":
        path = _written(document.data, loc[:-1])
        return document.problem(path, f"as a key here, {said(fault, path, path[-1])}", at_key=True)
    path = _written(document.data, loc)
    if fault["type"].startswith("union_tag"):
        # The fault of a tag is written in the field that discriminates, which pydantic quotes.
        path = (*path, fault["ctx"]["discriminator"].strip("'"))
    return document.problem(path, said(fault, path, _value(document.data, path)))


def _written(data: Any, loc: tuple[str | int, ...], lacking: str | None = None) -> KeyPath:
    """Return the key path in the data that a `loc` means; `lacking` names a key that its mapping must not have.

    A tag may have the name of a field (`path` is both a source of models and a field of it), so all readings are
    compared: one that lacks the key wins, then one that ends where the `loc` ends, then the longest.
    """

    def rank(reading: tuple[KeyPath, bool]) -> tuple[bool, bool, int]:
        path, complete = reading
        value = _value(data, path)
        lacks = lacking is not None and isinstance(value, dict) and lacking not in value
        return lacks, complete, len(path)

    return max(_readings(data, loc), key=rank)[0]


def _readings(node: Any, loc: tuple[str | int, ...]) -> Iterator[tuple[KeyPath, bool]]:
    """Yield every path into `node` whose keys appear in `loc` in order, and whether it uses the last of them."""
    if not loc:
        yield (), True
        return
    key, rest = _fitting(node, loc[0]), loc[1:]
    if key is not None:
        yield from (((key, *path), complete) for path, complete in _readings(node[key], rest))
    yield from ((path, complete and bool(rest)) for path, complete in _readings(node, rest))


def _fitting(node: Any, key: str | int) -> str | int | None:
    if isinstance(node, dict) and str(key) in node:
        return str(key)
    return key if isinstance(node, list) and isinstance(key, int) and 0 <= key < len(node) else None


def _value(data: Any, path: KeyPath) -> Any:
    for key in path:
        step = _fitting(data, key)
        if step is None:
            return None
        data = data[step]
    return data
