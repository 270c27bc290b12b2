"""A command recorded on a real terminal (a pty) of a given width, and what a person saw there.

`Emulator` obeys what our commands write: text, new lines, carriage returns, and the escapes that erase and move. Any
other escape is an error, so that nothing is overlooked.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from project import environment

_PIECE = re.compile(r"\x1b\[(?P<args>[0-9;?]*)(?P<code>[a-zA-Z])|\x1b\](?:[^\x07]*)\x07|(?P<one>.)", re.DOTALL)


@dataclass
class Emulator:
    """A terminal of `columns`, as high as it needs to be. `frames` holds each line as it was before it was erased."""

    columns: int
    rows: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0
    frames: list[str] = field(default_factory=list)
    wrapped: list[str] = field(default_factory=list)
    """The lines that did not fit, as far as the edge."""

    def feed(self, text: str) -> Emulator:
        for piece in _PIECE.finditer(text):
            if piece["code"]:
                self._escape(piece["args"], piece["code"])
            elif piece["one"]:
                self._character(piece["one"])
        return self

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, without the blank lines at its end."""
        return "\n".join(line.rstrip() for line in self.rows).rstrip("\n").split("\n")

    def _character(self, one: str) -> None:
        if one == "\r":
            self.column = 0
        elif one == "\n":
            self.row += 1  # the terminal's driver has written \r before
            self.rows += [""] * (self.row + 1 - len(self.rows))
        elif one == "\x07":
            pass
        else:
            self._put(one, 0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1)

    def _put(self, one: str, width: int) -> None:
        if self.column + width > self.columns:
            self.wrapped.append(self.rows[self.row])
            self._character("\n")
            self.column = 0
        line = self.rows[self.row].ljust(self.column)
        self.rows[self.row] = line[: self.column] + one + line[self.column + width :]
        self.column += width

    def _escape(self, args: str, code: str) -> None:
        if code == "m" or args.startswith("?"):
            return  # colours; the cursor shown or not
        number = int(args or 0)
        if code == "K":
            line = self.rows[self.row]
            self.rows[self.row] = "" if number == 2 else line[: self.column]
            self.frames.append(self.rows[self.row] or line)
        elif code == "A":
            self.row = max(0, self.row - (number or 1))
        else:
            raise AssertionError(f"an escape that no command of ours needs: {args}{code}")


@dataclass(frozen=True)
class Recording:
    """How a command ended, the bytes that it wrote, and the screen that they made."""

    code: int
    shown: str
    screen: Emulator


def record(
    folder: Path, *args: str, columns: int = 120, keys: Callable[[str], str | None] = lambda shown: None,
    program: Sequence[str] = ("-m", "harness"), **variables: str,
) -> Recording:  # fmt: skip
    """Run a command on a pty; `keys` is asked what to type, given what was written so far."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    run = subprocess.Popen(
        [sys.executable, *program, *args], cwd=folder, stdin=slave, stdout=slave, stderr=slave,
        env=environment(**{"TERM": "xterm", **variables}), start_new_session=True, preexec_fn=_own_terminal,
    )  # fmt: skip
    os.close(slave)
    shown, typed, end = b"", False, time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:
                break
        elif run.poll() is not None:
            break
        if not typed and (text := keys(shown.decode(errors="replace"))):
            os.write(master, text.encode())
            typed = True
    os.close(master)
    text = shown.decode(errors="replace")
    return Recording(run.wait(timeout=30), text, Emulator(columns).feed(text))


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
