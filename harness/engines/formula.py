"""Answering a question with our own patching and some formula for the numbers.

Beside every number a formula reports stands what float64 makes of the same logits: the two differ exactly when the
formula, not the patching, is at fault.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness import metrics
from harness.engines.definitions import Reported, mistake_of
from harness.metrics.layouts import dtype_name
from harness.metrics.tolerances import Work, recovery_tolerance
from harness.models.loaded import LoadedModel
from harness.models.padded import said_of
from harness.patching import Walk, walk
from harness.support import progress
from harness.vocabulary import (
    METRICS,
    Answer,
    AnswerTokens,
    Cell,
    Curve,
    Finding,
    Mistake,
    Question,
    Reading,
    RowSummary,
    Site,
    Sweep,
    is_code,
    metric_named,
)
from harness.vocabulary.raised import FindingError, SweepFailed, SweepInterrupted
from harness.vocabulary.words import number_of

Row = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class EngineRun:
    """One forward pass as an engine sees it: the model's own array `[vocab]`, and its float64 copy on the host."""

    raw: Any
    row: Row

    @classmethod
    def of(cls, raw: Any) -> EngineRun:
        """Return a run from its logits `[vocab]`."""
        return cls(raw, metrics.host_row(raw))

    @property
    def dtype(self) -> str:
        """The dtype the logits came in."""
        return dtype_name(self.raw)


@dataclass(frozen=True)
class Formula:
    """How an engine turns logits into numbers: a distance to the clean run, and the recovery that follows from it."""

    distance: Callable[[str, Any, Any], float]
    """(metric, clean, x) -> distance; both are the model's own arrays `[vocab]`."""
    recovery: Callable[[float, float], float]
    """(baseline, patched distance) -> percent."""


@dataclass(frozen=True)
class Engine:
    """A name and a formula; without a formula the float64 readings are the engine's own.

    An engine with a formula is asked for every cell, whatever its baseline: how it behaves there is the question.
    """

    name: str
    about: str
    formula: Formula | None = None
    metrics: frozenset[str] = frozenset(METRICS)
    walk: Callable[[LoadedModel, Question], Walk] = walk
    """Whose patching the logits come from: the harness's own, or that of another implementation of the model."""
    release: str | None = None

    @property
    def is_native(self) -> bool:
        """Whether both the patching and the numbers are the harness's own."""
        return self.formula is None and self.walk is walk

    @property
    def is_estimate(self) -> bool:
        """Whether the numbers are first-order estimates of runs that nobody makes."""
        return False

    def knows(self, metric: str) -> bool:
        """Return whether the engine has this metric; one of the user's own needs no formula beside it."""
        return metric in self.metrics or (self.formula is None and is_code(metric))

    def cannot(self, model: LoadedModel, sweep: Sweep) -> str | None:
        """Return why this engine cannot answer such a sweep, if it cannot; the job is then skipped."""
        return None

    @property
    def version(self) -> str | None:
        """Return what a result says of the engine beside its name; our own is the harness's version."""
        return self.release


def answer(engine: Engine, model: LoadedModel, question: Question) -> Answer:
    """Ask an engine. Raises FindingError or UsageError when the question cannot be asked of this model.

    SweepFailed and SweepInterrupted, raised where a sweep ends early, hold what was finished before.
    """
    steps = engine.walk(model, question)
    clean, corrupted = EngineRun.of(steps.clean), EngineRun.of(steps.corrupted)
    question, unasked = with_answers(question, clean, corrupted, model)
    suppressed = metrics.suppressed(clean.row, corrupted.row)
    summaries: dict[Site, RowSummary] = {}
    readings = _SweepReadings(engine, question, clean, corrupted, steps.sites)

    def answered(stopped: str | None = None) -> Answer:
        return Answer(
            strategy=steps.strategy,
            clean=summary(clean.row, suppressed),
            corrupted=summary(corrupted.row, suppressed),
            curves=readings.curves(),
            mistakes=readings.mistakes(),
            patched=summaries,
            answers=question.answers,
            unasked=unasked,
            suppressed=suppressed,
            fallback=steps.fallback,
            proven_on=steps.proven_on,
            stopped=stopped,
            memory=steps.memory,
            dtype=clean.dtype,
        )

    if engine.formula is None and not readings.any_recovery_exists():
        readings.leave_out()
        return answered()
    try:
        for site, run in progress.over(_patched(steps), "cell", len(steps.sites)):
            summaries[site] = summary(run.row, suppressed)
            readings.enter(site, run)
    except KeyboardInterrupt as stop:
        raise SweepInterrupted(answered(readings.progress())) from stop
    except Exception as error:
        raise SweepFailed(answered(readings.progress()), error) from error
    return answered()


_MOST_KEPT = 32
"""Cells whose logits are kept: 20 MB of float32 at a vocabulary of 152,000."""


