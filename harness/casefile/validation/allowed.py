"""Which fields a place in a document allows, read from a JSON schema: the names that "did you mean" chooses from.

Where a schema offers alternatives, those whose constants contradict the data are left out: a row with
`source: synthetic` is offered the fields of a synthetic row only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.casefile.syntax.document import KeyPath

Schema = Mapping[str, Any]


def fields_at(root: Schema, data: Any, path: KeyPath) -> frozenset[str]:
    """Return the names of the fields that the schema `root` allows in the mapping at `path` in `data`."""
    schemas = list(_alternatives(root, root, data))
    for key in path:
        data = data[key]
        inner = [schema for schema in (_entry(schema, key) for schema in schemas) if schema is not None]
        schemas = [choice for schema in inner for choice in _alternatives(root, schema, data)]
    return frozenset(name for schema in schemas for name in schema.get("properties", {}))


def _alternatives(root: Schema, schema: Schema, data: Any) -> Iterator[Schema]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield from _alternatives(root, root["$defs"][name], data)
    elif choices := [*schema.get("oneOf", ()), *schema.get("anyOf", ())]:
        for choice in choices:
            yield from _alternatives(root, choice, data)
    elif not _contradicts(schema, data):
        yield schema


def _contradicts(schema: Schema, data: Any) -> bool:
    if not isinstance(data, dict):
        return False
    constants = {name: _constants(field) for name, field in schema.get("properties", {}).items()}
    return any(allowed and name in data and data[name] not in allowed for name, allowed in constants.items())


def _constants(field: Schema) -> list[Any]:
    return [field["const"]] if "const" in field else field.get("enum", [])


def _entry(schema: Schema, key: str | int) -> Schema | None:
    """Return the schema of one entry of a mapping or list that `schema` describes."""
    if isinstance(key, int):
        return schema.get("items")
    patterns = schema.get("patternProperties", {}).items()
    free = next((field for pattern, field in patterns if re.search(pattern, key)), schema.get("additionalProperties"))
    field = schema.get("properties", {}).get(key, free)
    return field if isinstance(field, dict) else None
