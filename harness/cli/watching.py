"""What is seen while a run goes on: on a terminal a bar of jobs and what the current one does, elsewhere nothing.

It is drawn on standard error, so that standard output holds the verdict and nothing else. pytest captures both streams
while a job runs, so the bar has a copy of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import pytest

from harness.cli.screen import is_terminal, own_stderr, told
from harness.support import progress


@contextmanager
def watching(verbosity: int) -> Iterator[ProgressPlugin]:
    """Yield a pytest plugin that shows progress: a bar on a terminal; with verbosity 1 a line a job."""
    with own_stderr() as stream:
        watcher = ProgressPlugin(stream, verbosity)
        with progress.listening(watcher.listen), watcher.bar:
            yield watcher


class ProgressPlugin:
    """Counts jobs, in this process or over xdist's workers, and tells the bar."""

    def __init__(self, stream: TextIO, verbosity: int):
        self.stream, self.verbosity = stream, verbosity
        self.bar = _Bar(stream) if verbosity >= 0 and is_terminal(stream) else _NoBar(stream)
        self.begun: dict[str, float] = {}

    def listen(self, what: str, done: int, total: int) -> None:
        self.bar.detail(told(what, done, total))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.items:
            self.bar.start(len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self.bar.start(len(ids))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.begun[nodeid] = time.monotonic()
        self.bar.current(_name(nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome == "failed":
            status = getattr(report, "harness_job", {}).get("status", report.outcome)
            seconds = time.monotonic() - self.begun.get(report.nodeid, time.monotonic())
            self.bar.ended(status)
            if self.verbosity > 0:
                self.bar.line(f"{status:<8} {_name(report.nodeid)}  {seconds:.1f} s")


class _NoBar:
    """Nothing is drawn; lines that were asked for are written."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def start(self, total: int) -> None: ...

    def current(self, name: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def ended(self, status: str) -> None: ...

    def line(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


class _Bar(_NoBar):
    """rich's progress bar, taken away when the run ends."""

    def __init__(self, stream: TextIO):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        from harness.results.reports.terminal import console

        self.progress = Progress(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[bad]}", style="bold red", markup=False),
            TextColumn("{task.description}", markup=False),
            console=console(stream),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.task = self.progress.add_task("collecting", total=None, bad="")
        self.name, self.bad = "", 0

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def start(self, total: int) -> None:
        self.progress.update(self.task, total=total)

    def current(self, name: str) -> None:
        self.name = name
        self.progress.update(self.task, description=name)

    def detail(self, text: str) -> None:
        self.progress.update(self.task, description=f"{self.name}  {text}")

    def ended(self, status: str) -> None:
        self.bad += status not in ("passed", "skipped")
        self.progress.update(self.task, advance=1, bad=f"{self.bad} bad" if self.bad else "")

    def line(self, text: str) -> None:
        self.progress.console.print(text, markup=False)


def _name(nodeid: str) -> str:
    """Return `circuit[native@model]` for `cases/circuit.case.yaml::job[native@model]`."""
    return nodeid.rpartition("/")[2].replace(".case.yaml::job", "")
