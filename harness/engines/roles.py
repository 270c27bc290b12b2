"""Which run was which: the roles of an engine's forward passes, proven from what they computed.

    source      the run that activations come from (clean, when denoising)
    target      the run they go into, unpatched
    patched     target runs with one patch each, known by where they first differ from the unpatched one

A patch in layer l shows first in what block l + 1 is given (or, for the last layer, in the logits), because that is
where the layer's output arrives; a patch of a layer's input shows there. A target run that differs nowhere is the
unpatched one, or one whose patch did nothing. Where the runs do not fit the places one to one, a call for one place
alone has only one run that can be its. What cannot be told apart stays unproven: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import mlx.core as mx

from harness.intercept.observer import ObservedRun
from harness.metrics.tolerances import same_bits


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
    other_prompts: tuple[tuple[int, ...], ...] = ()
    """Prompts that are neither of the two."""
    perturbed: dict[str, tuple[mx.array, mx.array]] = field(default_factory=dict)
    """`source` or `target` -> the bare row, and the engine's own, which differs."""


@dataclass(frozen=True)
class Bare:
    """Both prompts run on the untouched model."""

    source: ObservedRun
    target: ObservedRun


def prove(seen: Sequence[ObservedRun], bare: Bare, places: Sequence[CellPlace], on_input: bool = False) -> Roles:
    """Return the roles of the runs an engine made to patch `places`."""
    known = {bare.source.ids, bare.target.ids}
    roles = Roles(other_prompts=tuple(dict.fromkeys(run.ids for run in seen if run.ids not in known)))
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
    other = [run.logits for run in runs if not same_bits(run.logits, bare.logits)]
    if other:
        roles.perturbed["source"] = (bare.logits, other[0])
    if runs and all(same_bits(run.logits, runs[0].logits) for run in runs):
        roles.source = runs[0].logits


def _target(runs: Sequence[ObservedRun], bare: ObservedRun, roles: Roles) -> None:
    if any(same_bits(run.logits, bare.logits) for run in runs):
        roles.target = bare.logits
    elif _perturbed_throughout(runs, bare):
        roles.perturbed["target"] = (bare.logits, runs[0].logits)
        roles.target = runs[0].logits


def _perturbed_throughout(runs: Sequence[ObservedRun], bare: ObservedRun) -> bool:
    """Return whether several runs differ from the bare one at one and the same early stage, as a wrapper would do."""
    stages = [difference[0] for run in runs if (difference := run.first_difference(bare))]
    return len(stages) == len(runs) > 1 and len(set(stages)) == 1


def _patched(
    targets: Sequence[ObservedRun], bare: ObservedRun, places: Sequence[CellPlace], on_input: bool, roles: Roles
) -> None:
    """Give every place the run whose patch lies there, if that accounts for all runs; in part it would prove nothing,
    because a run for one place may have been patched at another."""
    reference = next((run for run in targets if roles.target is not None and same_bits(run.logits, roles.target)), bare)
    found: dict[CellPlace, ObservedRun] = {}
    idle = 0
    for run in targets:
        if run.stages and same_bits(run.logits, reference.logits) and run.first_difference(reference) is None:
            idle += 1
            continue
        place = _place(run, reference, places, on_input)
        if place is None or (place in found and not same_bits(found[place].logits, run.logits)):
            return
        found[place] = run
    left = [place for place in places if place not in found]
    # Runs that changed nothing are the unpatched one and, if the count says so, those of the places that are left.
    if left and idle != len(left) + 1:
        return
    roles.patched = {place: found[place].logits if place in found else reference.logits for place in places}


def _place(run: ObservedRun, reference: ObservedRun, places: Sequence[CellPlace], on_input: bool) -> CellPlace | None:
    difference = run.first_difference(reference)
    if difference is None:
        return None
    stage, tokens = difference
    layer = stage if on_input else stage - 1
    fitting = [p for p in places if p.layer == layer and (p.token is None or tokens == {p.token})]
    # Heads of one layer differ in no stage of a run.
    return fitting[0] if len(fitting) == 1 else None


def alone(seen: Sequence[ObservedRun], bare: Bare) -> mx.array | None:
    """Return the patched row of a call that asked for one place only: the one target run that is not the bare one, or
    the bare one where there were two of it."""
    targets = [run.logits for run in seen if run.ids == bare.target.ids]
    others = [row for row in targets if not same_bits(row, bare.target.logits)]
    if len(targets) < 2 or len(others) == len(targets):
        return None
    if not others:
        return bare.target.logits
    return others[0] if all(same_bits(row, others[0]) for row in others) else None
