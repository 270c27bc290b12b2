"""The checks of the matrix, one a column: each takes a model and raises `Broken` with what it saw.

The two prompts differ at an early and at a late token and agree in the first and the last, so that a patch of the first
position must change nothing and one of the last position must change something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import mlx.core as mx
import numpy as np

from harness import patching
from harness.intercept import HookPoint, Recording, forward, record, replace, resolve
from harness.intercept.hookpoints import layers_with
from harness.laws import Situation
from harness.laws.own_taps import OwnTaps
from harness.laws.runs import (
    Patcher,
    own_activations_change_nothing,
    traced_is_bare,
    whole_residual_restores_everything,
)
from harness.metrics import host_row
from harness.metrics.tolerances import Work, equal, relative_difference, row_tolerance, same_bits
from harness.models.architectures import architecture_of, blocks_of
from harness.models.fingerprint import fingerprint
from harness.models.loaded import LoadedModel
from harness.models.sources import miniatures
from harness.vocabulary import Positions, Question, Site, Sweep, Tokens
from harness.vocabulary.errors import HarnessError

CLEAN, CORRUPTED = (3, 7, 11, 200, 5, 9), (3, 8, 11, 200, 6, 9)
COMPONENTS = ("resid_pre", "attn_out", "mlp_out", "resid_post", "self_attn", "mlp")
POSITIONS = ("all", "last")


class Broken(HarnessError):
    """A check did not hold; the text is what it saw."""


def build(architecture: str) -> LoadedModel:
    """Return the small model, once it has answered both prompts with logits that differ and are not NaN or inf."""
    model = miniatures.load(architecture)
    runs = [host_row(forward(model, ids)) for ids in (CLEAN, CORRUPTED)]
    if np.isnan(runs).any() or np.isposinf(runs).any():
        raise Broken("logits are NaN or inf")
    if np.array_equal(runs[0], runs[1]):
        raise Broken("two prompts give the same logits, so nothing could be seen")
    return model


def points_of(model: LoadedModel, components: Sequence[str] = COMPONENTS) -> list[HookPoint]:
    """Return the hook points of the components at every layer that has them."""
    layers = {component: _layers(model, component) for component in components}
    return [point for name, having in layers.items() if having for point in resolve(model, Sweep((name,), having))]


def _layers(model: LoadedModel, component: str) -> tuple[int, ...]:
    return tuple(layers_with(model, component))


def _tokens(ids: tuple[int, ...]) -> Tokens:
    return Tokens(ids, tuple(map(str, ids)))


def _situation(model: LoadedModel, positions: str) -> Situation:
    question = Question(_tokens(CLEAN), _tokens(CORRUPTED), Sweep(COMPONENTS, positions=positions), ("l2",))
    return Situation(model, question, tuple(points_of(model)))


def _law(law: Callable[[Patcher], str | None], model: LoadedModel) -> None:
    for positions in POSITIONS:
        if breach := law(OwnTaps(_situation(model, positions))):
            raise Broken(f"positions {positions}: {breach}")


def _traced(model: LoadedModel) -> None:
    _law(traced_is_bare, model)


def _self_patch(model: LoadedModel) -> None:
    _law(own_activations_change_nothing, model)


def _residual(model: LoadedModel) -> None:
    situation, layers = _situation(model, "all"), _layers(model, "resid_post")
    if lost := [layer for layer in layers if whole_residual_restores_everything(OwnTaps(situation, layer))]:
        raise Broken(f"not restored after layers {lost}")


def _parts(model: LoadedModel) -> None:
    row = architecture_of(model.card.architecture)
    for layer, block in enumerate(blocks_of(model.module)):
        own = row.of(block)
        here = [p for p in points_of(model, ("attn_out", "mlp_out", *own.beside)) if p.layer == layer]
        ends = [p for p in points_of(model, ("resid_pre", "resid_post")) if p.layer == layer]
        _, kept = record(model, CORRUPTED, [*ends, *here])
        before, after = (host_row(kept[point][0].flatten()) for point in ends)
        added = sum(host_row(kept[point][0].flatten()) for point in here)
        total = own.gain(block) * (before + own.scale(block) * added)
        off = float(np.abs(total - after).max() / np.abs(after).max())
        if not off <= row_tolerance(Work.SAME, model.card.dtype):
            raise Broken(f"layer {layer} differs by {off:.1e}")


def _stepwise(model: LoadedModel) -> None:
    before, points = fingerprint(model.module), points_of(model)
    _, source = record(model, CLEAN, points)
    unpatched = forward(model, CORRUPTED)
    for positions in POSITIONS:
        _all_matter(dict(_reference(model, points, source, positions)), unpatched, positions)
    for point in points:
        one, other = (replace(model, CORRUPTED, [point], source, p) for p in ("all", tuple(range(len(CLEAN)))))
        if not same_bits(one, other):
            raise Broken(f"{point}: all positions by number are not `all`")
    first = replace(model, CORRUPTED, points, source, (0,))
    if not equal(unpatched, first, Work.SAME):
        off = relative_difference(unpatched, first)
        raise Broken(f"position 0, up to which the prompts agree, changes the logits by {off:.1e}")
    if changed := before.difference(fingerprint(model.module)):
        raise Broken(f"the model is not what it was: {changed}")


def _one_pass(model: LoadedModel) -> None:
    points = points_of(model)
    unpatched, (_, source) = forward(model, CORRUPTED), record(model, CLEAN, points)
    for positions in (*POSITIONS, "each"):
        got = {site: row for question in _questions(model, positions) for site, row in _walked(model, question)}
        _all_matter(got, unpatched, positions)
        for site, wanted in _reference(model, points, source, positions):
            row = got.pop(site)
            if not equal(wanted, row, Work.OTHER_BATCH):
                raise Broken(f"{site}: differs from stepwise by {relative_difference(wanted, row):.1e}")
        if got:
            raise Broken(f"{next(iter(got))} was not asked for")


def _questions(model: LoadedModel, positions: str) -> list[Question]:
    """Return what to ask: one sweep for all the components that the same layers have."""
    by_layers: dict[tuple[int, ...], list[str]] = {}
    for component in COMPONENTS:
        by_layers.setdefault(_layers(model, component), []).append(component)
    sweeps = (
        Sweep(tuple(components), layers, positions=positions, strategy="one-pass")
        for layers, components in by_layers.items()
        if layers
    )
    return [Question(_tokens(CLEAN), _tokens(CORRUPTED), sweep, ("l2",)) for sweep in sweeps]


def _walked(model: LoadedModel, question: Question) -> list[tuple[Site, mx.array]]:
    walked = patching.walk(model, question)
    cells = list(walked.patched)
    if walked.strategy != "one-pass":
        raise Broken(f"goes {walked.strategy}: {walked.fallback}")
    return cells


def _reference(
    model: LoadedModel, points: Sequence[HookPoint], source: Recording, positions: str
) -> Iterator[tuple[Site, mx.array]]:
    """Yield the logits of one forward pass a cell, patched there and nowhere else."""
    chosen: list[Positions] = [(i,) for i in range(len(CLEAN))] if positions == "each" else [positions]
    for point in points:
        for where in chosen:
            name = where if isinstance(where, str) else str(where[0])
            yield Site(point.component, point.layer, name), replace(model, CORRUPTED, [point], source, where)


def _all_matter(patched: Mapping[Site, mx.array], unpatched: mx.array, positions: str) -> None:
    """Every component must change something at some layer; equal rows would agree without any patch."""
    for component in dict.fromkeys(site.component for site in patched):
        rows = [row for site, row in patched.items() if site.component == component]
        if all(equal(unpatched, row, Work.OTHER_BATCH) for row in rows):
            raise Broken(f"{component}, positions {positions}: no cell differs from the unpatched run")


CHECKS: Mapping[str, Callable[[LoadedModel], None]] = {
    "traced": _traced,
    "self-patch": _self_patch,
    "residual": _residual,
    "parts": _parts,
    "stepwise": _stepwise,
    "one-pass": _one_pass,
}
