"""Rows in processes of their own: a row that crashes, hangs or fills the memory costs that row and no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import Any

from harness.support.interpreter import python, started

SECONDS = 600
"""Limit of a row: the slowest takes a tenth of this where nothing else runs."""
MEMORY = 8 << 30
"""Limit of a row in bytes: the largest small model takes 0.4 GB, some architectures in their released size 20 GB."""
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""A row has a core to itself, and idle threads of torch spin."""
_TAIL = 200
"""Characters of standard error that are told of a process without an answer."""


def in_processes(
    function: Callable[..., Any],
    calls: Iterable[Sequence[Any]],
    workers: int = 2,
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> Iterator[tuple[Any, str]]:
    """Yield, in the order of the calls, what the function returns and "", or None and why there is nothing.

    The function is one of a module; its arguments and its result are JSON types.
    """
    row_processes = _RowProcesses(seconds)
    commands = [
        python(
            "-m", "harness.laws.grid", str(memory), function.__module__, function.__qualname__, json.dumps(list(call))
        )
        for call in calls
    ]
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(row_processes.answer, commands)
        finally:
            row_processes.stop()


@dataclass
class _RowProcesses:
    """The processes that run now, so that an interrupt ends them."""

    seconds: float
    running: set[subprocess.Popen[str]] = field(default_factory=set)
    stopped: bool = False

    def answer(self, command: list[str]) -> tuple[Any, str]:
        """Return what a process prints, or None and what was seen instead."""
        with TemporaryFile("w+", errors="replace") as out, TemporaryFile("w+", errors="replace") as err:
            process = started(command, out, err, **_ONE_THREAD)
            self.running.add(process)
            try:
                if self.stopped:
                    _kill(process)
                ended = process.wait(self.seconds)
                out.seek(0)
                return json.load(out), ""
            except subprocess.TimeoutExpired:
                _kill(process)
                process.wait()
                return None, f"no answer in {self.seconds:g} s"
            except json.JSONDecodeError:
                err.seek(0)
                return None, f"the process ended with {ended}: {err.read().strip()[-_TAIL:]}"
            finally:
                self.running.discard(process)

    def stop(self) -> None:
        """End every process that runs, and the one that a thread is about to start."""
        self.stopped = True
        for process in list(self.running):
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