class _SweepReadings:
    """The readings of a sweep while it runs: one curve for each component and metric."""

    def __init__(
        self, engine: Engine, question: Question, clean: EngineRun, corrupted: EngineRun, sites: Sequence[Site]
    ):
        self.formula, self.question, self.clean, self.corrupted = engine.formula, question, clean, corrupted
        self.ends = {
            metric: metrics.ends(metric, clean.row, corrupted.row, clean.dtype, question.answers)
            for metric in question.metrics
        }
        self.reported = {metric: self._distance(metric, corrupted) for metric in question.metrics}
        self.sites = sites
        self.cells: dict[tuple[Site, str], Cell] = {}
        self.kept: dict[tuple[Site, str], Any] = {}
        """Logits of the first cells, which explain numbers that a formula got wrong."""

    def any_recovery_exists(self) -> bool:
        return any(ends.baseline.finite for ends in self.ends.values())

    def enter(self, site: Site, run: EngineRun) -> None:
        for metric in self.question.metrics:
            true = self.ends[metric].recovery(self._measure(metric, run))
            self._add(site, metric, self.ends[metric].said(self._reported(metric, run, true)), true)
            if self.formula and len(self.kept) < _MOST_KEPT * len(self.question.metrics):
                self.kept[site, metric] = run.raw

    def leave_out(self) -> None:
        for site in self.sites:
            for metric, ends in self.ends.items():
                nothing = ends.recovery(ends.corrupted)
                self._add(site, metric, nothing, nothing)

    def progress(self) -> str:
        return f"after {len({site for site, _ in self.cells})} of {number_of(len(self.sites), 'cell')}"

    def mistakes(self) -> Mapping[tuple[str, str], Mistake]:
        """Return, by component and metric, what makes numbers that a formula got wrong of the same logits."""
        found = {}
        for component, metric in itertools.product(self.question.sweep.components, self.reported):
            kept = [
                (self.cells[key], raw)
                for key, raw in self.kept.items()
                if (key[0].component, key[1]) == (component, metric)
            ]
            ends = self.clean.raw, self.corrupted.raw
            reported = Reported(metric, *ends, self.reported[metric], self.question.answers, kept)
            if made := mistake_of(reported, recovery_tolerance(Work.OTHER_FORMULA, self.clean.dtype)):
                found[component, metric] = made
        return found

    def curves(self) -> tuple[Curve, ...]:
        return tuple(
            self._curve(component, metric)
            for component in self.question.sweep.components
            for metric in self.question.metrics
        )

    def _curve(self, component: str, metric: str) -> Curve:
        # In the order asked for, in whichever order a strategy had them ready.
        cells = tuple(
            self.cells[site, metric]
            for site in self.sites
            if site.component == component and (site, metric) in self.cells  # a sweep may end early
        )
        ends, distance = self.ends[metric], self.reported[metric]
        return Curve(
            component,
            metric,
            metric_named(metric).unit,
            baseline=ends.baseline if distance is None else ends.said(Reading.of(distance)),
            oracle_baseline=ends.baseline,
            cells=cells,
            headroom=metrics.headroom(metric, self.clean.row, self.corrupted.row, self.clean.dtype),
            shift_share=metrics.shift_share(metric, self.clean.row, self.corrupted.row),
            denominator=ends.denominator,
        )

    def _add(self, site: Site, metric: str, reported: Reading, true: Reading) -> None:
        self.cells[site, metric] = Cell(site.layer, site.position, reported, true, site.head)

    def _measure(self, metric: str, run: EngineRun) -> Reading:
        return metrics.measure(metric, self.clean.row, run.row, self.question.answers)

    def _distance(self, metric: str, run: EngineRun) -> float | None:
        return self.formula.distance(metric, self.clean.raw, run.raw) if self.formula else None

    def _reported(self, metric: str, run: EngineRun, true: Reading) -> Reading:
        baseline, distance = self.reported[metric], self._distance(metric, run)
        if self.formula is None or baseline is None or distance is None:
            return true
        return Reading.of(self.formula.recovery(baseline, distance))


def _patched(steps: Walk) -> Iterator[tuple[Site, EngineRun]]:
    for site, raw in steps.patched:
        yield site, EngineRun.of(raw)


def summary(row: Row, suppressed: tuple[int, ...]) -> RowSummary:
    """Return what a row is made of, suppressed ids counting as finite."""
    if not suppressed:
        return metrics.summarize(row)
    kept = row.copy()
    held_back = [i for i in suppressed if kept[i] == -np.inf]
    kept[held_back] = 0.0
    return metrics.summarize(kept)


def _top(row: Row) -> int | None:
    return None if np.isnan(row).all() else int(np.nanargmax(row))


def with_answers(
    question: Question, clean: EngineRun, corrupted: EngineRun, model: LoadedModel
) -> tuple[Question, tuple[Finding, ...]]:
    """Return the question with answers, by default the tokens that the two runs prefer.

    Where both prefer the same, the metrics that need answers are left out, and the finding says so. Raises FindingError
    where no metric is left.
    """
    needed = [metric for metric in question.metrics if metric_named(metric).needs_answers]
    if not needed or question.answers is not None:
        return question, ()
    answer, wrong = _top(clean.row), _top(corrupted.row)
    if answer is None or wrong is None:
        return replace(question, answers=AnswerTokens(answer or 0, wrong or 0)), ()
    if answer != wrong:
        return replace(question, answers=AnswerTokens(answer, wrong)), ()
    message = f"both runs prefer token {answer}, so {', '.join(needed)} cannot tell them apart"
    message += said_of(model.module, answer)
    finding = Finding("ANS001", message, evidence={"token": answer, "metrics": needed})
    left = tuple(metric for metric in question.metrics if metric not in needed)
    if not left:
        raise FindingError(finding)
    return replace(question, metrics=left), (finding,)
