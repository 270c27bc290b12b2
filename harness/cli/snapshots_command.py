"""`harness snapshots`: what is stored, what waits for a review, and the only ways to change or remove any of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.help import Helped
from harness.cli.output import put_json
from harness.cli.parameters import device_option, printed_json_option, workers_option
from harness.cli.selection import LOOKING, selection_options, words_of
from harness.jobs.selection import Selection
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_PASSED, NothingToRun, UsageError
from harness.vocabulary.words import number_of

if TYPE_CHECKING:
    from harness.jobs.planning import Job
    from harness.snapshots import SnapshotPlace, SnapshotTolerance

_RESULTS = click.option(
    "--results", default="results", show_default=True, metavar="FOLDER", help="Folder with the candidates."
)


@click.group("snapshots")
def command() -> None:
    """Show, review, update or prune the stored numbers."""


@command.command("status", cls=Helped)
@selection_options(*LOOKING)
@device_option
@_RESULTS
@printed_json_option
def status(selection: Selection, results: str, json_file: Path | None) -> int:
    """List every job's snapshot on this machine's backend, and snapshots without a job.

    Ends with 1 where one is missing, stale, waiting for a review, or without a job. No code of yours is imported.
    """
    from harness.jobs.planning import unseen

    jobs = _whole_jobs(selection)
    rows = [_row(job, Path(results)) for job in jobs]
    orphans = _orphans(jobs, selection)
    rows += [{"job": "", "state": "orphan", "why": "no job is compared with it", "file": str(file)} for file in orphans]
    if json_file:
        put_json(rows, json_file)
    else:
        _print_rows(rows, replace(selection, allow_code=any(job.code for job in jobs)))
        for line in unseen(jobs):
            click.echo(line)
    return EXIT_FINDINGS if {row["state"] for row in rows} & set(_OPEN) else EXIT_PASSED


_OPEN = {
    "missing": ("store them with", "update --missing"),
    "stale": ("store them again with", "update --missing"),
    "candidate": ("look at them with", "review"),
    "orphan": ("remove them with", "prune"),
}
"""State -> what to do about it, and the command that does."""
_WHOLE_FOLDERS = ("paths", "tables")
"""What `prune` may be told: a filter would make the snapshots that it leaves out look like nobody's."""


def _remedy(state: str, selection: Selection) -> str:
    what, action = _OPEN[state]
    fields = {"prune": _WHOLE_FOLDERS, "review": LOOKING}.get(action, ())
    words = words_of(selection, *fields)
    return f"{what} `{' '.join(['harness snapshots', action, *map(shlex.quote, words)])}`"


def _row(job: Job, results: Path) -> dict[str, str]:
    from harness.snapshots.inventory import Standing, standing

    place = place_of(job)
    state, why = standing(_expected(job, place)) if job.has_snapshot else (Standing.NONE, "this job stores none")
    waiting = [each.candidate(results) for each in place.everywhere(results)]
    if waiting:
        return {
            "job": job.id,
            "state": "candidate",
            "why": f"{state.value}; {why}".rstrip("; "),
            "file": str(waiting[0]),
        }
    return {"job": job.id, "state": state.value, "why": why, "file": str(place.location)}


def _print_rows(rows: list[dict[str, str]], selection: Selection) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from harness.results.reports.terminal import console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("state", "job", "why", "file"):
        table.add_column(name, overflow="fold")
    here = Path.cwd()
    for row in rows:
        file = Path(row["file"])
        shown = file.relative_to(here) if here in file.parents else file
        table.add_row(*(Text(str(value)) for value in (row["state"], row["job"], row["why"], shown)))
    console().print(table)
    counts = {
        state: sum(row["state"] == state for row in rows) for state in dict.fromkeys(row["state"] for row in rows)
    }
    click.echo(", ".join(f"{count} {state}" for state, count in counts.items()) + f" (backend {_backend()})")
    for state in counts:
        if state in _OPEN:
            click.echo(f"{state}: {_remedy(state, selection)}")


@command.command("update", cls=Helped)
@selection_options()
@click.option("--missing", is_flag=True, help="Only jobs whose snapshot is missing or stale.")
@device_option
@workers_option
@click.option("--download", is_flag=True, help="Fetch models that are not on this machine.")
@_RESULTS
def update(selection: Selection, missing: bool, **options: Any) -> Any:
    """Run the selected jobs that store numbers, and store those that pass their other checks."""
    from harness.cli.run_command import RunOptions, run_jobs
    from harness.jobs.choosing import chosen_from, planned_jobs
    from harness.snapshots import refuse_in_ci
    from harness.snapshots.inventory import Standing, standing

    refuse_in_ci()
    _refuse_parts(selection)
    how = RunOptions(snapshot_update=True, **options)
    done = (Standing.STORED,) if missing else ()
    planned = planned_jobs(selection)
    jobs = [job for job in chosen_from(planned, selection) if job.has_snapshot]
    wanted = [job for job in jobs if standing(_expected(job, place_of(job)))[0] not in done]
    if not wanted:
        raise NothingToRun("every selected job has its snapshot" if missing and jobs else "no selected job stores one")
    return run_jobs(selection, planned, wanted, how)


