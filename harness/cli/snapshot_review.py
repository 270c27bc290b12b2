"""The review of candidates: one at a time, old beside new, and a key that decides."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich import box
from rich.table import Table
from rich.text import Text

from harness.cli.output import complain
from harness.results.reports.terminal import console
from harness.snapshots import Difference, Snapshot, SnapshotPlace, SnapshotTolerance, candidates, differences
from harness.snapshots.file import read
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_PASSED, EXIT_USAGE, SnapshotUnreadable, UsageError

Tolerances = tuple[SnapshotTolerance, SnapshotTolerance]
"""Within one backend, and between two."""

_SHOWN = 20
_KEYS = {"a": "accepted", "r": "rejected", "s": "skipped", "q": "skipped"}


class Review:
    """Takes candidates one by one to a decision; what was decided before an interruption stays decided."""

    def __init__(self, results: Path, accept_all: bool):
        self.results, self.accept_all = results, accept_all
        self.console = console()
        self.counts = dict.fromkeys(("accepted", "rejected", "skipped", "refused"), 0)

    def of(self, waiting: Sequence[tuple[SnapshotPlace, Tolerances]]) -> int:
        """Return the exit code: 0 when all were decided."""
        for number, (place, tolerances) in enumerate(waiting, start=1):
            title = f"{number} of {len(waiting)}: {place.case}[{place.job}] on {place.backend}"
            self.console.print(Text(title, style="bold"))
            key = self._one(place, tolerances)
            if key == "q":
                self.counts["skipped"] += len(waiting) - number
                break
        click.echo(", ".join(f"{count} {name}" for name, count in self.counts.items() if count) or "no candidate waits")
        if self.counts["refused"]:
            return EXIT_USAGE
        return EXIT_FINDINGS if self.counts["skipped"] else EXIT_PASSED

    def _one(self, place: SnapshotPlace, tolerances: Tolerances) -> str:
        try:
            new = candidates.read(place, self.results)
            self._show(place, new, tolerances)
            key = "a" if self.accept_all else _key()
            self._decide(key, place)
        except (UsageError, OSError) as error:
            self.counts["refused"] += 1
            complain(str(error))
            return ""
        self.counts[_KEYS[key]] += 1
        return key

    def _decide(self, key: str, place: SnapshotPlace) -> None:
        if key == "a":
            click.echo(f"stored as {candidates.accept(place, self.results)}")
        elif key == "r":
            candidates.withdraw(place, self.results)

    def _show(self, place: SnapshotPlace, new: Snapshot, tolerances: Tolerances) -> None:
        same, wide = tolerances
        name, old = _compared_with(place)
        if old is None:
            self.console.print(Text(f"  {name}"))
        else:
            own = name == place.location.name
            self._print(name, differences(old, new, None if own else new.within(wide)), same if own else wide)
        for line in _provenance(old, new):
            self.console.print(Text(line))

    def _print(self, name: str, moved: Sequence[Difference], tolerance: SnapshotTolerance) -> None:
        limits = f"{tolerance.recovery_points:g} points, baselines {100 * tolerance.baseline_relative:g} %"
        if not moved:
            self.console.print(Text(f"  everything is within the tolerance of {name} ({limits})"))
            return
        table = Table(title=f"beyond the tolerance of {limits}", box=box.SIMPLE_HEAD, title_justify="left")
        for heading in ("where", name, "candidate", "difference"):
            table.add_column(heading, overflow="fold")
        for each in moved[:_SHOWN]:
            table.add_row(*map(Text, (str(each.where), _plain(each.old), _plain(each.new), each.change)))
        self.console.print(table)
        if len(moved) > _SHOWN:
            self.console.print(f"  and {len(moved) - _SHOWN} more")


def _plain(value: object) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _compared_with(place: SnapshotPlace) -> tuple[str, Snapshot | None]:
    """Return what is stored for this backend, or else for the reference, with its name; or why there is neither."""
    nearest = place.nearest()
    if nearest is None:
        return "nothing is stored for this job", None
    try:
        return nearest.location.name, read(nearest.location)
    except SnapshotUnreadable as error:
        return str(error), None


def _provenance(old: Snapshot | None, new: Snapshot) -> list[str]:
    """Where the numbers come from: `mlx 0.32.3 -> 0.32.4`, and once what did not change."""
    was = old.provenance if old else {}
    told = {key: [*dict.fromkeys((was.get(key, value), value))] for key, value in new.provenance.items()}
    return [f"  {key} {' -> '.join(map(str, values))}" for key, values in told.items()]


def _key() -> str:
    """Return the key that decides: one key at a terminal, one word a line from a pipe; its end skips the rest."""
    while True:
        click.echo("accept, reject, skip or quit? [a/r/s/q] ", nl=False)
        key = _pressed()
        click.echo(key)
        if key in _KEYS:
            return key


def _pressed() -> str:
    if sys.stdin.isatty():
        return click.getchar().lower()
    line = sys.stdin.readline()
    return line.strip()[:1].lower() if line else "q"
