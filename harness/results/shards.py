"""Shards: a run in N parts on N machines, and the parts put together as if there had been one run.

The parts are drawn from the names of the jobs alone, so every machine draws the same ones without asking another. Jobs
of one model stay together as far as the parts come out even, because a model is loaded once for all of them.

Each part's result says which part it is and what the whole run had planned. So a part that is missing, given twice, or
cut from another plan is seen when they are put together, and never becomes a smaller run that passes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from harness.vocabulary import Environment, JobResult, RunResult, Status
from harness.vocabulary.errors import EXIT_NOTHING_RAN, EXIT_PASSED, UsageError
from harness.vocabulary.verdict import graver, of_run
from harness.vocabulary.words import number_of

MAX_SHARDS = 10_000
_WITHOUT = "planned and without a result"


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard written as `3/8`. Raises UsageError."""
        found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
        shard = cls(*map(int, found.groups())) if found else None
        if shard is None or not 1 <= shard.number <= shard.count <= MAX_SHARDS:
            raise UsageError(f"--shard {text}: expected I/N with I from 1 to N, such as 3/8")
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


class Task(NamedTuple):
    """A job as shards know it; its cost is relative to other jobs."""

    id: str
    model: str
    cost: int = 1


def members(shard: Shard, tasks: Iterable[Task]) -> set[str]:
    """Return the ids of a shard's jobs.

    A model that costs more than an even part is cut; then the dearest piece goes to the cheapest part, and so on.
    """
    tasks = sorted(tasks)
    even = -(-_cost(tasks) // shard.count)
    pieces = sorted((piece for jobs in _by_model(tasks) for piece in _cut(jobs, even)), key=_cost, reverse=True)
    parts: list[list[Task]] = [[] for _ in range(shard.count)]
    for piece in pieces:
        min(parts, key=_cost).extend(piece)
    return {task.id for task in parts[shard.number - 1]}


def _cost(tasks: Iterable[Task]) -> int:
    return sum(task.cost for task in tasks)


def _by_model(tasks: Iterable[Task]) -> Iterable[list[Task]]:
    grouped: dict[str, list[Task]] = {}
    for task in tasks:
        grouped.setdefault(task.model, []).append(task)
    return [grouped[model] for model in sorted(grouped)]


def _cut(tasks: Iterable[Task], limit: int) -> list[list[Task]]:
    pieces: list[list[Task]] = []
    for task in tasks:
        if pieces and _cost(pieces[-1]) + task.cost <= limit:
            pieces[-1].append(task)
        else:
            pieces.append([task])
    return pieces


Part = tuple[str, RunResult]
"""A shard's result and the name of its file."""


def merged(parts: Sequence[Part]) -> RunResult:
    """Return the run that these shards are the parts of, with one verdict.

    Raises UsageError when they are not all the parts of one run, each once.
    """
    _refuse_incomplete(parts)
    runs = [run for _, run in sorted(parts, key=lambda part: _shard_of(part).number)]
    planned = _plan(parts)
    jobs = tuple(sorted((job for run in runs for job in run.jobs), key=lambda job: (job.case_file, job.id)))
    _refuse_twice(jobs, parts)
    verdict, code, missing = held_to_plan(jobs, planned, *(run.verdict for run in runs))
    return RunResult(
        verdict=verdict,
        exit_code=code,
        environment=runs[0].environment,
        jobs=jobs,
        started=min(run.started for run in runs),
        duration_s=round(sum(run.duration_s for run in runs), 3),
        planned=planned,
        notes=tuple(_notes(runs, missing)),
        project=runs[0].project,
        repeat=runs[0].repeat,
    )


def _shard_of(part: Part) -> Shard:
    name, run = part
    if run.shard is None:
        raise UsageError(f"{name} is the result of a whole run, not of a shard; give results of `harness run --shard`")
    return Shard.parse(run.shard)


def _refuse_incomplete(parts: Sequence[Part]) -> None:
    shards = [(part[0], _shard_of(part)) for part in parts]
    counts = {shard.count: name for name, shard in shards}
    if len(counts) > 1:
        (one, first), (other, second) = list(counts.items())[:2]
        raise UsageError(f"{first} is one of {one} shards and {second} one of {other}; they are not parts of one run")
    owners: dict[Shard, str] = {}
    for name, shard in shards:
        if shard in owners:
            raise UsageError(f"{owners[shard]} and {name} are both shard {shard}; give each once")
        owners[shard] = name
    (count,) = counts
    if absent := [f"{number}/{count}" for number in range(1, count + 1) if Shard(number, count) not in owners]:
        noun = "shards" if len(absent) > 1 else "shard"
        raise UsageError(f"no result of {noun} {', '.join(absent)}; a part that did not report has not passed")


def _plan(parts: Sequence[Part]) -> tuple[str, ...]:
    """Return what all parts planned. A part that ended before it could say so has no plan."""
    said = [(name, run.planned) for name, run in parts if run.planned]
    first, plan = said[0] if said else ("", ())
    for name, other in said:
        if odd := sorted(set(other) ^ set(plan)):
            raise UsageError(f"{name} and {first} are cut from different runs: only one of them planned {_named(odd)}")
    _refuse_other_questions(parts)
    return plan


def _refuse_other_questions(parts: Sequence[Part]) -> None:
    told = [(name, run.plan) for name, run in parts if run.plan]
    for name, plan in told[1:]:
        first, asked = told[0]
        if odd := sorted(job for job in plan if plan[job] != asked.get(job)):
            raise UsageError(
                f"{name} and {first} are cut from different runs: they ask {_named(odd)} otherwise; run all shards "
                "with the same case files, model tables, --metric and --component"
            )


def _refuse_twice(jobs: Sequence[JobResult], parts: Sequence[Part]) -> None:
    twice = [job for job, times in Counter(job.id for job in jobs).items() if times > 1]
    if twice:
        holders = [name for name, run in parts if twice[0] in {job.id for job in run.jobs}]
        raise UsageError(f"{_named(twice)} has more than one result, in {' and '.join(holders)}")


def held_to_plan(
    jobs: Sequence[JobResult], planned: Iterable[str], *besides: Status
) -> tuple[Status, int, tuple[str, ...]]:
    """Return the verdict of a run, its exit code, and a note of the planned jobs that have no result.

    Such a job has not passed: a run that nothing else makes fail was interrupted.
    """
    verdict, code = of_run(jobs, *besides)
    without = sorted(set(planned) - {job.id for job in jobs})
    if not without:
        return verdict, code, ()
    if code in (EXIT_PASSED, EXIT_NOTHING_RAN):
        verdict, code = of_run(jobs, Status.INTERRUPTED)
    return verdict, code, (f"{_WITHOUT}: {_named(without)}",)


def _notes(runs: Sequence[RunResult], missing: Sequence[str]) -> Iterable[str]:
    # A shard that got no job says so, and each what it did not reach; the whole run says the latter itself.
    said = (note for run in runs if run.jobs for note in run.notes if not note.startswith(_WITHOUT))
    yield from dict.fromkeys((*said, *missing))
    for name, values in _disagreements([run.environment for run in runs]).items():
        yield f"the shards ran on different {name}: {', '.join(values)}"


def left_out(jobs: Iterable[JobResult]) -> Iterable[str]:
    """Yield what the cases ask and nobody looked at, each with the jobs that it is about."""
    about: dict[str, list[str]] = {}
    for job in jobs:
        for text in job.not_compared:
            about.setdefault(text, []).append(job.id)
    yield from (f"not compared: {text} ({_named(ids)})" for text, ids in about.items())


def _disagreements(environments: Sequence[Environment]) -> dict[str, list[str]]:
    plain = [
        {**{field.name: getattr(each, field.name) for field in fields(each)}, "packages": ""} | dict(each.packages)
        for each in environments
    ]
    names = dict.fromkeys(name for each in plain for name in each)
    seen = {name: list(dict.fromkeys(str(each.get(name, "none")) for each in plain)) for name in names}
    return {name: values for name, values in seen.items() if len(values) > 1}


def _named(jobs: Sequence[str]) -> str:
    return ", ".join(jobs[:5]) + (f" and {len(jobs) - 5} more" if len(jobs) > 5 else "")


def with_floor(run: RunResult, least: int | None) -> RunResult:
    """Return the run, failed if fewer than `least` jobs ran: a gate through which nothing went has held nothing."""
    ran = sum(job.status is not Status.SKIPPED for job in run.jobs)
    if least is None or ran >= least:
        return run
    return graver(run, Status.FAILED, f"{number_of(ran, 'job')} ran, and at least {least} had to (--min-jobs)")
