"""A file for every reader: the suffix chooses the report, from the result alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.support.files import write_text
from harness.vocabulary import RunResult
from harness.vocabulary.errors import UsageError


def _json(run: RunResult) -> str:
    from harness.results.json import dumps

    return dumps(run)


def _html(run: RunResult) -> str:
    from harness.results.reports.html import render

    return render(run)


def _markdown(run: RunResult) -> str:
    from harness.results.reports.markdown import render

    return render(run)


def _annotations(run: RunResult) -> str:
    from harness.results.reports.annotations import render

    return render(run)


REPORTS: Mapping[str, Callable[[RunResult], str]] = {
    "json": _json,
    "html": _html,
    "markdown": _markdown,
    "annotations": _annotations,
}
SUFFIXES = {".json": "json", ".html": "html", ".htm": "html", ".md": "markdown"}


def kind_of(path: Path) -> str:
    """Return which report a file's suffix asks for. Raises UsageError for one that none has."""
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path}: no report is written as {path.suffix or 'a file without a suffix'!r}; {_known()}")
    return kind


def check_writable(path: Path) -> None:
    """Raise UsageError if a file cannot be written: before the hour of work, not after it."""
    parent = path.absolute().parent
    if path.is_dir():
        raise UsageError(f"{path} is a folder")
    if not parent.is_dir():
        raise UsageError(f"{path}: the folder {parent} does not exist")
    if not os.access(parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UsageError(f"{path} cannot be written")


def write(run: RunResult, path: Path) -> None:
    """Write the report that a file's suffix asks for. Raises UsageError; an old file is replaced whole or kept."""
    text = REPORTS[kind_of(path)](run)
    try:
        write_text(path, text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def _known() -> str:
    return f"known: {', '.join(SUFFIXES)}"
