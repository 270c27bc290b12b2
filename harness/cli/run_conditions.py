"""What a run may ask for beyond its selection: the jobs of a result file, a device, the last run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.vocabulary.errors import DeviceUnavailable, NothingToRun, UsageError

if TYPE_CHECKING:
    from harness.jobs.planning import Job
    from harness.vocabulary import RunResult

LAST = "last.json"
"""In the results folder: the result of the last run, for `--failed`."""


def failed_in_last(jobs: Sequence[Job], file: Path) -> list[Job]:
    """Return the jobs that failed in a result file, or that its run did not reach, and say which of them are not here.

    Raises NothingToRun when none is left.
    """
    failed, known = _failed(file), {job.id for job in jobs}
    if gone := [name for name in failed if name not in known]:
        click.echo(f"harness: failed in {file} and not selected now: {', '.join(gone)}", err=True)
    wanted = set(failed)
    if left := [job for job in jobs if job.id in wanted]:
        return left
    raise NothingToRun(f"none of the selected jobs failed in {file}, or was left out by it")


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
