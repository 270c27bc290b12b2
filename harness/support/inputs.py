"""Reading a file that somebody names: a regular file, up to a stated size.

A pipe would hold the command up, a device never ends, and a file of another kind may be larger than the memory.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from harness.vocabulary.errors import UsageError

MOST_BYTES = 256 << 20
"""The largest text that is read whole: a result of some 100,000 jobs."""


class UnreadableInput(UsageError):
    """A file that cannot be read; `reason` says why, without its name."""

    def __init__(self, file: Path, reason: str):
        self.file, self.reason = file, reason
        super().__init__(f"{file}: {reason}")


def read_input(file: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file of at most so many bytes. Raises UnreadableInput."""
    checked_size(file)
    try:
        # Whoever exchanges the file for a pipe now does not hold us up either.
        with open(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UnreadableInput(file, "is not a regular file")
            content = stream.read(most + 1)
    except OSError as error:
        raise UnreadableInput(file, f"cannot be read: {error.strerror or error}") from None
    if len(content) > most:
        raise UnreadableInput(file, f"larger than {most:,} bytes")
    return content


def checked_size(file: Path) -> int:
    """Return the bytes of a regular file. Raises UnreadableInput for whatever is none."""
    try:
        status = os.stat(file)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        if getattr(error, "errno", 0) in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise UnreadableInput(file, "does not exist") from None
        raise UnreadableInput(file, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableInput(file, "is a folder; a file is needed here")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableInput(file, "is not a regular file")
    return status.st_size
