"""Standard error as a screen: what goes on is drawn there and taken away; standard output holds results only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from harness.support import progress
from harness.support.screen import Screen


@contextmanager
def own_stderr() -> Iterator[TextIO]:
    """Yield a copy of standard error that stays one when somebody captures the stream."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):
        yield sys.stderr  # somebody put an object without a file in its place
        return
    with Screen(os.fdopen(descriptor, "wb"), "utf-8") as stream:
        yield stream


def is_terminal(stream: TextIO) -> bool:
    """Return whether lines can be drawn and taken away there."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def told(what: str, done: int, total: int) -> str:
    """Return one line of what `harness.support.progress` says."""
    return f"{what} {done}/{total}" if total else what


@contextmanager
def waiting() -> Iterator[None]:
    """Show on a terminal what is going on inside the block, for a command that runs no jobs."""
    from rich.status import Status

    from harness.results.reports.terminal import console

    with own_stderr() as stream:
        if not is_terminal(stream):
            yield
            return
        with (
            Status("", console=console(stream)) as status,
            progress.listening(lambda *said: status.update(told(*said))),
        ):
            yield
