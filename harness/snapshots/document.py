"""What a snapshot holds: the numbers of a job, rounded so that a diff shows change and not noise.

The dataclasses name the entries of the file, in the file's order. `file` reads and writes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Final, Literal

from pydantic import ConfigDict

from harness.vocabulary import Cell, Curve, Environment, JobResult, Reading, Site, Spread, State, Status, Tokens

SNAPSHOT_SCHEMA: Final = "mlx-patch-harness/snapshot/1"


class _Strict:
    """What every entry of the file is read with: no near-miss types, no NaN and no Infinity."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class SnapshotTolerance(_Strict):
    """How far a number may move: a recovery and its error bar in points, a baseline relative to its size."""

    recovery_points: float
    baseline_relative: float

    def of(self, where: Quantity) -> float:
        """Return what one number may move by, in points or as a share; a count may not move."""
        if where.is_count:
            return 0.0
        return self.baseline_relative if where.is_baseline else self.recovery_points

    def beyond(self) -> Mapping[str, float]:
        """Return the numbers that may exceed it, by their names, and what each may move by."""
        return {}


@dataclass(frozen=True)
class WidenedTolerance(SnapshotTolerance):
    """A tolerance that some numbers may exceed: those of a denominator so small that rounding moves them further."""

    widened: Mapping[Quantity, float]

    def of(self, where: Quantity) -> float:
        return max(super().of(where), self.widened.get(replace(where, is_error_bar=False), 0.0))

    def beyond(self) -> Mapping[str, float]:
        least = super().of
        return {str(where): limit for where, limit in self.widened.items() if limit > least(where)}


@dataclass(frozen=True)
class SnapshotTokens(_Strict):
    """The ids of both prompts. Of several pairs: how many there are, and a digest of the ids of all of them."""

    clean: tuple[int, ...] | None = None
    corrupted: tuple[int, ...] | None = None
    pairs: int | None = None
    digest: str | None = None


@dataclass(frozen=True)
class SnapshotVerdict(_Strict):
    """What the checks made of the job when its numbers were stored."""

    status: Status
    findings: tuple[str, ...]


@dataclass(frozen=True)
class SnapshotBaseline(_Strict):
    """The baseline of a curve, to seven digits; `pairs` as in a cell."""

    value: float | None
    unit: str
    state: State
    pairs: int | None = None

    def __post_init__(self) -> None:
        Reading(self.value, self.state)


@dataclass(frozen=True, kw_only=True)
class SnapshotCell(_Strict):
    """The recovery (percent) of one cell and its error bar in points, each to four decimals.

    `pairs` is how many pairs have a value here, where the mean is not over all of them.
    """

    layer: int
    head: int | None = None
    position: str
    value: float | None
    state: State
    precision: float | None = None
    pairs: int | None = None

    def __post_init__(self) -> None:
        Reading(self.value, self.state)


