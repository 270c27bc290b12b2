"""From a question to the logits of its unpatched and patched runs."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx

from harness import intercept
from harness.errors import AlignmentError, UnknownName
from harness.intercept import HookPoint, Recording, resolve, resolve_positions
from harness.models.loaded import LoadedModel
from harness.patching.equality import equal, relative_difference
from harness.patching.one_pass import OnePassImpossible, one_pass
from harness.vocabulary import METRICS, STRATEGIES, Direction, Finding, Positions, Question, Site, Tokens


@dataclass(frozen=True)
class Walk:
    """The runs of a sweep: logits `[vocab]` in the model's dtype, last token only.

    `sites` are the cells in order; `patched` yields them with their logits. `fallback` says why the strategy is not
    the one that was asked for.
    """

    clean: mx.array
    corrupted: mx.array
    strategy: str
    sites: tuple[Site, ...]
    patched: Iterator[tuple[Site, mx.array]]
    fallback: str | None = None


@dataclass(frozen=True)
class Plan:
    """A sweep resolved on a model: activations of the source run go into the target run at every point, one by one."""

    model: LoadedModel
    source: tuple[int, ...]
    target: tuple[int, ...]
    points: tuple[HookPoint, ...]
    positions: Positions

    def record(self, points: Sequence[HookPoint]) -> tuple[mx.array, Recording]:
        return intercept.record(self.model, self.source, points)

    def patch(self, point: HookPoint, recording: Recording) -> mx.array:
        return intercept.replace(self.model, self.target, [point], recording, self.positions)


@dataclass(frozen=True)
class Runs:
    """What a strategy makes of a plan: the two unpatched rows, and the patched ones in the order of the points."""

    source: mx.array
    target: mx.array
    cells: Iterable[tuple[HookPoint, mx.array]]
    strategy: str
    fallback: str | None = None


def walk(model: LoadedModel, question: Question) -> Walk:
    """Run both prompts and return the sweep, still to be walked.

    Raises AlignmentError, UnknownName or UsageError before the first forward pass where the question cannot be asked.
    """
    points = check_question(model, question)
    sweep, noising = question.sweep, question.sweep.direction is Direction.NOISING
    source, target = question.clean.ids, question.corrupted.ids
    if noising:
        source, target = target, source
    runs = _runs(Plan(model, source, target, tuple(points), sweep.positions), sweep.strategy)
    clean, corrupted = (runs.target, runs.source) if noising else (runs.source, runs.target)
    sites = {point: site_of(point, sweep.positions) for point in points}
    patched = ((sites[point], row) for point, row in runs.cells)
    return Walk(clean, corrupted, runs.strategy, tuple(sites.values()), patched, runs.fallback)


def _runs(plan: Plan, strategy: str) -> Runs:
    # Equal prompts have nothing to recover; there is no need to walk for that.
    if strategy == "stepwise" or plan.source == plan.target:
        return stepwise(plan)
    unproven = _unproven(plan)
    if strategy == "auto" and len(plan.points) <= sum(map(len, unproven.values())):
        return stepwise(plan)
    try:
        source, target, cells = one_pass(plan.model, plan.source, plan.target, plan.points, plan.positions)
        if strategy == "auto":
            _prove(plan, unproven, cells)
    except OnePassImpossible as error:
        return replace(stepwise(plan), fallback=str(error))
    return Runs(source, target, [(point, cells[point]) for point in plan.points], "one-pass")


def stepwise(plan: Plan) -> Runs:
    """One forward pass for each cell, run when asked: slow, and obviously right. The reference for everything else."""
    source, recording = plan.record(plan.points)
    target = intercept.forward(plan.model, plan.target)
    return Runs(source, target, ((point, plan.patch(point, recording)) for point in plan.points), "stepwise")


def _unproven(plan: Plan) -> Mapping[str, Sequence[HookPoint]]:
    """Return, for each component not yet proven on this model, the points to prove it at: first, a random, last."""
    by_component: dict[str, list[HookPoint]] = {}
    for point in plan.points:
        if point.component not in plan.model.proven:
            by_component.setdefault(point.component, []).append(point)
    chosen: dict[str, Sequence[HookPoint]] = {}
    for component, points in by_component.items():
        ordered = sorted(points, key=lambda point: point.layer)
        # Seeded: the same sweep is proven at the same layers, so that a failure can be seen again.
        middle = random.Random(f"{component} {len(ordered)}").choice(ordered)
        chosen[component] = tuple(dict.fromkeys((ordered[0], middle, ordered[-1])))
    return chosen


def _prove(plan: Plan, unproven: Mapping[str, Sequence[HookPoint]], cells: Mapping[HookPoint, mx.array]) -> None:
    """Hold some cells against stepwise, once a component of a model. Raises OnePassImpossible where they differ."""
    points = [point for chosen in unproven.values() for point in chosen]
    if not points:
        return
    _, recording = plan.record(points)
    for point in points:
        wanted = plan.patch(point, recording)
        if not equal(wanted, cells[point]):
            apart = relative_difference(wanted, cells[point])
            raise OnePassImpossible(f"{point}: one-pass and stepwise logits differ by {apart:.1e} of the largest logit")
    plan.model.proven.update(unproven)


def check_question(model: LoadedModel, question: Question) -> list[HookPoint]:
    """Return the hook points of a question that can be asked, before any forward pass."""
    for metric in question.metrics:
        if metric not in METRICS:
            raise UnknownName("metric", metric, METRICS)
    if question.sweep.strategy not in STRATEGIES:
        raise UnknownName("strategy", question.sweep.strategy, STRATEGIES)
    check_alignment(question.clean, question.corrupted)
    resolve_positions(question.sweep.positions, len(question.clean.ids))
    return resolve(model, question.sweep)


def check_alignment(clean: Tokens, corrupted: Tokens) -> None:
    """Raise AlignmentError when the prompts differ in length, with both tokenizations and the first difference.

    Without this, a whole-residual patch reads 100 % and a one-token prompt is broadcast over the other.
    """
    if len(clean.ids) == len(corrupted.ids):
        return
    pairs = zip(clean.ids, corrupted.ids, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(clean.ids), len(corrupted.ids)))
    raise AlignmentError(
        Finding(
            "ALN001",
            f"clean is {len(clean.ids)} tokens {_quoted(clean)}, corrupted is {len(corrupted.ids)} "
            f"{_quoted(corrupted)}; they first differ at position {first}",
            evidence={"clean": len(clean.ids), "corrupted": len(corrupted.ids), "first_difference": first},
        )
    )


def site_of(point: HookPoint, positions: Positions) -> Site:
    """Return the noun for a hook point patched at some positions."""
    where = positions if isinstance(positions, str) else ",".join(map(str, positions))
    return Site(point.component, point.layer, where)


def _quoted(tokens: Tokens) -> str:
    return "[" + " ".join(repr(text) for text in tokens.texts) + "]"
