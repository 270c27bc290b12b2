"""Python processes of our own, which import nothing for the name that a file of the working directory has.

`python -m` and `python -c` put the working directory first on `sys.path`, so that a stranger's `./json.py` would run.
A safe path leaves it out; the directory itself stays, so that relative paths mean the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

_SAFE_PATH, _OURS = "PYTHONSAFEPATH", "harness"
"""Any text in the variable makes a path safe; ours tells that it was not the user who asked for it."""


def python(*arguments: str) -> list[str]:
    """Return the command that runs this interpreter again, with a safe path."""
    return [sys.executable, "-P", *arguments]


def started(command: Sequence[str], out: IO[str], err: IO[str], **env: str) -> subprocess.Popen[str]:
    """Start what `python` returned without input, in a process group of its own, so that all of it can be ended."""
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True, process_group=0, env={**os.environ, **env}
    )


@contextmanager
def safe_children() -> Iterator[None]:
    """Give a safe path to the interpreters that somebody else starts inside the block, such as xdist its workers."""
    os.environ[_SAFE_PATH] = os.environ.get(_SAFE_PATH) or _OURS
    try:
        yield
    finally:
        leave_to_user()


def leave_to_user() -> None:
    """Let this process's children have the path that the user's environment gives them: an engine may start some."""
    if os.environ.get(_SAFE_PATH) == _OURS:
        del os.environ[_SAFE_PATH]


def without_working_directory(package: str) -> None:
    """Take the entry off `sys.path` that `python -m` put there, unless the package itself was found through it.

    `package` is the folder of the package that was started.
    """
    if not sys.flags.safe_path and os.path.dirname(package) != sys.path[0]:
        del sys.path[0]
