"""From a question to the logits of its unpatched and patched runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from harness.errors import AlignmentError, UnknownName
from harness.intercept import HookPoint, forward, record, resolve, resolve_positions
from harness.models.loaded import LoadedModel
from harness.patching.stepwise import stepwise
from harness.vocabulary import METRICS, Direction, Finding, Positions, Question, Site, Tokens

STRATEGIES: Mapping[str, Any] = {"stepwise": stepwise}
"""Name -> generator of (hook point, logits). `auto` takes the first."""


@dataclass(frozen=True)
class Walk:
    """The runs of a sweep: logits `[vocab]` in the model's dtype, last token only.

    `sites` are the cells in order; `patched` yields them with their logits and runs each forward pass when asked.
    """

    clean: mx.array
    corrupted: mx.array
    strategy: str
    sites: tuple[Site, ...]
    patched: Iterator[tuple[Site, mx.array]]


def walk(model: LoadedModel, question: Question, strategy: str = "auto") -> Walk:
    """Run both prompts and return the sweep, still to be walked.

    Raises AlignmentError, UnknownName or UsageError before the first forward pass where the question cannot be asked.
    """
    name = _strategy(strategy)
    points = check_question(model, question)
    sweep = question.sweep
    into, out_of = question.corrupted.ids, question.clean.ids
    if sweep.direction is Direction.NOISING:
        into, out_of = out_of, into
    source_row, source = record(model, out_of, points)
    target_row = forward(model, into)
    clean, corrupted = source_row, target_row
    if sweep.direction is Direction.NOISING:
        clean, corrupted = corrupted, clean
    cells = STRATEGIES[name](model, into, points, source, sweep.positions)
    sites = {point: site_of(point, sweep.positions) for point in points}
    return Walk(clean, corrupted, name, tuple(sites.values()), ((sites[point], row) for point, row in cells))


def check_question(model: LoadedModel, question: Question) -> list[HookPoint]:
    """Return the hook points of a question that can be asked, before any forward pass."""
    for metric in question.metrics:
        if metric not in METRICS:
            raise UnknownName("metric", metric, METRICS)
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


def _strategy(name: str) -> str:
    if name == "auto":
        return next(iter(STRATEGIES))
    if name not in STRATEGIES:
        raise UnknownName("strategy", name, ["auto", *STRATEGIES])
    return name
