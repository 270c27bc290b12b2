"""The differences between two runs, as numbers: relative for baselines, percentage points for recoveries."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.results.compare.pairs import Match, Pair, pair
from harness.results.ranks import tau_b
from harness.vocabulary import (
    METRICS,
    Curve,
    Environment,
    Finding,
    JobResult,
    Reading,
    RunResult,
    Site,
    Status,
    site_position,
)

FASTEST_S = 0.05
"""Sweeps shorter than this say more about the clock and the first allocation than about the code."""


@dataclass(frozen=True)
class CellChange:
    """One cell whose recovery differs; `points` is None where one side has no number."""

    site: Site
    base: Reading
    new: Reading
    points: float | None


@dataclass(frozen=True)
class CurveChange:
    """One component under one metric on two sides.

    `baseline_relative` is |new - base| / |base|, None where a side has no number; `cells` are those that differ,
    largest first, changes of state before all; `gone` counts those that only the first side has, and `numbers` those
    that are numbers on both sides. `kendall` compares the order of the layers' recoveries; None where one side puts no
    two of them in an order, and `order_lost` where it is the second side only.
    """

    component: str
    metric: str
    unit: str
    base: Reading
    new: Reading
    baseline_relative: float | None
    cells: tuple[CellChange, ...]
    gone: int
    numbers: int
    kendall: float | None
    order_lost: bool

    @property
    def largest_points(self) -> float | None:
        """The largest difference in percentage points, 0 where no cell differs, None where no two numbers meet."""
        points = [abs(cell.points) for cell in self.cells if cell.points is not None]
        return max(points, default=None if self.cells else 0.0)

    @property
    def state_changes(self) -> int:
        """How many of baseline and recoveries are another state than before."""
        readings = [(self.base, self.new), *((cell.base, cell.new) for cell in self.cells)]
        return sum(old.state is not new.state for old, new in readings)

    @property
    def differs(self) -> bool:
        return bool(self.cells) or self.base != self.new


@dataclass(frozen=True)
class JobChange:
    """A pair of jobs, both there: statuses, curves in common, curves of one side only, findings that came or went.

    `unmatched` are curves, or cells of one, that one side does not have; `lost` are those of them that the first has.
    """

    name: str
    base: JobResult
    new: JobResult
    curves: tuple[CurveChange, ...]
    unmatched: tuple[str, ...]
    lost: tuple[str, ...]
    appeared: tuple[Finding, ...]
    vanished: tuple[Finding, ...]

    @property
    def gravity(self) -> tuple[int, float]:
        """How many values changed state, and the largest change in points."""
        points = [curve.largest_points or 0.0 for curve in self.curves]
        return sum(curve.state_changes for curve in self.curves), max(points, default=0.0)

    @property
    def differs(self) -> bool:
        moved = any(curve.differs for curve in self.curves)
        return (
            moved or bool(self.unmatched or self.appeared or self.vanished) or self.base.status is not self.new.status
        )


@dataclass(frozen=True)
class TimeRatio:
    """How the sweeps' times compare: new / base over `jobs` jobs, each timed once on each side.

    `low` and `high` are the quartiles: a median inside them that includes 1 is no difference.
    """

    jobs: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Everything that differs between two runs; `gone` are the jobs of `only_base` that were not skipped there.

    `otherwise` are jobs of one name and two questions, and what the questions differ in: no number of the one is
    comparable with one of the other. `across` says that two engines or two models are compared.
    """

    environment: Mapping[str, tuple[str, str]]
    jobs: tuple[JobChange, ...]
    otherwise: tuple[tuple[str, str], ...]
    across: bool
    only_base: tuple[str, ...]
    only_new: tuple[str, ...]
    gone: tuple[str, ...]
    time: TimeRatio | None

    @property
    def changed(self) -> tuple[JobChange, ...]:
        """The jobs that differ: changes of state first, then by the largest change."""
        return tuple(sorted((job for job in self.jobs if job.differs), key=lambda job: job.gravity, reverse=True))


def compare(base: RunResult, new: RunResult, engines: Match | None = None, models: Match | None = None) -> Comparison:
    """Return what differs; `engines` and `models` as for `pair`. Raises UsageError when jobs cannot be paired."""
    pairs = pair(base.jobs, new.jobs, engines, models)
    both = [(each.name, each.base, each.new) for each in pairs if each.base and each.new]
    otherwise = {name: what for name, one, other in both if (what := _other_question(one, other))}
    return Comparison(
        environment=_environment(base.environment, new.environment),
        jobs=tuple(_job(*each) for each in both if each[0] not in otherwise),
        otherwise=tuple(otherwise.items()),
        across=bool(engines or models),
        only_base=tuple(each.name for each in pairs if each.new is None),
        only_new=tuple(each.name for each in pairs if each.base is None),
        gone=tuple(
            each.name for each in pairs if each.base and not each.new and each.base.status is not Status.SKIPPED
        ),
        time=_time(pairs),
    )


def _other_question(base: JobResult, new: JobResult) -> str:
    """Return what two jobs with numbers were asked differently, or nothing."""
    if not (base.curves and new.curves):
        return ""
    left, right = _question(base), _question(new)
    if base.model != new.model and base.card and new.card and base.card.vocab != new.card.vocab:
        left = {name: left[name] for name in ("direction", "positions", "value")}  # another tokenizer reads other ids
    return ", ".join(f"{name} {told} -> {right[name]}" for name, told in left.items() if told != right[name])


