"""`--fail-on`: which differences between two runs are too many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.results.compare.runs import FASTEST_S, CellChange, Comparison, CurveChange, JobChange
from harness.vocabulary import Status
from harness.vocabulary.errors import UsageError, suggest
from harness.vocabulary.findings import FINDINGS
from harness.vocabulary.verdict import fails, of_run
from harness.vocabulary.words import number_of


@dataclass(frozen=True)
class Breach:
    """A difference beyond its limit: which limit, where, and what was seen."""

    limit: str
    where: str
    message: str


Search = Callable[[Comparison, float], Iterator[Breach]]


@dataclass(frozen=True)
class Limit:
    """One word of `--fail-on`; `number` says what its number means, empty where it takes none.

    `holds` returns whether a comparison has anything that the limit can be held against, and `nothing` says what lacks.
    """

    name: str
    about: str
    number: str
    search: Search
    holds: Callable[[Comparison], bool] = lambda comparison: True
    nothing: str = ""


def _status(comparison: Comparison, _: float) -> Iterator[Breach]:
    for job in comparison.jobs:
        if job.base.status is Status.PASSED and job.new.status not in (Status.PASSED, Status.SKIPPED):
            yield Breach("status", job.name, f"passed before, {job.new.status} now")


def _finding(comparison: Comparison, _: float) -> Iterator[Breach]:
    for job in comparison.jobs:
        # The version that gave a job with a code of its own a pass knows it for a warning.
        passed = job.new.status is Status.PASSED
        for finding in job.appeared:
            if fails(finding) and not (passed and finding.code not in FINDINGS):
                yield Breach("finding", job.name, f"new {finding.code}: {finding.message}")


def _state(comparison: Comparison, _: float) -> Iterator[Breach]:
    for job, curve in _curves(comparison):
        if curve.base.state is not curve.new.state:
            yield Breach("state", job.name, f"{_label(curve)} baseline {curve.base.text()} is now {curve.new.text()}")
        changed = [cell for cell in curve.cells if cell.base.state is not cell.new.state]
        if changed:
            first = changed[0]
            yield Breach(
                "state",
                job.name,
                f"{number_of(len(changed), 'recovery', 'recoveries')} of {_label(curve)} changed "
                f"state, first {first.site}: "
                f"{first.base.text()} is now {first.new.text()}",
            )


def _missing(comparison: Comparison, _: float) -> Iterator[Breach]:
    for name in comparison.gone:
        yield Breach("missing", name, "ran before, is not there now")
    yield from _unanswered(comparison)
    for job in comparison.jobs:
        if job.base.status is Status.SKIPPED:
            continue
        if job.new.status is Status.SKIPPED:
            yield Breach("missing", job.name, f"ran before, is skipped now: {job.new.reason}")
        elif job.new.curves:
            yield from (Breach("missing", job.name, what) for what in job.lost)


def _unanswered(comparison: Comparison) -> Iterator[Breach]:
    """Yield the jobs that have nothing to compare: also two engines or models have the numbers they were asked for."""
    for name, what in comparison.otherwise:
        yield Breach("missing", name, f"asks another question now: {what}")
    for job in comparison.jobs:
        if job.base.curves and not job.new.curves and job.new.status is not Status.SKIPPED:
            yield Breach("missing", job.name, f"had numbers before, is {job.new.status} without any now")
        for curve in job.curves if comparison.across and job.base.model == job.new.model else ():
            if curve.gone:
                yield Breach("missing", job.name, f"{_label(curve)}: {number_of(curve.gone, 'cell')} only in the first")


def _baseline(comparison: Comparison, limit: float) -> Iterator[Breach]:
    for job, curve in _curves(comparison):
        relative = curve.baseline_relative
        if relative is not None and relative > limit:
            seen = f"{curve.base.text('.8g')} -> {curve.new.text('.8g')}"
            yield Breach("baseline", job.name, f"{_label(curve)}: {seen}, relative {relative:.2g} > {limit:g}")
        elif curve.base.value is not None and curve.new.value is None:
            seen = f"{curve.base.text('.8g')} is now {curve.new.text()}, beyond any limit"
            yield Breach("baseline", job.name, f"{_label(curve)}: {seen}")


def _recovery(comparison: Comparison, limit: float) -> Iterator[Breach]:
    for job, curve in _curves(comparison):
        if lost := _lost(curve):
            seen = f"{lost[0].base.text('.2f')} % is now {lost[0].new.text()}, beyond any limit"
            yield Breach("recovery", job.name, f"{curve.metric} {lost[0].site}: {seen}")
            continue
        for cell in curve.cells:
            if cell.points is not None and abs(cell.points) > limit:
                seen = f"{cell.base.text('.2f')} % -> {cell.new.text('.2f')} %"
                message = f"{curve.metric} {cell.site}: {seen}, {abs(cell.points):.2f} points > {limit:g}"
                yield Breach("recovery", job.name, message)
                break


def _lost(curve: CurveChange) -> list[CellChange]:
    """Return the recoveries that were numbers and are none now: no limit on a difference can hold them."""
    return [cell for cell in curve.cells if cell.base.value is not None and cell.new.value is None]


def _rank(comparison: Comparison, limit: float) -> Iterator[Breach]:
    for job, curve in _curves(comparison):
        if lost := _lost(curve):
            message = (
                f"{_label(curve)}: {number_of(len(lost), 'recovery', 'recoveries')} have no "
                f"place in an order now, first {lost[0].site}"
            )
            yield Breach("rank", job.name, message)
        elif curve.order_lost:
            yield Breach("rank", job.name, f"{_label(curve)}: {curve.numbers} recoveries are all the same now")
        elif curve.kendall is not None and curve.kendall < limit:
            yield Breach("rank", job.name, f"{_label(curve)}: Kendall's tau {curve.kendall:.2f} < {limit:g}")


def _time(comparison: Comparison, limit: float) -> Iterator[Breach]:
    time = comparison.time
    # One slow median may be chance; quartiles beyond the limit are most of the jobs.
    if time and time.low > limit:
        yield Breach(
            "time", "all jobs", f"{time.median:.2f} times as long, quartiles {time.low:.2f} to {time.high:.2f}"
        )


LIMITS: Mapping[str, Limit] = {
    limit.name: limit
    for limit in (
        Limit("status", "a job that passed fails", "", _status),
        Limit("finding", "a new error", "", _finding),
        Limit("state", "a value that became inf, nan or undefined, or ceased to be", "", _state),
        Limit("missing", "a job that ran, or a part of its curves, is gone or skipped", "", _missing),
        Limit(
            "baseline", "a baseline that moved, or is no number now", "relative difference", _baseline,
            lambda comparison: any(curve.baseline_relative is not None for _, curve in _curves(comparison)),
            "no baseline is a number on both sides",
        ),
        Limit(
            "recovery", "a recovery that moved, or is no number now", "percentage points", _recovery,
            lambda comparison: any(curve.numbers for _, curve in _curves(comparison)),
            "no recovery is a number on both sides",
        ),
        Limit(
            "rank", "layers in another order, or without a place in it", "Kendall's tau at least", _rank,
            lambda comparison: any(curve.kendall is not None for _, curve in _curves(comparison)),
            "no two recoveries are in an order on both sides",
        ),
        Limit(
            "time", "sweeps that take longer", "ratio, by the lower quartile", _time,
            lambda comparison: comparison.time is not None,
            f"no sweep took {FASTEST_S} s on both sides",
        ),
    )
}  # fmt: skip
DEFAULT = ("status", "finding", "state", "missing")


def parse_limits(words: Iterable[str], default: Iterable[str] = DEFAULT) -> dict[str, float]:
    """Return limit -> number of words such as `status` or `recovery=0.5`. Raises UsageError.

    No word means the default: what passed still passes, without new errors. `none` alone asks for no limit.
    """
    given = [part for word in words for part in word.split(",") if part]
    if not given:
        return dict.fromkeys(default, 0.0)
    return {} if given == ["none"] else dict(_parsed(part) for part in given)


def breaches(comparison: Comparison, limits: Mapping[str, float]) -> list[Breach]:
    """Return every difference beyond its limit, in the order of the limits.

    What is gone is beyond every limit, also where `missing` is not among them, and so is what a limit cannot be held
    against. Two engines or two models need not have answered the same cases and metrics.
    """
    found = [breach for name, number in limits.items() for breach in _held(LIMITS[name], comparison, number)]
    if limits and "missing" not in limits:
        found += _unanswered(comparison) if comparison.across else _missing(comparison, 0.0)
    return found


def _held(limit: Limit, comparison: Comparison, number: float) -> Iterator[Breach]:
    found = list(limit.search(comparison, number))
    yield from found
    if comparison.jobs and not found and not limit.holds(comparison):
        yield Breach(limit.name, "all jobs", f"{limit.nothing}, so nothing is within the limit")


def judge(comparison: Comparison, broken: Sequence[Breach]) -> tuple[Status, int]:
    """Return the verdict and its exit code; skipped where nothing could be compared."""
    ran = any(Status.SKIPPED not in (job.base.status, job.new.status) for job in comparison.jobs)
    shared = [Status.PASSED] if ran else []
    beyond = [Status.FAILED] if broken and (comparison.jobs or comparison.otherwise) else []
    return of_run((), *shared, *beyond)


def _parsed(part: str) -> tuple[str, float]:
    name, given, number = part.partition("=")
    if name not in LIMITS:
        raise UsageError(f"--fail-on {part}: {name!r} is not a limit; {suggest(name, [*LIMITS, 'none'])}")
    wanted = LIMITS[name].number
    if bool(given) != bool(wanted):
        right = f"{name}=NUMBER ({wanted})" if wanted else f"{name} takes no number"
        raise UsageError(f"--fail-on {part}: {right}")
    try:
        value = float(number) if given else 0.0
    except ValueError:
        raise UsageError(f"--fail-on {part}: {number!r} is not a number ({wanted})") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise UsageError(f"--fail-on {part}: a limit is a finite number ({wanted})")
    return name, value


def _curves(comparison: Comparison) -> Iterator[tuple[JobChange, CurveChange]]:
    return ((job, curve) for job in comparison.jobs for curve in job.curves)


def _label(curve: CurveChange) -> str:
    return f"{curve.component} {curve.metric}"
