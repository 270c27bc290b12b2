"""The directive `json-schema`: a published JSON Schema as one table for each of its parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx


class SchemaTables(Directive):
    """`.. json-schema:: FILE`, relative to the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        environment = self.state.document.settings.env
        file = Path(environment.doc2path(environment.docname)).parent / self.arguments[0]
        environment.note_dependency(str(file.resolve()))
        container = nodes.container()
        lines = list(page(json.loads(file.read_text(encoding="utf-8"))))
        self.state.nested_parse(StringList(lines, source=str(file)), self.content_offset, container, match_titles=False)
        return container.children


def page(schema: dict[str, Any]) -> Iterator[str]:
    """Yield reStructuredText: the whole first, then its parts by name."""
    for name, part in [(schema["title"], schema), *sorted(schema.get("$defs", {}).items())]:
        yield from [f".. _schema-{name.lower()}:", "", f".. rubric:: {name}", ""]
        yield from [*part.get("description", "").split("\n"), ""]
        yield from _rows(part) if "properties" in part else [_text(part), ""]


def _rows(part: dict[str, Any]) -> Iterator[str]:
    yield from [".. list-table::", "   :header-rows: 1", "   :widths: 30 45 25", ""]
    yield from _row("key", "holds", "without it")
    for key, value in part["properties"].items():
        needed = key in part.get("required", ())
        yield from _row(f"``{key}``", _text(value), "required" if needed else _default(value))
    yield ""


def _row(*cells: str) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {'* -' if number == 0 else '  -'} {cell}".rstrip()


def _default(value: dict[str, Any]) -> str:
    return f"``{json.dumps(value['default'])}``" if "default" in value else ""


def _text(value: dict[str, Any]) -> str:
    """Return what a value may be, in words, with links to the parts."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        return f":ref:`{name} <schema-{name.lower()}>`"
    if "anyOf" in value:
        return ", or ".join(_text(each) for each in value["anyOf"])
    if "enum" in value:
        return "one of " + ", ".join(f"``{each}``" for each in value["enum"])
    if value.get("type") == "array" and isinstance(value.get("items"), dict):
        return f"list of {_text(value['items'])}"
    if isinstance(value.get("additionalProperties"), dict):
        return f"mapping to {_text(value['additionalProperties'])}"
    return str(value.get("type", "anything"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("json-schema", SchemaTables)
    return {"parallel_read_safe": True}
