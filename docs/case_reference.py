"""The tables of docs/cases.md: every key of the case language, generated from what the loader validates with.

python docs/check.py --write     puts them into the page, between its marks
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from harness.casefile import DefaultsFile
from harness.casefile.language import expected, prompts, schema

MARKS = re.compile(r"(<!-- keys of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PARTS: dict[str, type[BaseModel]] = {
    part.__name__: part
    for part in (
        *(schema.CaseFile, prompts.Prompts, prompts.PairsFile, prompts.LongAnswer, prompts.Conversation, prompts.Turn),
        *(schema.SweepFields, schema.Tolerance, DefaultsFile),
        *(expected.Expect, expected.KnownBaseline, expected.KnownRecovery, expected.BaselineRange, expected.TopLayers),
        *(expected.MinimumRecovery, expected.RankOrder, expected.OfCurves, expected.Expectation),
        *(expected.Exemption, expected.KnownFailure),
    )
}


def filled(page: str) -> str:
    """Return the page with every table between its marks."""
    return MARKS.sub(lambda found: f"{found[1]}{table(PARTS[found[2]])}{found[3]}", page)


def missing(page: str) -> Iterator[str]:
    """Yield the parts of the language that have no table on the page."""
    shown = {name for _, name, _ in MARKS.findall(page)}
    yield from (f"no table of the keys of {name}" for name in PARTS if name not in shown)


def table(part: type[BaseModel]) -> str:
    """Return the keys of one part as Markdown: name, default, meaning."""
    names = part.model_json_schema()["properties"]
    rows = [
        f"| `{key}` | {_default(field)} | {_meaning(field, names[key])} |" for key, field in part.model_fields.items()
    ]
    return "\n".join(["| key | without it | meaning |", "|---|---|---|", *rows, ""])


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined or value is None or value == () or value == "" or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple):
        return "all" if len(value) > 6 else f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _meaning(field: Any, described: dict[str, Any]) -> str:
    options = [*_options(described)]
    text = field.description or ""
    listed = f"; of {', '.join(f'`{name}`' for name in options)}" if options and "`" not in text else ""
    return text + listed


def _options(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (str(name) for name in node.get("enum", ()) if len(node["enum"]) < 12)
        for value in node.values():
            yield from _options(value)
    elif isinstance(node, list):
        for value in node:
            yield from _options(value)
