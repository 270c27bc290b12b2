"""Engines that estimate: one backward pass a metric in place of a run for each cell.

attribution   the gradient at the unpatched run, times what the patch changes
attribution-ig   the mean gradient at ten places between the two prompts' inputs

An estimate is right where the model is linear between the two runs, and a guess elsewhere: nobody ran the patched
prompt, so no oracle stands beside its numbers. Recoveries are those that the estimated change of the metric makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from harness import metrics
from harness.engines.formula import Engine, EngineRun, Row, summary, with_answers
from harness.metrics.gradients import gradient
from harness.models.loaded import LoadedModel
from harness.patching import Patch, Slopes, check_question, patches_of, slopes
from harness.patching.values import with_values
from harness.vocabulary import (
    METRICS,
    Answer,
    AnswerTokens,
    Cell,
    Curve,
    Direction,
    Question,
    Reading,
    State,
    Sweep,
    Unanswered,
)
from harness.vocabulary.errors import EngineUnavailable

STEPS = 10
"""Places of the integrated gradients; EAP-IG uses five to ten."""


@dataclass(frozen=True)
class EstimateEngine(Engine):
    """An engine whose numbers are first-order estimates. `steps`: places at which the gradient is taken, 0 for the
    unpatched run itself."""

    steps: int = 0

    @property
    def is_native(self) -> bool:
        return False

    @property
    def is_estimate(self) -> bool:
        return True

    def cannot(self, model: LoadedModel, sweep: Sweep) -> str | None:
        if sweep.value == "other" or not self.steps:
            return None
        return f"{self.name} goes from one run's input to the other's, and cannot say what {sweep.value} does"

    def knows(self, metric: str) -> bool:
        """A metric of the user's own has no gradient that anybody knows."""
        return metric in self.metrics


ATTRIBUTION = EstimateEngine(
    "attribution", "first-order estimates by one backward pass a metric (attribution patching)"
)
ATTRIBUTION_IG = EstimateEngine(
    "attribution-ig", "the same with the mean gradient between the two inputs (integrated gradients)", steps=STEPS
)


def answer(engine: EstimateEngine, model: LoadedModel, question: Question) -> Answer:
    """Ask an engine that estimates.

    Raises FindingError or UsageError when the question cannot be asked of this model, EngineUnavailable for a value
    that this engine cannot estimate, and TapError where there is no gradient.
    """
    points = check_question(model, question)
    if reason := engine.cannot(model, question.sweep):
        raise EngineUnavailable(reason)
    patches = patches_of(with_values(model, question, points), question.sweep.positions, len(question.target))
    made = slopes(model, question.source, question.target, patches, engine.steps)
    noising = question.sweep.direction is Direction.NOISING
    clean, corrupted = map(EngineRun.of, (made.target, made.source) if noising else (made.source, made.target))
    question, unasked = with_answers(question, clean, corrupted, model)
    suppressed = metrics.suppressed(clean.row, corrupted.row)
    curves, unanswered = [], []
    for metric in question.metrics:
        estimate = _Estimate(question, metric, clean, corrupted)
        if estimate.flat:
            told = (Unanswered(name, metric, len(of), estimate.flat) for name, of in _by_component(patches).items())
            unanswered += list(told)
        else:
            curves += list(estimate.curves(made, patches))
    return Answer(
        strategy="backward",
        clean=summary(clean.row, suppressed),
        corrupted=summary(corrupted.row, suppressed),
        curves=tuple(sorted(curves, key=lambda curve: question.sweep.components.index(curve.component))),
        answers=question.answers,
        unasked=unasked,
        suppressed=suppressed,
        dtype=clean.dtype,
        unanswered=tuple(unanswered),
    )


@dataclass(frozen=True)
class _Estimate:
    """One metric of a question, between two unpatched runs."""

    question: Question
    metric: str
    clean: EngineRun
    corrupted: EngineRun

    @property
    def flat(self) -> str:
        """Why the metric has no first order here; empty where it has."""
        distance = not METRICS[self.metric].needs_answers
        if distance and self.question.sweep.direction is Direction.NOISING:
            return f"{self.metric} is a distance to the run that is patched, and has no slope there"
        return ""

    @property
    def ends(self) -> metrics.Ends:
        rows = self.clean.row, self.corrupted.row
        return metrics.ends(self.metric, *rows, self.clean.dtype, self.question.answers)

    @property
    def _start(self) -> float | None:
        """The metric on the run that is patched."""
        noising = self.question.sweep.direction is Direction.NOISING
        return (self.ends.clean if noising else self.ends.corrupted).value

    def curves(self, made: Slopes, patches: tuple[Patch, ...]) -> Iterator[Curve]:
        recoveries = dict(zip(patches, self._recoveries(made, patches), strict=True))
        for component, of in _by_component(patches).items():
            cells = (
                Cell(at.layer, at.position, recoveries[patch], _unseen(recoveries[patch]), at.head)
                for patch in of
                for at in (patch.site,)
            )
            yield Curve(
                component,
                self.metric,
                METRICS[self.metric].unit,
                baseline=self.ends.baseline,
                oracle_baseline=self.ends.baseline,
                cells=tuple(cells),
                shift_share=metrics.shift_share(self.metric, self.clean.row, self.corrupted.row),
                denominator=self.ends.denominator,
            )

    def _recoveries(self, made: Slopes, patches: tuple[Patch, ...]) -> list[Reading]:
        ends, start = self.ends, self._start
        if not ends.baseline.finite or start is None:
            return [ends.recovery(ends.corrupted)] * len(patches)
        changes = made.changes(self._steep, patches)
        if changes is None:
            return [Reading.absent(State.UNDEFINED)] * len(patches)
        return [ends.recovery(Reading.of(start + change)) for change in changes]

    def _steep(self, logits: mx.array) -> Row | None:
        """Return the gradient at logits `[vocab]`; ids that the runs rule out are no part of any metric."""
        row = metrics.host_row(logits)
        kept = np.flatnonzero(np.isfinite(self.clean.row) & np.isfinite(row))
        ids = self.question.answers and AnswerTokens(*np.searchsorted(kept, tuple(self.question.answers)).tolist())
        slope = gradient(self.metric, self.clean.row[kept], row[kept], ids)
        if slope is None:
            return None
        steep = np.zeros_like(row)
        steep[kept] = slope
        return steep


def _unseen(said: Reading) -> Reading:
    return Reading.absent(State.UNKNOWN) if said.finite else said


def _by_component(patches: tuple[Patch, ...]) -> Mapping[str, list[Patch]]:
    found: dict[str, list[Patch]] = {}
    for patch in patches:
        found.setdefault(patch.point.component, []).append(patch)
    return found
