"""What a run may ask for beyond its selection: the jobs of a result file, a device, an output, the last run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.vocabulary.errors import DeviceUnavailable, NothingToRun, UsageError, suggest

if TYPE_CHECKING:
    from harness.vocabulary import RunResult

LAST = "last.json"
"""In the results folder: the result of the last run, for `--failed`."""


def chosen_ids(jobs: Sequence[Any], ids: Sequence[str], failed_in: Path | None) -> tuple[str, ...]:
    """Return the ids of the jobs to run, all if none are asked for by id or by having failed.

    Raises UsageError for an id that no selected job has, NothingToRun when nothing failed.
    """
    known = [job.id for job in jobs]
    for name in ids:
        if name not in known:
            raise UsageError(f"no selected job has the id {name!r}; {suggest(name, known)}")
    if failed_in is None:
        return tuple(ids)
    failed = _failed(failed_in)
    wanted = [name for name in failed if name in known and (not ids or name in ids)]
    if gone := [name for name in failed if name not in known]:
        click.echo(f"harness: failed in {failed_in} and not selected now: {', '.join(gone)}", err=True)
    if not wanted:
        raise NothingToRun(f"none of the selected jobs failed in {failed_in}, or was left out by it")
    return tuple(wanted)


def _failed(file: Path) -> list[str]:
    """Return the jobs that failed, and those that an interrupted run or one with -x did not reach."""
    from harness.results.json import read
    from harness.vocabulary import Status

    if not file.exists():
        raise UsageError(f"{file} does not exist: there is no last run here; run without --failed, or name a result")
    run = read(file)
    fine = {job.id for job in run.jobs if job.status in (Status.PASSED, Status.SKIPPED)}
    # A shard planned the jobs of all shards and reached only its own.
    meant = run.planned if run.shard is None else [job.id for job in run.jobs]
    return [name for name in meant if name not in fine]


def remember(run: RunResult, results: Path) -> None:
    """Keep a run's result for `--failed`. Where that is not possible it is said, and the verdict stands."""
    from harness.results.json import write
    from harness.support.files import make_results_folder

    try:
        make_results_folder(results)
        write(run, results / LAST)
    except OSError as error:
        click.echo(
            f"harness: {results / LAST} cannot be written, so --failed will not know this run: {error}", err=True
        )


def refuse_other_device(wanted: str | None, asked: str | None = None) -> None:
    """Use the device that was asked for, UsageError if there is none.

    Raises DeviceUnavailable unless MLX then runs on `cpu`, any `gpu`, or a device or backend with that name in it.
    """
    from harness.environment.facts import environment, use_device

    if asked is not None:
        use_device(asked)
    if wanted is None:
        return
    here = environment()
    on_cpu = here.backend.startswith("cpu")
    kinds = {"cpu": on_cpu, "gpu": not on_cpu}
    name = wanted.lower()
    if not kinds.get(name, name in f"{here.backend} {here.device}".lower()):
        raise DeviceUnavailable(f"--require-device {wanted}: MLX runs on {here.device} (backend {here.backend}) here")
