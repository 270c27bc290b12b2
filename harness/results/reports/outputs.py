"""A file for every reader: the suffix chooses the report, from the result alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.support.files import write_text
from harness.support.outputs import kind_for
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


def _junit(run: RunResult) -> str:
    from harness.results.reports.junit import render

    return render(run)


REPORTS: Mapping[str, Callable[[RunResult], str]] = {
    "json": _json,
    "html": _html,
    "markdown": _markdown,
    "junit": _junit,
    "annotations": _annotations,
}
BY_KIND = {"result": "json", "html": "html", "markdown": "markdown", "junit": "junit"}
"""Kind of output -> the report that makes it."""


def write(run: RunResult, path: Path, report: str | None = None) -> None:
    """Write a report, that which the file's suffix asks for if none is named.

    Raises UsageError; an old file is replaced whole or kept.
    """
    text = REPORTS[report or BY_KIND[kind_for(path, tuple(BY_KIND))]](run)
    try:
        write_text(path, text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
