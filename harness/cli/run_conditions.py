"""What a run may ask for beyond its selection: the jobs of a result file, a device, the last run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.output import complain
from harness.vocabulary.errors import DeviceUnavailable, NothingToRun, UsageError
from harness.vocabulary.visible import visible

if TYPE_CHECKING:
    from harness.jobs.planning import Job
    from harness.vocabulary import JobResult, RunResult

LAST = "last.json"
"""In the results folder: the result of the last run, for `--failed`."""


def failed_in_last(jobs: Sequence[Job], file: Path) -> tuple[list[Job], dict[str, JobResult]]:
    """Return the jobs that failed in a result file, or that its run did not reach, and every such result by its id.

    Raises NothingToRun when none of the jobs did.
    """
    earlier, known = _failed(file), {job.id for job in jobs}
    if left := [job for job in jobs if job.id in earlier]:
        return left, earlier
    gone = [name for name in earlier if name not in known]
    said = f"; not selected now: {visible(', '.join(gone))}" if gone else ""
    raise NothingToRun(f"none of the selected jobs failed in {file}, or was left out by it{said}")


def _failed(file: Path) -> dict[str, JobResult]:
    """Return the jobs that failed, and those that an interrupted run or one with -x did not reach."""
    from harness.results.json import read
    from harness.vocabulary import Status

    if not file.exists():
        raise UsageError(f"{file} does not exist: there is no last run here; run without --failed, or name a result")
    run = read(file)
    results = {job.id: job for job in run.jobs}
    # A shard planned the jobs of all shards and reached only its own.
    for name in run.planned if run.shard is None else ():
        results.setdefault(name, _unreached(name))
    return {name: job for name, job in results.items() if job.status not in (Status.PASSED, Status.SKIPPED)}


def _unreached(name: str) -> JobResult:
    from harness.vocabulary import JobResult, Status

    case, _, rest = name.removesuffix("]").partition("[")
    engine, _, model = rest.rpartition("@")
    return JobResult(name, case, "", model, engine, Status.INTERRUPTED, reason="not reached")


def remember(run: RunResult, results: Path, kept: Sequence[JobResult] = ()) -> None:
    """Keep a run's result for `--failed`, with failures of an earlier one that it has not run.

    Where that is not possible it is said, and the verdict stands.
    """
    from harness.results.json import write
    from harness.support.files import make_results_folder
    from harness.support.outputs import check_output

    ran = {job.id for job in run.jobs}
    kept = [job for job in kept if job.id not in ran]
    planned = tuple(sorted({*run.planned, *(job.id for job in kept)}))
    try:
        make_results_folder(results)
        check_output(results / LAST, ("result",))
        write(replace(run, jobs=(*run.jobs, *kept), planned=planned), results / LAST, within=results)
    except (OSError, UsageError) as error:
        complain(f"{results / LAST} cannot be written, so --failed will not know this run: {error}")


def refuse_other_device(wanted: str | None) -> None:
    """Raise DeviceUnavailable unless MLX runs on `cpu`, any `gpu`, or a device or backend with that name in it."""
    from harness.environment.facts import environment

    if wanted is None:
        return
    here = environment()
    on_cpu = here.backend.startswith("cpu")
    kinds = {"cpu": on_cpu, "gpu": not on_cpu}
    name = wanted.lower()
    if not kinds.get(name, name in f"{here.backend} {here.device}".lower()):
        raise DeviceUnavailable(f"--require-device {wanted}: MLX runs on {here.device} (backend {here.backend}) here")
