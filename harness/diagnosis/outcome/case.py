"""The regression case of a diagnosis: a case file that fails before the remedy and passes after it.

What differs between before and after is the remedy: another engine where a metric or a guard is at fault, another dtype
where a range is, and otherwise the model itself, once it is repaired.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.diagnosis.outcome.diagnosis import Diagnosis
from harness.vocabulary import is_code
from harness.vocabulary.errors import UsageError
from harness.vocabulary.findings import FINDINGS
from harness.vocabulary.visible import visible

_ENGINES = ("DIA306", "DIA401", "DIA402", "DIA403", "DIA404", "DIA408", "DIA502")
"""Codes whose remedy is another engine."""
_DTYPES = ("DIA104", "DIA203", "DIA204", "DIA207", "DIA212", "DIA214", "DIA303")
"""Codes whose remedy is a wider dtype, where one is wide enough."""


@dataclass(frozen=True)
class Written:
    """The texts of a case file and, where its models are in no table yet, of a table beside it."""

    case: str
    table: str | None
    command: str
    """What to type to run it."""
    choices: tuple[str, ...]
    """The options that choose its jobs: the one that fails and, where the remedy is at hand, the one that passes."""
    remedy: str
    """What must happen for it to pass, where nothing at hand does."""


def written(diagnosis: Diagnosis, file: Path, source: Mapping[str, Any], prompts: Mapping[str, Any]) -> Written:
    """Return the case of a diagnosis. Raises UsageError where no case can hold it.

    `source` is the row of a model table without its id and dtype, or an empty mapping for a model of the bundled table;
    `prompts` are clean and corrupted as they were given.
    """
    cause = diagnosis.cause
    if cause is None:
        raise UsageError("nothing was found, so there is nothing that a case could hold")
    stem = re.sub(r"[^a-z0-9._-]+", "-", file.name.removesuffix(".case.yaml").lower()).strip("-.") or "case"
    given = diagnosis.subject
    engine, native = str(given.get("engine", "native")), "native"
    engines = [engine, native] if cause.code in _ENGINES and engine != native else [engine]
    ids, table = _models(
        stem,
        str(given["model"]),
        str(given.get("dtype", "")),
        source,
        cause.code in _DTYPES and "no wider" not in cause.hint,
    )
    about = f"{cause.code} {FINDINGS[cause.code].title}: {cause.message}"
    lines = [
        f"about: {_quoted(about)}",
        "tags: [diagnosed]",
        f"models: [{', '.join(ids)}]",
        f"engines: [{', '.join(engines)}]",
        "prompts:",
        *(f"  {name}: {_quoted(prompt)}" for name, prompt in prompts.items()),
        "sweep:",
        f"  components: [{given.get('component', 'mlp_out')}]",
        f"metrics: [{given.get('metric', 'l2')}]",
    ]
    lines += _allowed(prompts)
    beside = f" --models {table_file(file)}" if table else ""
    beside += " --allow-code" if is_code(engine) or is_code(str(given.get("metric", ""))) else ""
    remedy = "the prompts are of equal length" if cause.code == "DIA304" else "the model is repaired"
    return Written("\n".join(lines) + "\n", table, f"harness run {file}{beside}", tuple(_choices(engines, ids)), remedy)


def _models(stem: str, name: str, dtype: str, source: Mapping[str, Any], wider: bool) -> tuple[list[str], str | None]:
    """Return the ids of the case's models, and the table that holds them if the bundled one does not."""
    if not source:
        return [name], None
    if not dtype:  # a folder whose weights are broken was not loaded, and runs in whatever dtype it has
        return [stem], "models:\n" + _row({"id": stem, **source})
    dtypes = [dtype, "float32" if dtype == "bfloat16" else "bfloat16"] if wider and dtype != "float32" else [dtype]
    ids = [f"{stem}-{each}" for each in dtypes]
    rows = ({"id": each, **source, "dtype": kind} for each, kind in zip(ids, dtypes, strict=True))
    return ids, "models:\n" + "".join(map(_row, rows))


def _quoted(value: Any) -> str:
    """Return a text or a list of numbers as YAML and JSON both write it: YAML takes U+2028 for the end of a line."""
    return visible(json.dumps(value, ensure_ascii=False))


def _row(row: Mapping[str, Any]) -> str:
    return "  - {" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in row.items()) + "}\n"


def _allowed(prompts: Mapping[str, Any]) -> Sequence[str]:
    """A case asks about two prompts; where one was diagnosed it stands twice, and has no baseline by construction."""
    return ["expect:", "  may_find: [BAS001]"] if prompts.get("clean") == prompts.get("corrupted") else []


def _choices(engines: Sequence[str], ids: Sequence[str]) -> Iterator[str]:
    if len(engines) > 1:
        yield from (f"--engine {each}" for each in engines)
    elif len(ids) > 1:
        yield from (f"--model {each}" for each in ids)
    else:
        yield ""


def table_file(file: Path) -> Path:
    """Return the file of the table beside a case."""
    return file.with_name(file.name.removesuffix(".case.yaml") + ".models.yaml")
