"""Standard error as a screen: what goes on is one line there, and taken away; standard output holds results only.

On a terminal the line is drawn again and again; elsewhere it is written every ten seconds in which nothing else was.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

from harness.support import progress
from harness.support.screen import Screen
from harness.vocabulary.visible import visible

DRAWN, WRITTEN = 0.1, 10.0
"""Seconds between two drawings on a terminal, and between two lines elsewhere."""


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


@contextmanager
def waiting(quiet: bool = False) -> Iterator[ProgressLine]:
    """Show what goes on inside the block; what is printed there meanwhile stands above the line."""
    with own_stderr() as stream:
        line = ProgressLine(stream, quiet)
        with progress.listening(line.say), line:
            yield line


@contextmanager
def rows_shown(total: int, verbose: bool = False, bad: str = "") -> Iterator[RowsLine]:
    """Show how many rows of a table are done inside the block; `bad` names those that are counted apart."""
    with waiting() as line:
        yield RowsLine(line, total, verbose, bad)


class RowsLine:
    """The progress of a table: each row begins and ends; with `verbose` the ended ones stay on the screen."""

    def __init__(self, line: ProgressLine, total: int, verbose: bool, bad: str) -> None:
        self.line, self.total, self.verbose, self.bad = line, total, verbose, bad
        self.done, self.apart = 0, 0

    def begins(self, name: str) -> None:
        self.line.at(self.done, self.total, name, f"{self.apart} {self.bad}" if self.apart else "")

    def ended(self, said: str, apart: bool = False) -> None:
        self.done += 1
        self.apart += apart
        self.begins(self.line.name)
        if self.verbose:
            self.line.note(f"{self.done}/{self.total} {said}")


class ProgressLine:
    """`3/24  1:05  2 failed  case[native@model]  layer 7/60`: the end of the line is what stays where room is short.

    Without jobs, the count is that of the phase. Usable from several threads. `phase_elsewhere` is asked for the phase
    of a job in another process.
    """

    def __init__(self, stream: TextIO, quiet: bool = False) -> None:
        self.stream = stream
        self.drawn = is_terminal(stream) and not quiet
        self.period = DRAWN if self.drawn else WRITTEN
        self.jobs, self.apart, self.name = (0, 0), "", ""
        self._phase = progress.Phase()
        self.phase_elsewhere: Callable[[], progress.Phase | None] = lambda: None
        self._since, self._last = time.monotonic(), time.monotonic()
        self._shown, self._inside = False, False
        self._lock, self._end = threading.RLock(), threading.Event()
        self._redraws = None if quiet else threading.Thread(target=self._redraw, daemon=True)
        self._above = ExitStack()

    def __enter__(self) -> ProgressLine:
        if self.drawn:
            for name in ("stdout", "stderr"):
                if (stream := getattr(sys, name)) is not None and stream.isatty():
                    setattr(sys, name, _Above(stream, self))
                    self._above.callback(setattr, sys, name, stream)
        if self._redraws:
            self._redraws.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._redraws:
            self._redraws.join(timeout=1.0)
        self._above.close()
        with self._lock:
            self.erase()

    def say(self, what: str, done: int = 0, total: int = 0) -> None:
        """Take what `harness.support.progress` says of the current phase."""
        self._phase = progress.Phase(what, done, total)

    def at(self, done: int, total: int, name: str = "", apart: str = "") -> None:
        """Say how many jobs are done, which one goes on now, and how many did not go well."""
        self.jobs, self.name, self.apart, self._phase = (done, total), name, apart, progress.Phase()

    def note(self, text: str) -> None:
        """Write a line that stays, above this one."""
        with self._lock:
            self.erase()
            print(text, file=self.stream, flush=True)
            self._last = time.monotonic()

    def erase(self) -> None:
        """Take the line off the screen, for somebody who writes there."""
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    def written(self, text: str) -> None:
        """Know that somebody wrote to the screen: a line that has not ended is not to be drawn over."""
        if text:
            self._inside = not text.endswith("\n")

    def text(self, width: int | None = None) -> str:
        """Return the line, in at most `width` columns."""
        phase, done, total = self.phase_elsewhere() or self._phase
        here = _count(done, total)
        if self.jobs[1]:
            count, what = _count(*self.jobs), f"{self.name}  {phase} {here}"
        else:
            count, what = here, phase
        seconds = int(time.monotonic() - self._since)
        head = "  ".join(filter(None, [count, f"{seconds // 60}:{seconds % 60:02}", self.apart]))
        what = visible(what.strip())
        if width is not None:
            what = _end_of(what, width - len(head) - 2)
        return f"{head}  {what}".rstrip()

    def _redraw(self) -> None:
        while not self._end.wait(self.period):
            with self._lock:
                if self.drawn and not self._inside:
                    self._write(f"\r{self.text(_columns(self.stream) - 1)}\x1b[K")
                    self._shown = True
                elif not self.drawn and time.monotonic() - self._last >= self.period:
                    self.note(self.text())

    def _write(self, text: str) -> None:
        """Write escapes of ours: a `Screen` shows those that come through its own door."""
        stream: Any = getattr(self.stream, "rich_proxied_file", self.stream)
        stream.write(text)
        stream.flush()


class _Above:
    """A stream of the terminal on which a line is drawn: what is written there stands above the line."""

    def __init__(self, stream: TextIO, line: ProgressLine) -> None:
        self._stream, self._line = stream, line

    def write(self, text: str) -> int:
        with self._line._lock:
            self._line.erase()
            self._line.written(text)
            written = self._stream.write(text)
            self._stream.flush()
            return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _count(done: int, total: int) -> str:
    """Return how many of how many; in percent where that is shorter, and what nobody knows the end of alone."""
    if total >= 100_000:
        return f"{100 * done // total} %"
    return f"{done}/{total}" if total else str(done) if done else ""


def _end_of(text: str, room: int) -> str:
    """Return the end of a text, in at most `room` columns; letters of the far east take two."""
    from rich.cells import cell_len

    if cell_len(text) <= room:
        return text
    while text and cell_len(text) >= room:
        text = text[1:]
    return f"…{text}" if room > 0 else ""


def _columns(stream: TextIO) -> int:
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns or shutil.get_terminal_size().columns
