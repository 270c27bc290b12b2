"""Jobs that take too long: the process that owns the terminal ends the worker that runs such a job.

No signal handler ends native code, and a stopped process handles no signal at all; only SIGKILL, from outside, ends
both. xdist then reports the job as one that killed its worker, and starts another one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from harness.pytest_plugin.items import names_of
from harness.pytest_plugin.selecting import JobSelecting, from_harness_run, is_worker

_UNSEEN = 5.0
"""Seconds after which a dead worker is given up whose pipe a child of it holds open."""


_LAST_WORDS = 1.0
"""Seconds to wait for the end of what a dead worker has sent, whose pipe a child of it may hold open."""


class JobLimits:
    """The jobs that workers run now, until when they may, and which were ended."""

    def __init__(self, config: pytest.Config, selecting: JobSelecting):
        self.config, self.selecting = config, selecting
        self.overdue: dict[str, float] = {}
        """Node id -> the limit, in seconds, at which the job was ended."""
        self.unkept = False
        """Whether a limit was not kept, because the job runs in this process or is dealt out by somebody else."""
        self.running: set[str] = set()
        self.reported: set[str] = set()
        self.node_of: Callable[[str], Any] = lambda nodeid: None
        """Which worker has a job; the scheduler knows."""
        self.nodes: list[Any] = []
        self._due: dict[str, tuple[float, float]] = {}
        self._changed = threading.Condition()
        self._watch: threading.Thread | None = None
        if is_worker(config) and from_harness_run(config) and hasattr(os, "setpgid"):
            os.setpgid(0, 0)  # what a job starts ends with it

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        self.nodes.append(node)

    def limit_of(self, nodeid: str) -> float | None:
        """Return how many seconds a job may take: what its case says, else what the run says."""
        if names_of(nodeid) is None:
            return None
        job = self.selecting.job_named(nodeid)
        stated = job.case.timeout if job else None
        return stated if stated is not None else self.config.getoption("harness_job_timeout")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if is_worker(self.config):
            return
        limit = self.limit_of(nodeid)
        self.running.add(nodeid)
        if not self.config.getoption("numprocesses", None):
            self.unkept = self.unkept or limit is not None
            return
        if limit is None:
            return
        with self._changed:
            self._due[nodeid] = time.monotonic() + limit, limit
            self._changed.notify()
        if self._watch is None:
            self._watch = threading.Thread(target=self._end_what_is_due, daemon=True)
            self._watch.start()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed or report.skipped:
            self.running.discard(report.nodeid)
            self.reported.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        with self._changed:
            self._due.pop(nodeid, None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """End the workers, and read what they have sent: xdist waits ten seconds for one that is busy, and Ctrl-C has
        been pressed already."""
        for node in self.nodes:
            _kill(node)
        for node in self.nodes:
            node.gateway.join(_LAST_WORDS)

    def _end_what_is_due(self) -> None:
        while True:
            with self._changed:
                nodeid, (due, limit) = min(self._due.items(), key=lambda each: each[1], default=("", (None, 0.0)))
                wait = None if due is None else due - time.monotonic()
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                del self._due[nodeid]
            node = self.node_of(nodeid)
            self.unkept = self.unkept or node is None
            if node is not None:
                self.overdue[nodeid] = limit  # of no account where the job has sent its result and hangs afterwards
                _kill(node)
                threading.Thread(target=_give_up, args=(node,), daemon=True).start()


def ended_how(node: Any) -> str | None:
    """Return how the process of a worker ended while a job ran, or None where it did not or is no process of ours."""
    popen = _process_of(node)
    try:
        code = popen.wait(1) if popen is not None else None
    except subprocess.TimeoutExpired:
        return None
    if code is None:
        return None
    by = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"the process that ran this job ended with {by}"


def _kill(node: Any) -> None:
    """End a worker's process, and those that it started."""
    popen = _process_of(node)
    if popen is None or popen.poll() is not None:
        return
    with suppress(OSError):
        if os.name == "posix" and os.getpgid(popen.pid) == popen.pid:
            os.killpg(popen.pid, signal.SIGKILL)
    popen.kill()


def _process_of(node: Any) -> Any:
    return getattr(getattr(getattr(node, "gateway", None), "_io", None), "popen", None)


def _give_up(node: Any) -> None:
    from xdist.workermanage import Marker

    time.sleep(_UNSEEN)
    node.process_from_remote(Marker.END)  # does nothing for a worker that is known to be down
