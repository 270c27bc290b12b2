"""Which run was which: the roles of an engine's forward passes, proven from what they computed.

    source      the run that activations come from (clean, when denoising)
    target      the run they go into, unpatched
    patched     target runs with one patch each, known by where they first differ from the unpatched one

A patch in layer l shows first in what block l + 1 is given (or, for the last layer, in the logits), because that is
where the layer's output arrives; a patch of a layer's input shows there. A target run that differs nowhere is the
unpatched one, or one whose patch did nothing. Where the runs do not fit the places one to one, a run may be known by
its logits, which are those of the right patch (`matched`), and a call for one place alone has only one run that can be
its. What cannot be told apart stays unproven: nothing is guessed.

A run is compared as what it is: the rows of a batch, and what goes on from a cache, round apart from a plain run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import mlx.core as mx

from harness.intercept.observer import UNKNOWN, ObservedRun
from harness.metrics.tolerances import Work, relative_difference, same_bits


class CellPlace(NamedTuple):
    """A layer; the token where a grid patches one token at a time, and the head where one head is patched at a time."""

    layer: int
    token: int | None = None
    head: int | None = None


@dataclass
class Roles:
    """The engine's own rows `[vocab]`; None and absent keys are roles that could not be proven."""

    source: mx.array | None = None
    target: mx.array | None = None
    patched: dict[CellPlace, mx.array] = field(default_factory=dict)
    unmoved: frozenset[CellPlace] = frozenset()
    """Places whose runs are only known by their number: each computed what the unpatched run does."""
    other_prompts: tuple[tuple[int, ...], ...] = ()
    """Prompts that are neither of the two."""
    perturbed: dict[str, tuple[mx.array, mx.array]] = field(default_factory=dict)
    """`source` or `target` -> the bare row, and the engine's own, which differs."""


@dataclass(frozen=True)
class Bare:
    """Both prompts run on the untouched model."""

    source: ObservedRun
    target: ObservedRun


def runs_of(seen: Sequence[ObservedRun], *prompts: tuple[int, ...]) -> tuple[ObservedRun, ...]:
    """Return the runs without those that only read, into a cache, what a later run began with."""
    begun = {run.ids[: run.start] for run in seen if run.start}
    read = {ids[:count] for ids in begun for count in range(1, len(ids) + 1)}
    return tuple(run for run in seen if run.ids in prompts or not (run.cached and run.ids in read))


def prove(seen: Sequence[ObservedRun], bare: Bare, places: Sequence[CellPlace], on_input: bool = False) -> Roles:
    """Return the roles of the runs an engine made to patch `places`."""
    known = {bare.source.ids, bare.target.ids}
    others = (run.ids for run in seen if run.ids not in known and UNKNOWN not in run.ids)
    roles = Roles(other_prompts=tuple(dict.fromkeys(others)))
    if bare.source.ids == bare.target.ids:
        return roles
    sources = [run for run in seen if run.ids == bare.source.ids]
    targets = [run for run in seen if run.ids == bare.target.ids]
    _sources(sources, bare.source, roles)
    _target(targets, bare.target, roles)
    if roles.target is not None:
        _patched(targets, bare.target, places, on_input, roles)
    return roles


def _sources(runs: Sequence[ObservedRun], bare: ObservedRun, roles: Roles) -> None:
    """Nothing is ever patched into the source run, so any that differs from the bare one is perturbed."""
    other = [run.logits for run in runs if not run.is_like(bare.logits)]
    if other:
        roles.perturbed["source"] = (bare.logits, other[0])
    # Two ways to run one prompt may round apart, and neither is wrong.
    if (runs and all(same_bits(run.logits, runs[0].logits) for run in runs)) or (runs and not other):
        roles.source = _nearest(runs, bare.logits).logits


def _target(runs: Sequence[ObservedRun], bare: ObservedRun, roles: Roles) -> None:
    if alike := [run for run in runs if run.is_like(bare.logits)]:
        roles.target = _nearest(alike, bare.logits).logits
    elif _perturbed_throughout(runs, bare):
        roles.perturbed["target"] = (bare.logits, runs[0].logits)
        roles.target = runs[0].logits


