"""`matrix:` - one file, a case for every combination of what it varies.

    matrix:
      components: [mlp_out, attn_out]     # a list of values, for a field of the sweep or for metrics
      pair:                               # names, each with the keys of a case that it changes
        capitals: {prompts: {clean: ..., corrupted: ...}}
        rivers: {prompts: {clean: ..., corrupted: ...}, tolerance: {recovery_points: 2}}

makes four cases, whose ids end in `.mlp_out.capitals` and so on. A variant is laid over the case as the case is laid
over what it includes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from math import prod
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, WithJsonSchema

from harness.casefile.compose.overlay import overlaid
from harness.casefile.language.fields import LIST, MAPPING, PATTERN_WORDS, SLUG, Refusal, Slug, either, refuse
from harness.casefile.syntax.document import Document, KeyPath, Location
from harness.vocabulary.errors import suggest
from harness.vocabulary.words import number_of

# Twice the combinations of six components, two directions and four metrics; more is a typing mistake or a flood.
MAX_VARIANTS = 100
# Each axis adds two characters at least to an id of 80.
MAX_AXES = 39

FIELDS: dict[str, KeyPath] = {
    **{name: ("sweep", name) for name in ("components", "layers", "positions", "direction", "strategy", "value")},
    "metrics": ("metrics",),
}
"""Fields that an axis may list values of, and where they stand in a case."""
_LISTS = ("components", "metrics")

Values = Annotated[tuple[str | int, ...], Field(min_length=1), LIST]
# What a variant changes is validated when it is laid over its case; `published.py` puts its schema in this place.
CHANGES = "Changes"
Change = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "$comment": CHANGES})]
Changes = Annotated[dict[Slug, Change], Field(min_length=1), MAPPING]
Axis = Annotated[Values | Changes, either("a list of values, or a mapping from names to what they change")]


def _expandable(matrix: dict[str, Any]) -> dict[str, Any]:
    if refusals := [*_faults(matrix)]:
        raise refuse(refusals)
    return matrix


def _faults(matrix: dict[str, Any]) -> Iterator[Refusal]:
    if too_many := _too_many(matrix):
        yield Refusal((), too_many)
        return
    for axis, values in matrix.items():
        if isinstance(values, dict):
            for name, changes in values.items():
                yield from (
                    Refusal((axis, name, key), f"cannot vary; {reason}", at_key=True)
                    for key, reason in _FIXED.items()
                    if key in changes
                )
        elif axis not in FIELDS:
            yield Refusal((axis,), f"a list varies one of the fields {', '.join(sorted(FIELDS))}; {_hint(axis)}", True)
        else:
            yield from _clashes(axis, [_named(axis, value) for value in values])


def _too_many(matrix: dict[str, Any]) -> str | None:
    if len(matrix) > MAX_AXES:
        return f"has {number_of(len(matrix), 'axis', 'axes')}; at most {MAX_AXES} are allowed"
    count = prod(len(values) for values in matrix.values())
    if count <= MAX_VARIANTS:
        return None
    # No number that nobody could read; Python refuses to write one of over 4,300 digits.
    made = f"{count:,}" if count < 10**12 else "over a million million"
    return f"makes {made} cases; at most {MAX_VARIANTS} are allowed"


def _hint(axis: str) -> str:
    near = suggest(axis, FIELDS)
    return near if near.startswith("did") else "give each variant a name and what it changes"


_FIXED = {
    "id": "it is made of the case's own id and the names of the variants",
    "include": "a file is included for the whole case",
    "matrix": "a matrix in a matrix is another axis beside this one",
}


def _clashes(axis: str, names: list[str]) -> Iterator[Refusal]:
    for index, name in enumerate(names):
        if not re.fullmatch(SLUG.removesuffix("$"), name):
            yield Refusal((axis, index), f"gives no name for a variant ({PATTERN_WORDS[SLUG]}); name the variants")
        elif name in names[:index]:
            yield Refusal((axis, index), f"gives the same name as an earlier value, {name!r}")


Matrix = Annotated[dict[Slug, Axis], Field(min_length=1), AfterValidator(_expandable)]
_MATRIX: TypeAdapter[dict[str, Any]] = TypeAdapter(Matrix)


def expanded(document: Document) -> list[tuple[str, Document]]:
    """Return (name, document) of every variant of a case: one without a name where nothing varies.

    A matrix that is not well formed is left for validation to explain.
    """
    if "matrix" not in document.data:
        return [("", document)]
    try:
        matrix = _MATRIX.validate_python(document.data["matrix"], strict=False)
    except ValidationError:
        return [("", document)]
    axes = [list(_variants(document, axis, matrix[axis])) for axis in matrix]
    # The matrix is validated here, once, and not in each of its variants.
    varied = replace(document, data={key: value for key, value in document.data.items() if key != "matrix"})
    return [_combined(varied, choice) for choice in itertools.product(*axes)]


def _combined(document: Document, choice: tuple[tuple[str, Document], ...]) -> tuple[str, Document]:
    return ".".join(name for name, _ in choice), reduce(overlaid, (change for _, change in choice), document)


def _variants(document: Document, axis: str, values: Any) -> Iterator[tuple[str, Document]]:
    around = document.under("matrix").under(axis)
    if isinstance(values, dict):
        yield from ((name, around.under(name)) for name in values)
        return
    for index, value in enumerate(values):
        yield _named(axis, value), _change(document, axis, value, around.places[(index,)])


def _change(document: Document, axis: str, value: str | int, place: Location) -> Document:
    """Return the document that sets one field to one value, written where the value is."""
    path = FIELDS[axis]
    wrapped = axis in _LISTS or isinstance(value, int)
    data: Any = [value] if wrapped else value
    places = {path[:depth]: place for depth in range(len(path) + 1)} | ({(*path, 0): place} if wrapped else {})
    for key in reversed(path):
        data = {key: data}
    # What stands around the value keeps the place it has in the case, where it has one.
    kept = {key: document.places[key] for key in places if key in document.places and len(key) < len(path)}
    return Document(document.path, data, {**places, **kept})


def _named(axis: str, value: str | int) -> str:
    """Return what a value is called in ids: the value itself, a number after its field."""
    text = f"{axis.removesuffix('s')}{value}" if isinstance(value, int) else value.lower()
    return re.sub(r"[^a-z0-9._-]+", "-", text)