def _question(job: JobResult) -> dict[str, str]:
    prompts = {"clean prompt": job.clean, "corrupted prompt": job.corrupted}
    return {
        "direction": job.sweep.direction.value if job.sweep else "",
        "positions": site_position(job.sweep.positions) if job.sweep else "",
        "value": job.sweep.value if job.sweep else "",
        **{name: str(list(tokens.ids)) if tokens else "" for name, tokens in prompts.items()},
        "mean of": ", ".join(str(list(tokens.ids)) for tokens in job.mean_of),
        "pairs of prompts": f"{len(job.pairs)} ({job.pairs_digest})" if job.pairs else "",
    }


def _environment(base: Environment, new: Environment) -> dict[str, tuple[str, str]]:
    left, right = _facts(base), _facts(new)
    return {
        name: (left.get(name, "-"), right.get(name, "-"))
        for name in [*left, *(name for name in right if name not in left)]
        if left.get(name) != right.get(name)
    }


def _facts(env: Environment) -> dict[str, str]:
    fields = {name: getattr(env, name) for name in ("harness", "python", "platform", "backend", "device")}
    return {**fields, **env.packages}


def _job(name: str, base: JobResult, new: JobResult) -> JobChange:
    left = {(curve.component, curve.metric): curve for curve in base.curves}
    right = {(curve.component, curve.metric): curve for curve in new.curves}
    lost = [*_one_sided(left, right, "first")]
    if base.answers != new.answers:
        needing = {metric.name for metric in METRICS.values() if metric.needs_answers}
        others = [key for key in left if key in right and key[1] in needing]
        lost += [f"{' '.join(key)}: answers {_ids(base)} are {_ids(new)} now" for key in others]
        left = {key: curve for key, curve in left.items() if key not in others}
        right = {key: curve for key, curve in right.items() if key not in others}
    return JobChange(
        name=name,
        base=base,
        new=new,
        curves=tuple(_curve(curve, right[key]) for key, curve in left.items() if key in right),
        unmatched=(*lost, *_one_sided(right, left, "second")),
        lost=tuple(lost),
        appeared=_beyond(new.findings, base.findings),
        vanished=_beyond(base.findings, new.findings),
    )


def _ids(job: JobResult) -> str:
    return f"{job.answers.answer} and {job.answers.wrong}" if job.answers else "absent"


def _one_sided(
    curves: Mapping[tuple[str, str], Curve], others: Mapping[tuple[str, str], Curve], side: str
) -> Iterator[str]:
    """Yield what only one side has: a curve, or some cells of one."""
    for key, curve in curves.items():
        if key not in others:
            yield f"{' '.join(key)} only in the {side}"
            continue
        known = {others[key].site(cell) for cell in others[key].cells}
        if alone := [str(site) for cell in curve.cells if (site := curve.site(cell)) not in known]:
            more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
            yield f"{' '.join(key)}: {alone[0]}{more} only in the {side}"


def _beyond(findings: Sequence[Finding], others: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings that `others` does not have; the same code at the same site of the same metric is one."""
    known = Counter(_identity(each) for each in others)
    beyond = []
    for each in findings:
        known[_identity(each)] -= 1
        if known[_identity(each)] < 0:
            beyond.append(each)
    return tuple(beyond)


def _identity(finding: Finding) -> tuple[str, Site | None, str | None]:
    return finding.code, finding.site, finding.metric


def _curve(base: Curve, new: Curve) -> CurveChange:
    left = {base.site(cell): cell.recovery for cell in base.cells}
    right = {new.site(cell): cell.recovery for cell in new.cells}
    shared = [site for site in left if site in right]
    cells = [CellChange(site, left[site], right[site], _points(left[site], right[site])) for site in shared]
    numbers = [(a, b) for cell in cells if (a := cell.base.value) is not None and (b := cell.new.value) is not None]
    before, now = [a for a, _ in numbers], [b for _, b in numbers]
    return CurveChange(
        component=base.component,
        metric=base.metric,
        unit=base.unit,
        base=base.baseline,
        new=new.baseline,
        baseline_relative=_relative(base.baseline, new.baseline),
        cells=tuple(sorted((cell for cell in cells if cell.base != cell.new), key=_gravity)),
        gone=len(left) - len(shared),
        numbers=len(numbers),
        kendall=tau_b(before, now),
        order_lost=len(set(before)) > 1 and len(set(now)) == 1,
    )


def _gravity(cell: CellChange) -> tuple[bool, float]:
    same_state = cell.base.state is cell.new.state
    return same_state, -abs(cell.points or 0.0)


def _points(base: Reading, new: Reading) -> float | None:
    return new.value - base.value if base.value is not None and new.value is not None else None


def _relative(base: Reading, new: Reading) -> float | None:
    if base.value is None or new.value is None:
        return None
    if base.value == new.value:
        return 0.0
    return abs(new.value - base.value) / abs(base.value) if base.value else float("inf")


def _time(pairs: Sequence[Pair]) -> TimeRatio | None:
    ratios = [
        _sweep_s(each.new) / _sweep_s(each.base)
        for each in pairs
        if each.base and each.new and min(_sweep_s(each.base), _sweep_s(each.new)) >= FASTEST_S
    ]
    if not ratios:
        return None
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    return TimeRatio(len(ratios), statistics.median(ratios), low, high)


def _sweep_s(job: JobResult) -> float:
    return job.timings.get("sweep_s", 0.0)
