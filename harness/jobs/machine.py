"""What a run of the bundled cases says of the machine it ran on: how far its numbers drift, and what a walk saves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.jobs.planning import Job, tolerances
from harness.jobs.run import place_of
from harness.snapshots import Quantity, SnapshotPlace, SnapshotTolerance, snapshot_of
from harness.snapshots.file import read
from harness.vocabulary import Drift, Environment, JobResult, Reading, RunResult, Speed


def drift(jobs: Iterable[Job], run: RunResult) -> tuple[Drift, ...]:
    """Return, by dtype, how far the numbers of a run are from what is stored: for its backend, or for the nearest one.

    Jobs that have nothing stored, or no numbers, are left out.
    """
    results = {job.id: job for job in run.jobs}
    found: dict[tuple[str, str], list[Drift]] = defaultdict(list)
    for job in jobs:
        result, place = results.get(job.id), place_of(job)
        nearest = place.nearest() if job.has_snapshot else None
        if result and result.card and result.curves and nearest:
            one = _of_job(job, result, run.environment, place, nearest)
            found[one.dtype, one.against].append(one)
    return tuple(_together(found[key]) for key in sorted(found))


def _of_job(
    job: Job, result: JobResult, environment: Environment, place: SnapshotPlace, nearest: SnapshotPlace
) -> Drift:
    assert result.card is not None
    here, elsewhere = tolerances(job, result)
    within = here if nearest == place else elsewhere
    old, new = read(nearest.location).numbers(), snapshot_of(result, environment, here).numbers()
    moved = {where: share for where in old if (share := _moved(where, old, new)) is not None}
    points = max((each for where, each in moved.items() if not where.is_baseline), default=0.0)
    relative = max((each for where, each in moved.items() if where.is_baseline), default=0.0)
    worst = max(moved, key=lambda where: _used(moved[where], where, within), default=None)
    used = _used(moved[worst], worst, within) if worst else 0.0
    dtype = result.card.dtype + (f", {result.card.quantization}" if result.card.quantization else "")
    return Drift(dtype, nearest.backend, 1, points, relative, used, f"{job.id} {worst}")


def _moved(
    where: Quantity, old: Mapping[Quantity, tuple[Reading, str]], new: Mapping[Quantity, tuple[Reading, str]]
) -> float | None:
    """Return how far a number moved, in points or as a share; None where either side has none."""
    was, now = old[where][0].value, new[where][0].value if where in new else None
    if was is None or now is None:
        return None
    size = max(abs(was), abs(now)) if where.is_baseline else 1.0
    return abs(now - was) / size if size else 0.0


def _used(moved: float, where: Quantity, within: SnapshotTolerance) -> float:
    limit = within.of(where)
    return moved / limit if limit else float(moved > 0)


def _together(found: Sequence[Drift]) -> Drift:
    worst = max(found, key=lambda each: each.used)
    return Drift(
        worst.dtype,
        worst.against,
        len(found),
        max(each.points for each in found),
        max(each.relative for each in found),
        worst.used,
        worst.worst,
    )


def speeds(jobs: Iterable[JobResult]) -> tuple[Speed, ...]:
    """Return what each sweep took that a case asks for in both strategies, of one model through one engine."""
    taken: dict[tuple[str, str, str], dict[str | None, float]] = defaultdict(dict)
    for job in jobs:
        if job.sweep and job.sweep.strategy == job.strategy and "sweep_s" in job.timings:
            taken[job.case_file, job.model, job.engine][job.strategy] = job.timings["sweep_s"]
    return tuple(_speeds(taken))


def _speeds(taken: Mapping[tuple[str, str, str], Mapping[str | None, float]]) -> Iterator[Speed]:
    for (file, model, _), by_strategy in taken.items():
        if {"one-pass", "stepwise"} <= by_strategy.keys():
            case = file.replace("\\", "/").rpartition("/")[2].removesuffix(".case.yaml")
            yield Speed(case, model, by_strategy["one-pass"], by_strategy["stepwise"])
