"""Standard output that never ends a command: its reader may go away, its disk may be full, its encoding may be narrow.

A verdict does not depend on who reads it. What cannot be written is dropped, and the command goes on to its exit code.
What is written does nothing there: `harness.support.screen`.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from harness.support.screen import Screen


class Sink(io.FileIO):
    """A file descriptor that takes everything; `problem` is the first error of writing to it."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        if self.problem is None:
            try:
                return super().write(data)
            except OSError as error:
                self.problem = error
        return len(data)


@contextmanager
def standing_output() -> Iterator[list[Sink]]:
    """Write standard output and error through sinks; yield that of the output, or nothing where it is closed."""
    before = sys.stdout, sys.stderr
    sinks: list[Sink] = []
    sys.stdout = _through(sys.stdout, sinks)
    sys.stderr = _through(sys.stderr, [])
    try:
        yield sinks
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def _through(stream: TextIO | None, sinks: list[Sink]) -> Any:
    if stream is None:  # the shell closed it: `>&-`; the next file opened would take its number
        return open(os.devnull, "w")
    stream.flush()
    sink = Sink(stream.fileno(), "w", closefd=False)
    sinks.append(sink)
    return Screen(io.BufferedWriter(sink), stream.encoding, line_buffering=bool(stream.line_buffering))


def lost(sinks: list[Sink]) -> str | None:
    """Return why output was lost, or None; a reader that went away has read what it wanted."""
    problem = next((sink.problem for sink in sinks if sink.problem is not None), None)
    if problem is None or problem.errno == errno.EPIPE:
        return None
    return f"standard output cannot be written: {problem.strerror}"
