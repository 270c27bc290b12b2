"""The JSON Schemas of case files, for editors: what the strict loader says, as far as JSON Schema can say it.

The first line of a case file points an editor at one:

    # yaml-language-server: $schema=case.schema.json

Pydantic's own schema is that of a complete case. Here an included file or a variant may bring what a case leaves out,
and what stands under a variant's name, or under `defaults`, is a case of which everything may be left out.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from harness.casefile.compose.variants import CHANGES
from harness.casefile.language.schema import CaseFile

Schema = dict[str, Any]
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/"


def case_schema() -> Schema:
    """Return the JSON Schema of a case file, `*.case.yaml`."""
    root, parts = _parts()
    pair = {"required": parts["Prompts"].pop("required")}
    complete = {
        "required": ["models", "prompts"],
        "properties": {"prompts": {"anyOf": [pair, {"required": ["file"]}], "items": pair}},
    }
    del root["required"]
    elsewhere = {"anyOf": [{"required": ["include"]}, {"required": ["matrix"]}]}
    return {"$schema": _DIALECT, **root, "if": {"not": elsewhere}, "then": complete, "$defs": parts}


def defaults_schema() -> Schema:
    """Return the JSON Schema of a file that cases include."""
    root, parts = _parts()
    parts["Prompts"].pop("required")
    return {
        "$schema": _DIALECT,
        "title": "DefaultsFile",
        "description": "A file that cases include: keys of a case under `defaults`, and files that it includes itself.",
        "type": "object",
        "properties": {
            "include": root["properties"]["include"],
            "defaults": {"$ref": f"{_REF}Defaults"},
        },
        "required": ["defaults"],
        "additionalProperties": False,
        "$defs": {**parts, "Defaults": _partial(root, "id", "include")},
    }


def _parts() -> tuple[Schema, dict[str, Schema]]:
    """Return the schema of a complete case, and its definitions with that of a variant among them."""
    root = _closed(TypeAdapter(CaseFile).json_schema())
    parts: dict[str, Schema] = root.pop("$defs")
    return root, {**parts, CHANGES: _partial(root, "id", "include", "matrix")}


def _partial(root: Schema, *without: str) -> Schema:
    properties = {name: field for name, field in root["properties"].items() if name not in without}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _closed(node: Any) -> Any:
    """Return a schema in which a mapping with patterns for its keys has no others, and a variant is referred to."""
    if isinstance(node, list):
        return [_closed(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if node.get("$comment") == CHANGES:
        return {"$ref": _REF + CHANGES}
    closed = {"additionalProperties": False} if "patternProperties" in node else {}
    return {**closed, **{key: _closed(value) for key, value in node.items()}}