@command.command("prune", cls=Helped)
@selection_options(*_WHOLE_FOLDERS)
@click.option("--gone", multiple=True, metavar="MODEL", help="This model has left the tables for good.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def prune(selection: Selection, gone: tuple[str, ...], yes: bool) -> int:
    """Remove snapshots that no job is compared with, after listing them.

    PATHS are folders of case files. A part of a folder is refused, and so is a model that no table here has: what was
    left out would look like nobody's.
    """
    from harness.jobs.case_files import refuse_installed
    from harness.jobs.choosing import jobs_of
    from harness.snapshots import refuse_in_ci

    refuse_in_ci()
    if files := [str(path) for path in selection.paths if not path.is_dir()]:
        raise UsageError(f"{', '.join(files)}: prune looks at whole folders of case files; give the folder")
    refuse_installed(selection.paths)
    orphans = _orphans(jobs_of(selection, looking=True), selection)
    for file in orphans:
        click.echo(str(file))
    _refuse_unknown_models(orphans, selection, gone)
    if not orphans:
        click.echo("no snapshot is without a job")
        return EXIT_PASSED
    if not yes and not click.confirm(f"Remove {number_of(len(orphans), 'file')}?"):
        click.echo("nothing was removed")
        return EXIT_FINDINGS
    for file in orphans:
        file.unlink()
        if not os.listdir(file.parent):
            file.parent.rmdir()
    click.echo(f"removed {number_of(len(orphans), 'file')}")
    return EXIT_PASSED


def _refuse_unknown_models(orphans: Iterable[Path], selection: Selection, gone: Collection[str]) -> None:
    """A case that means its models by a pattern has fewer jobs without their table, and says nothing of it."""
    from harness.models import load_table
    from harness.snapshots.inventory import model_of

    known = load_table(map(Path, selection.tables)).keys() | set(gone)
    if unknown := sorted({model for file in orphans if (model := model_of(file)) is not None} - known):
        raise UsageError(
            f"no table here has {', '.join(unknown)}, so these may be the snapshots of a job; nothing was removed. "
            f"Name the table with --models, or say --gone {unknown[0]} where the model has left it for good"
        )


@command.command("review", cls=Helped)
@selection_options(*LOOKING)
@device_option
@_RESULTS
@click.option("--accept-all", is_flag=True, help="Store every candidate without asking.")
def review(selection: Selection, results: str, accept_all: bool) -> int:
    """Look at each candidate beside what is stored, and accept, reject or skip it.

    Runs leave candidates in the results folder: of comparisons that fail, and of backends without a snapshot. Ends with
    1 while one is left to decide.
    """
    from harness.cli.snapshot_review import Review
    from harness.jobs.case_files import refuse_installed

    refuse_installed(selection.paths)
    jobs = _whole_jobs(selection)
    waiting = [(job, place) for job in jobs for place in place_of(job).everywhere(Path(results))]
    return Review(Path(results), accept_all).of([(place, _tolerances(job)) for job, place in waiting])


def _whole_jobs(selection: Selection) -> list[Job]:
    from harness.jobs.choosing import jobs_of

    _refuse_parts(selection)
    return jobs_of(selection, looking=True)


def _refuse_parts(selection: Selection) -> None:
    """A snapshot is of a whole job: a part of one is neither stored nor stale."""
    if selection.narrowed:
        raise UsageError("a snapshot holds every metric and component of its job; leave --metric and --component out")


def place_of(job: Job) -> SnapshotPlace:
    """Return where a job's snapshot on this machine's backend is."""

    from harness.snapshots import SnapshotPlace

    return SnapshotPlace(job.case.id, job.case.path, job.name, job.engine, job.row.id, _backend())


def _backend() -> str:
    from harness.environment.facts import backend

    return backend()


def _expected(job: Job, place: SnapshotPlace) -> Any:
    from harness.jobs.planning import metrics_of
    from harness.snapshots.inventory import Expected

    metrics = metrics_of(job)
    curves = frozenset((component, metric) for component in job.case.sweep.components for metric in metrics)
    return Expected(place, _tolerances(job)[0], curves, declared=not job.unseen_engine)


def _tolerances(job: Job) -> tuple[SnapshotTolerance, SnapshotTolerance]:
    from harness.jobs.planning import tolerances

    return tolerances(job)


def _orphans(jobs: Iterable[Job], selection: Selection) -> list[Path]:
    """Return the snapshots without a job beside the case files of these jobs, held against all case files there."""
    from harness.jobs.choosing import jobs_of
    from harness.snapshots import folder_of
    from harness.snapshots.inventory import orphans, owners

    folders = dict.fromkeys(folder_of(job.case.path) for job in jobs)
    everyone = {folder: jobs_of(Selection(tuple(owners(folder)), selection.tables), looking=True) for folder in folders}
    return [
        file
        for folder, theirs in everyone.items()
        for file in orphans(folder, (place_of(job) for job in theirs if job.has_snapshot))
    ]
