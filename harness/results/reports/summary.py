"""What every report says: what failed, where, the command to look at it again, and the strongest effect of a job."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.vocabulary import Curve, Direction, Finding, JobResult, Reading, RunResult, Spread, Status, is_code
from harness.vocabulary.findings import Subject
from harness.vocabulary.paths import near
from harness.vocabulary.verdict import besides, causes
from harness.vocabulary.words import number_of

OWN_ENGINE = "native"
"""The engine that others are held against."""

BAD = (Status.FAILED, Status.REFUSED, Status.CRASHED, Status.INTERRUPTED)


@dataclass(frozen=True)
class Failure:
    """One job that is not all right: the finding that weighs most, how many more there are, and what to type next."""

    job: JobResult
    finding: Finding | None
    others: int
    reason: str
    command: str


def failures(run: RunResult) -> Iterator[Failure]:
    """Yield the jobs that failed, were refused, crashed or were interrupted, in the order of the run."""
    for job in run.jobs:
        if job.status in BAD:
            grave = causes(job) or unexpected(job)
            first = grave[0] if grave else None
            reason = job.reason or (f"{first.kind.title}: {first.message}" if first else job.status.value)
            yield Failure(job, first, max(len(grave) - 1, 0), reason, again(job, run))


def accused(run: RunResult) -> Iterator[str]:
    """Yield what is wrong with each engine, other than our own, that fails in several jobs: how many, the remedy and
    the codes; what most jobs have comes first."""
    for engine in dict.fromkeys(job.engine for job in run.jobs if job.engine != OWN_ENGINE):
        own = [job for job in run.jobs if job.engine == engine and job.status is not Status.SKIPPED]
        faults: dict[str, dict[str, set[str]]] = {}
        for job in own:
            for each in causes(job) if job.status in BAD else ():
                if each.kind.subject is Subject.ENGINE:
                    remedy = str(each.evidence.get("remedy") or each.kind.title)
                    faults.setdefault(remedy, {}).setdefault(each.code, set()).add(job.id)
        for remedy, codes in sorted(faults.items(), key=lambda fault: -len(set().union(*fault[1].values()))):
            if (jobs := len(set().union(*codes.values()))) > 1:
                yield f"{engine}, in {jobs} of {number_of(len(own), 'job')}: {remedy} ({' '.join(codes)})"


def unexpected(job: JobResult) -> list[Finding]:
    """Return the findings that the case did not ask for."""
    return [each for each in job.findings if not each.expected]


def again(job: JobResult, run: RunResult) -> str:
    """Return the command that runs one job again, from the folder this process is in."""
    words = ["harness", "run", near(job.case_file), "--engine", job.engine, "--model", job.given or job.model]
    code = any(map(is_code, (job.engine, *(curve.metric for curve in job.curves))))
    consent = ["--allow-code"] if code and "--allow-code" not in run.repeat else []
    return shlex.join([*words, *run.repeat, *consent])


def place(job: JobResult, finding: Finding | None = None) -> str:
    """Return the case file of a job, and the line where it states what a finding is about, if it states it."""
    stated = finding is not None and "line" in finding.evidence
    return f"{near(job.case_file)}:{job.line_of(finding)}" if finding and stated else near(job.case_file)


MOVES = ("number", "stored", "now", "moved")
"""The columns of what moved from a snapshot."""


def moves(finding: Finding) -> list[list[str]]:
    """Return the numbers that moved furthest from a snapshot, a row each, where a finding is about one."""
    rows = finding.evidence.get("moves", ())
    return [list(map(str, row)) for row in rows if isinstance(row, Sequence) and len(row) == len(MOVES)]


def strongest(job: JobResult, curve: Curve, interval: bool = False) -> str:
    """Return the cell that moves most from the run that is patched, 0 % or, when noising, 100 %; or what hides it.

    Of several pairs it is the mean that moves most; `interval` adds the bootstrap's.
    """
    finite = [cell for cell in curve.cells if cell.recovery.finite]
    if not finite:
        return ", ".join(sorted({cell.recovery.state.value for cell in curve.cells}))
    start = 100.0 if job.sweep is not None and job.sweep.direction is Direction.NOISING else 0.0
    best = max(finite, key=lambda cell: abs((cell.recovery.value or 0.0) - start))
    site = curve.site(best if curve.is_grid else replace(best, position="all"))
    moved = f"{'100 to ' if start else ''}{best.recovery.text('.1f')}{around(best.pairs)} %"
    over = f", mean of {best.pairs.over}" if best.pairs else ""
    over += f" (95 %: {between(best.pairs)})" if interval and between(best.pairs) else ""
    return f"{moved} {curve.component} {str(site).replace(f' {curve.component}', '')}{over}"


def around(pairs: Spread | None) -> str:
    """Return ` ± 1.3`, the standard error of a mean over several pairs, or nothing."""
    return pairs.around if pairs else ""


def between(pairs: Spread | None, spec: str = ".1f") -> str:
    """Return `69.5 to 74.4`, the interval of a mean over several pairs, or nothing."""
    return " to ".join(format(end, spec) for end in (pairs.interval if pairs else None) or ())


def mean_text(reading: Reading, pairs: Spread | None, spec: str) -> str:
    """Return a number as a table has it; a mean as `72.00 ± 1.3 (69.52 to 74.41, 28 of 30 pairs)`."""
    if pairs is None:
        return reading.text(spec)
    beside = ", ".join(filter(None, (between(pairs, spec), pairs.over)))
    return f"{reading.text(spec)}{pairs.around} ({beside})"


def over_pairs(curve: Curve) -> str:
    """Return what the means of a curve are over: `30 pairs`, `26 to 28 of 30 pairs`; nothing without pairs."""
    if curve.pairs is None:
        return ""
    spreads = [cell.pairs for cell in curve.cells if cell.pairs] or [curve.pairs]
    least, most = (choose(spreads, key=lambda each: each.defined) for choose in (min, max))
    return most.over if least.defined == most.defined else f"{least.defined} to {most.defined} of {_of(least)}"


def _of(pairs: Spread) -> str:
    return number_of(len(pairs.of), "pair")


def undefined_pairs(curves: Sequence[Curve]) -> Iterator[str]:
    """Yield how many pairs are in no mean and in which state: `2 of 30 zero-baseline: mlp_out l2, mlp_out mse`."""
    said: dict[str, list[str]] = {}
    for curve in curves:
        at: dict[str, int] = {}
        for cell in curve.cells:
            if cell.pairs and cell.pairs.undefined:
                at[cell.pairs.undefined] = at.get(cell.pairs.undefined, 0) + 1
        if curve.pairs and curve.pairs.undefined and curve.pairs.undefined not in at:
            said.setdefault(curve.pairs.undefined, []).append(f"{curve.component} {curve.metric} baseline")
        for text, cells in at.items():
            part = "" if cells == len(curve.cells) else f" at {cells} of {number_of(len(curve.cells), 'cell')}"
            said.setdefault(text, []).append(f"{curve.component} {curve.metric}{part}")
    yield from (f"{text}: {', '.join(where)}" for text, where in said.items())


def counted(jobs: Sequence[JobResult]) -> str:
    """Return `2 failed, 30 passed, 1 skipped`."""
    numbers = [(status, sum(job.status is status and not job.known for job in jobs)) for status in Status]
    known = sum(job.known for job in jobs)
    said = [f"{count} {status}" for status, count in numbers if count]
    return ", ".join([*said, *([f"known: {known}"] if known else [])])


def counts(run: RunResult) -> str:
    """Return how many jobs ended how, and what made a verdict that they alone do not make."""
    return "; ".join(filter(None, (counted(run.jobs) or "nothing ran", besides(run))))


def duration(run: RunResult) -> str:
    """Return `in 12.3 s`, and after it how many jobs were held against no stored numbers, if any."""
    bare = sum(job.unstored for job in run.jobs)
    said = f", {bare} {'jobs were' if bare > 1 else 'job was'} compared with no snapshot" if bare else ""
    return f"in {run.duration_s:.1f} s{said}"