@dataclass(frozen=True)
class SnapshotCurve(_Strict):
    """One component under one metric."""

    component: str
    metric: str
    baseline: SnapshotBaseline
    recovery_unit: Literal["%"]
    recoveries: tuple[SnapshotCell, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.component, self.metric

    def site(self, cell: SnapshotCell) -> Site:
        """Return where one of the cells is."""
        return Site(self.component, cell.layer, cell.position, cell.head)


@dataclass(frozen=True)
class Quantity:
    """What one number of a snapshot is: the baseline of a curve, or at a site a recovery or its error bar; or how many
    pairs the mean at either is over."""

    component: str
    metric: str
    site: Site | None = None
    is_error_bar: bool = False
    is_count: bool = False

    @property
    def is_baseline(self) -> bool:
        return self.site is None and not self.is_count

    def __str__(self) -> str:
        counted = " pairs" if self.is_count else ""
        name = f"{self.component} {self.metric}"
        if self.site is None:
            return f"{name} baseline{counted}"
        head = "" if self.site.head is None else f", head {self.site.head}"
        where = "" if self.site.position == "all" else f", position {self.site.position}"
        return f"{name} layer {self.site.layer}{head}{where}" + (" error bar" if self.is_error_bar else counted)


@dataclass(frozen=True)
class Snapshot(_Strict):
    """The stored numbers of a job. `provenance` and `verdict` say where they come from and are not compared."""

    schema: Literal["mlx-patch-harness/snapshot/1"]
    case: str
    model: str
    engine: str
    tolerance: SnapshotTolerance
    provenance: Mapping[str, str]
    verdict: SnapshotVerdict
    tokens: SnapshotTokens
    curves: tuple[SnapshotCurve, ...]
    widened: Mapping[str, float] | None = None
    """Of a candidate: the numbers that rounding moves beyond the tolerance between two backends, and how far."""

    def __post_init__(self) -> None:
        seen: set[Quantity] = set()
        for quantity, _ in self._numbers():
            if quantity in seen:
                raise ValueError(f"{quantity} stands in it twice")
            seen.add(quantity)

    @property
    def holds(self) -> str:
        """The job it holds the numbers of: the case's id, which ends in the variant, and `engine@model`."""
        return f"{self.case} {self.engine}@{self.model}"

    @property
    def backend(self) -> str:
        return self.provenance.get("backend", "")

    def part(self, keys: Collection[tuple[str, str]]) -> Snapshot:
        """Return the part of it with these components and metrics."""
        return replace(self, curves=tuple(curve for curve in self.curves if curve.key in keys))

    def plain(self) -> dict[str, Any]:
        """Return the entries of its file as JSON types; a cell names a head and an error bar only if it has one."""
        return asdict(self, dict_factory=_entries)

    def within(self, wide: SnapshotTolerance) -> SnapshotTolerance:
        """Return the tolerance between two backends, widened where this candidate says that rounding moves further."""
        said = self.widened or {}
        return WidenedTolerance(
            wide.recovery_points,
            wide.baseline_relative,
            {where: said[str(where)] for where in self.numbers() if str(where) in said},
        )

    def numbers(self) -> dict[Quantity, tuple[Reading, str]]:
        """Return every number with its unit, in the file's order."""
        return dict(self._numbers())

    def _numbers(self) -> Iterator[tuple[Quantity, tuple[Reading, str]]]:
        for curve in self.curves:
            start = curve.baseline
            yield Quantity(*curve.key), (Reading(start.value, start.state), start.unit)
            yield from _counted(Quantity(*curve.key, is_count=True), start.pairs)
            for cell in curve.recoveries:
                site = curve.site(cell)
                yield Quantity(*curve.key, site), (Reading(cell.value, cell.state), curve.recovery_unit)
                if cell.precision is not None:
                    yield Quantity(*curve.key, site, is_error_bar=True), (Reading.of(cell.precision), "points")
                yield from _counted(Quantity(*curve.key, site, is_count=True), cell.pairs)


def _counted(where: Quantity, pairs: int | None) -> Iterator[tuple[Quantity, tuple[Reading, str]]]:
    if pairs is not None:
        yield where, (Reading.of(float(pairs)), "pairs")


def _entries(items: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = {name: list(entry) if isinstance(entry, tuple) else entry for name, entry in items}
    return {name: entry for name, entry in plain.items() if entry is not None or name == "value"}


def snapshot_of(job: JobResult, environment: Environment, tolerance: SnapshotTolerance) -> Snapshot:
    """Return what is stored of a job."""
    return Snapshot(
        schema=SNAPSHOT_SCHEMA,
        case=job.case,
        model=job.model,
        engine=job.engine,
        tolerance=tolerance,
        provenance={
            "harness": environment.harness,
            "backend": environment.backend,
            "device": environment.device,
            "platform": environment.platform,
            "mlx": environment.packages.get("mlx", ""),
            "mlx-lm": environment.packages.get("mlx-lm", ""),
        },
        verdict=SnapshotVerdict(job.status, tuple(sorted({finding.code for finding in job.findings}))),
        tokens=_tokens(job),
        curves=tuple(_curve(curve) for curve in job.curves),
    )


def _tokens(job: JobResult) -> SnapshotTokens:
    if not job.pairs:
        return SnapshotTokens(_ids(job.clean), _ids(job.corrupted))
    return SnapshotTokens(pairs=len(job.pairs), digest=job.pairs_digest)


def _ids(tokens: Tokens | None) -> tuple[int, ...]:
    return tokens.ids if tokens else ()


def _curve(curve: Curve) -> SnapshotCurve:
    value = curve.baseline.value
    rounded = None if value is None else float(f"{value:.7g}")
    baseline = SnapshotBaseline(rounded, curve.unit, curve.baseline.state, _defined(curve.pairs))
    return SnapshotCurve(curve.component, curve.metric, baseline, "%", tuple(map(_cell, curve.cells)))


def _cell(cell: Cell) -> SnapshotCell:
    value, bar = (None if each is None else round(each, 4) for each in (cell.recovery.value, cell.precision))
    return SnapshotCell(
        layer=cell.layer,
        head=cell.head,
        position=cell.position,
        value=value,
        state=cell.recovery.state,
        precision=bar,
        pairs=_defined(cell.pairs),
    )


def _defined(pairs: Spread | None) -> int | None:
    return None if pairs is None or pairs.defined == len(pairs.of) else pairs.defined
