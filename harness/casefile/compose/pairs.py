"""`prompts: {file: pairs.jsonl}` - many pairs of prompts stand in a file of their own.

    {"clean": "a b", "corrupted": "a c"}        pairs.jsonl: what `prompts` may hold, one pair a line
    {"clean": [1, 2], "corrupted": [1, 3]}

    clean,corrupted,answer,wrong                pairs.csv: text, under a line of names; answers may be left empty
    a b,a c," d"," e"

The name counts from the file that says it, and leads nowhere outside the folder of the case. The pairs take the place
of the mapping in the case's document, as if the case had listed them, and each keeps its line: the rules of the case
language hold for them, and a fault is named by file and line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness.casefile.compose.include import outside
from harness.casefile.compose.overlay import overlaid
from harness.casefile.language.fields import StrictModel
from harness.casefile.language.prompts import Pairs, Prompts
from harness.casefile.syntax.document import Document, KeyPath, Location, shown
from harness.casefile.syntax.yamlfile import read_text
from harness.casefile.validation.validate import validate
from harness.vocabulary.errors import CaseFileError, Problem, UsageError, suggest
from harness.vocabulary.words import number_of

# Some 20,000 pairs of sentences; each is a sweep of its own.
MAX_BYTES = 4 * 1024 * 1024

REQUIRED, OPTIONAL = ("clean", "corrupted"), ("answer", "wrong")
"""The columns of a table of pairs."""

Row = tuple[int, Any]
"""The line on which a pair begins, and what stands there."""

_AT: KeyPath = ("prompts", "file")


def with_pairs(document: Document) -> tuple[Document, list[Problem]]:
    """Return a case's document with the pairs of the file that its `prompts` names, and every problem of that file."""
    match document.data.get("prompts"):
        case {"file": str(name), **beside} if not beside:
            pass
        case _:
            return document, []  # validation says what is no name of a file, or has no place beside one
    target = document.place(_AT).file.parent / name
    if refusal := outside(name, target, document.path.parent, "name a file"):
        return document, [document.problem(_AT, refusal)]
    try:
        rows, problems = read_rows(target)
    except CaseFileError as error:
        return document, list(error.problems)
    except UsageError as error:
        return document, [document.problem(_AT, f"{name}: {str(error).removeprefix(f'{target}: ')}")]
    return overlaid(document, _listed(document, target, rows)) if rows else document, problems


def _listed(document: Document, file: Path, rows: list[Row]) -> Document:
    places: dict[KeyPath, Location] = {("prompts",): document.place(("prompts",))}
    for index, (line, _) in enumerate(rows):
        places["prompts", index] = Location((line, 1), (line, 1), file, ())
    return Document(document.path, {"prompts": [pair for _, pair in rows]}, places)


class _Listed(StrictModel):
    prompts: Pairs


def load_pairs(file: Path) -> tuple[Prompts, ...]:
    """Return the pairs in a file that no case names.

    UsageError if it cannot be read, CaseFileError with every fault of its content, as file:line.
    """
    rows, problems = read_rows(file)
    if not rows:
        raise CaseFileError(problems)
    start = Location((1, 1), (1, 1), file, ())
    document = _listed(Document(file, {}, {(): start}), file, rows)
    try:
        listed = validate(TypeAdapter(_Listed), replace(document, places={(): start, **document.places})).prompts
    except CaseFileError as error:
        problems += error.problems
    if problems:
        raise CaseFileError(problems)
    assert isinstance(listed, tuple)
    return listed


def read_rows(file: Path) -> tuple[list[Row], list[Problem]]:
    """Return the pairs in a file, each with its line, and a problem for every line that holds none.

    UsageError if the file cannot be read or is of no known kind, CaseFileError if it is no text.
    """
    if file.suffix not in _READERS:
        raise UsageError(f"{file}: pairs stand in a file that ends in {' or '.join(_READERS)}")
    problems: list[Problem] = []
    rows = [*_READERS[file.suffix](file, read_text(file, MAX_BYTES), problems)]
    if not rows and not problems:
        problems.append(Problem(str(file), 1, 1, "", "holds no pair of prompts"))
    return rows, problems


def _of_lines(file: Path, text: str, problems: list[Problem]) -> Iterator[Row]:
    for line, written in enumerate(text.split("\n"), 1):
        if not written.strip():
            continue
        try:
            pair = json.loads(written, object_pairs_hook=_once)
            json.dumps(pair, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            problems.append(Problem(str(file), line, error.colno, "", f"is not JSON: {error.msg}; one pair a line"))
        except UnicodeEncodeError:
            problems.append(Problem(str(file), line, 1, "", "holds half a character: one surrogate without the other"))
        except (ValueError, RecursionError) as error:
            problems.append(Problem(str(file), line, 1, "", f"is not a pair: {error}"))
        else:
            yield line, pair


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        names = [name for name, _ in items]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} stands in it twice")
    return found


def _of_table(file: Path, text: str, problems: list[Problem]) -> Iterator[Row]:
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] | None = None
    while True:
        line = table.line_num + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            problems.append(Problem(str(file), line, 1, "", f"is no line of a table: {error}"))
            return
        if not cells:
            continue
        if columns is None:
            columns = cells
            problems += (Problem(str(file), line, 1, "", each) for each in _faults_of_names(columns))
            if problems:
                return  # whatever follows would be read under the wrong names
        elif len(cells) != len(columns):
            problems.append(
                Problem(
                    str(file),
                    line,
                    1,
                    "",
                    f"has {number_of(len(cells), 'cell')} under {number_of(len(columns), 'name')}",
                )
            )
        else:
            yield line, {name: cell for name, cell in zip(columns, cells, strict=True) if cell or name in REQUIRED}


def _faults_of_names(columns: list[str]) -> Iterator[str]:
    for name in REQUIRED:
        if name not in columns:
            yield f"the column {name!r} is missing; the first line names the columns"
    for index, name in enumerate(columns):
        if name not in (*REQUIRED, *OPTIONAL):
            yield f"{shown(name)} is not a column; {suggest(name, (*REQUIRED, *OPTIONAL))}"
        elif name in columns[:index]:
            yield f"the column {name!r} is there twice"


_READERS: Mapping[str, Callable[[Path, str, list[Problem]], Iterator[Row]]] = {".jsonl": _of_lines, ".csv": _of_table}
