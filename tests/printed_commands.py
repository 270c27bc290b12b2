"""Commands that the product prints, as a reader would find and type them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click

from harness.casefile import SUFFIX
from harness.cli import cli
from harness.engines import NAMES
from harness.laws import LAWS
from harness.laws.conformance.rows import rows_named
from harness.models import load_table, row_named
from harness.support.configuration import is_bundled
from harness.vocabulary import is_code
from harness.vocabulary.errors import HarnessError
from harness.vocabulary.findings import FINDINGS

_SPAN = re.compile(r"`(harness [^`]+)`")
_LINE = re.compile(r"^\s*(?:[$>] |run: |- run: |Where it comes from: |Where a number comes from: )?(harness [a-z].*)$")
_ENDS = re.compile(r"\s(?:#|\|\||&&|;|\||>)\s.*$|\s#.*$")
# Words that stand for one of the reader's own, and one of them.
PLACEHOLDERS = {
    "FILE": "file.json", "FILE.html": "file.html", "FILES": "a.json", "RUN.json": "a.json", "A.json": "a.json",
    "B.json": "b.json", "BASE": "a.json", "NEW": "b.json", "CODE": "FIN001", "MODEL": "dial-tiny-f32",
    "M": "dial-tiny-f32", "ENGINE": "native", "X": "native", "FOLDER": ".", "[PATHS]": "bundled",
    "ID": "smollm2-135m-f16",
    "1/N": "1/2", "TEXT": "a", "DIR": ".", "N": "2", "...": "a", "{name}": "native", "QUANTISED": ".", "ORIGINAL": ".",
    "MODEL-bf16": "dial-152k-bf16", "./model": ".", "path/to/model": ".",
}  # fmt: skip
_FILLED = re.compile(r"\$\{\{.*\}\}")
_VALUES = {"--json": ["a.json"], "--report": ["a.json"], "--save-case": ["a.case.yaml"], "--write-known": ["a.yaml"],
           "--shard": ["1/2"], "--engine": ["native"], "--row": ["llama"]}  # fmt: skip
_NOT_HERE = "MLX has no gpu here"


def commands_in(text: str) -> Iterator[str]:
    """Yield `harness ...` of code spans, and of lines that are one command."""
    for line in text.replace("\\\n", " ").splitlines():
        spans = _SPAN.findall(line)
        yield from spans
        if (
            not spans
            and (found := _LINE.match(line))
            and not re.match(r"harness: |harness [a-z]+ [a-z]+ [a-z]+ ", found[1])
        ):
            yield _ENDS.sub("", found[1]).strip()


def words_of(command: str) -> list[str]:
    """Return the words that a shell would hand over, with words of our own for those that stand for the reader's."""
    given = shlex.split(_ENDS.sub("", command))
    pairs = pairwise(given)
    # Dots are a value after an option, and nothing elsewhere.
    words = [PLACEHOLDERS.get(word, word) for last, word in pairs if word != "..." or last.startswith("-")]
    words = [word for word in (_FILLED.sub("cpu", word) for word in words) if not word.startswith("$")]
    # An option that a sentence names without its value.
    return [*words, *_VALUES.get(words[-1] if words else "", [])]


def fault_of(command: str, placeholders: bool = False) -> str | None:
    """Return why a command would be refused before it runs, or None. Files must be there unless `placeholders`."""
    try:
        context, found = _context(words_of(command) if placeholders else shlex.split(command)[1:], placeholders)
    except (click.UsageError, HarnessError, ValueError) as error:
        # What a sentence leaves out, the reader adds.
        if _NOT_HERE in str(error) or (placeholders and isinstance(error, click.MissingParameter)):
            return None
        return f"{command}\n    {getattr(error, 'message', error)}"
    if context is None:
        return None
    try:
        for name, values in context.params.items():
            for value in values if isinstance(values, tuple) else (values,):
                if value is not None and (problem := _problem(found, name, value, context, placeholders)):
                    return f"{command}\n    {problem}"
    except HarnessError as error:
        return f"{command}\n    {error}"
    return None


def _context(words: list[str], lenient: bool) -> tuple[click.Context | None, str]:
    """Return the context of the innermost command, parsed, and its path; None for a group or an option alone."""
    command: click.Command = cli
    context, path = click.Context(cli, info_name="harness"), []
    while isinstance(command, click.Group):
        if not words or words[0] in ("--help", "-h", "--version"):
            return None, ""
        _, inner, words = command.resolve_command(context, list(words))
        assert inner is not None
        path.append(str(inner.name))
        if lenient and len(words) == 0:  # the name of a command, in a sentence
            return None, ""
        context, command = click.Context(inner, parent=context, info_name=inner.name), inner
    if "--help" in words:
        return None, ""
    return command.make_context(path[-1], words, parent=context.parent), " ".join(path)


def _problem(command: str, name: str, value: object, context: click.Context, lenient: bool) -> str | None:
    text = str(value)
    if name in ("models", "model", "name") and command in ("run", "list", "show", "patch", "diagnose", "doctor"):
        tables = context.params.get("tables") or ()
        if lenient and not all(Path(table).exists() for table in tables):
            return None  # the reader's own table has it
        if not any(mark in text for mark in "*?:"):
            row_named(text, load_table(map(Path, tables)))
    elif name in ("engine", "engines", "also") and command not in ("init", "compare"):
        return None if text in NAMES or is_code(text) else f"{text} is no engine"
    elif name == "what" and command == "explain":
        return None if re.fullmatch(r"[A-Z]{3}\d{3}", text) is None or text in FINDINGS else f"{text} is no code"
    elif name == "only" and command == "conformance":
        return None if text in LAWS else f"{text} is no law"
    elif name == "names" and command == "conformance":
        rows_named([text])
    elif name in ("paths", "case", "tables", "known", "result", "base", "new", "files") and not lenient:
        there = is_bundled(text) or Path(text).exists() or (name == "case" and not text.endswith(SUFFIX))
        return None if there else f"{text} is not there"
    return None