def _nearest(runs: Sequence[ObservedRun], row: mx.array) -> ObservedRun:
    return min(runs, key=lambda run: relative_difference(row, run.logits, equal_nan=True))


def _perturbed_throughout(runs: Sequence[ObservedRun], bare: ObservedRun) -> bool:
    """Return whether several runs differ from the bare one at one and the same early stage, as a wrapper would do.

    Of a batch, or through a cache, all stages differ from the bare ones in their rounding.
    """
    if any(run.rows > 1 or run.cached for run in runs):
        return False
    stages = [difference[0] for run in runs if (difference := run.first_difference(bare))]
    return len(stages) == len(runs) > 1 and len(set(stages)) == 1


def _patched(
    targets: Sequence[ObservedRun], bare: ObservedRun, places: Sequence[CellPlace], on_input: bool, roles: Roles
) -> None:
    """Give every place the run whose patch lies there, if that accounts for all runs; in part it would prove nothing,
    because a run for one place may have been patched at another."""
    found: dict[CellPlace, ObservedRun] = {}
    idle: list[ObservedRun] = []
    for run in targets:
        reference = _reference(run, targets, bare, roles)
        if run.stages and same_bits(run.logits, reference.logits) and run.first_difference(reference) is None:
            idle.append(run)
            continue
        place = _place(run, reference, places, on_input)
        if place is None or (place in found and not same_bits(found[place].logits, run.logits)):
            return
        found[place] = run
    left = [place for place in places if place not in found]
    # Runs that changed nothing are the unpatched one and, if the count says so, those of the places that are left.
    if left and (len(idle) != len(left) + 1):
        return
    roles.unmoved = frozenset(left)
    roles.patched = {place: found[place].logits if place in found else idle[0].logits for place in places}


def _reference(run: ObservedRun, targets: Sequence[ObservedRun], bare: ObservedRun, roles: Roles) -> ObservedRun:
    """Return the unpatched run beside a patched one: of the same batch or cache where there is one."""
    alike = [each for each in targets if (each.rows, each.start) == (run.rows, run.start) and each.stages]
    if run.work is not Work.SAME:
        alike = [each for each in alike if each.is_like(bare.logits)]
        return _nearest(alike, bare.logits) if alike else bare
    return next((each for each in alike if roles.target is not None and same_bits(each.logits, roles.target)), bare)


def _place(run: ObservedRun, reference: ObservedRun, places: Sequence[CellPlace], on_input: bool) -> CellPlace | None:
    difference = run.first_difference(reference)
    if difference is None:
        return None
    stage, tokens = difference
    layer, tokens = stage if on_input else stage - 1, frozenset(run.start + token for token in tokens)
    fitting = [p for p in places if p.layer == layer and (p.token is None or tokens == {p.token})]
    # Heads of one layer differ in no stage of a run.
    return fitting[0] if len(fitting) == 1 else None


def nearest_target(seen: Sequence[ObservedRun], bare: Bare, row: mx.array) -> mx.array | None:
    """Return the logits of the target run that are this row, as near as such a run may round; None where none are."""
    targets = [run for run in seen if run.ids == bare.target.ids]
    best = _nearest(targets, row) if targets else None
    return best.logits if best is not None and best.is_like(row) else None


def alone(seen: Sequence[ObservedRun], bare: Bare) -> mx.array | None:
    """Return the patched row of a call that asked for one place only: the one target run that is not the bare one, or
    the bare one where there were two of it."""
    targets = [run for run in seen if run.ids == bare.target.ids]
    if len(targets) < 2:
        return None
    unpatched = _nearest(targets, bare.target.logits)
    others = [run.logits for run in targets if not same_bits(run.logits, unpatched.logits)]
    if not unpatched.is_like(bare.target.logits):
        return None
    if not others:
        return unpatched.logits
    return others[0] if all(same_bits(row, others[0]) for row in others) else None
