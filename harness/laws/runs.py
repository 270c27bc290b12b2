"""Laws about runs: what our own taps record and put back, compared logit by logit."""

from __future__ import annotations

import mlx.core as mx

from harness.intercept import forward, record, replace
from harness.intercept.hookpoints import point
from harness.laws.situation import Situation
from harness.metrics.tolerances import Work, equal, relative_difference, same_bits
from harness.models.architectures import architecture_of, blocks_of


def traced_is_bare(situation: Situation) -> str | None:
    """Recording activations leaves the logits as they are, bit for bit."""
    bare = forward(situation.model, situation.target)
    traced, _ = record(situation.model, situation.target, situation.points)
    return None if same_bits(bare, traced) else _distance("traced and bare logits", bare, traced)


def self_patch_changes_nothing(situation: Situation) -> str | None:
    """A run that gets its own activations back at every hook point is unchanged, bit for bit."""
    model, ids = situation.model, situation.target
    bare, own = record(model, ids, situation.points)
    positions = situation.question.sweep.positions
    patched = replace(model, ids, situation.points, own, "all" if positions == "each" else positions)
    return None if same_bits(bare, patched) else _distance("own activations put back, logits", bare, patched)


def whole_residual_restores(situation: Situation) -> str | None:
    """The whole residual stream of one run, put into the other, gives the first one's logits."""
    model = situation.model
    blocks = blocks_of(model.module)
    middle = len(blocks) // 2
    stream = [point(blocks[middle], middle, "resid_post", architecture_of(model.card.architecture))]
    wanted, source = record(model, situation.source, stream)
    got = replace(model, situation.target, stream, source, "all")
    if equal(wanted, got, Work.SAME):
        return None
    return _distance(f"whole residual at layer {middle} put in, logits", wanted, got)


def _distance(what: str, a: mx.array, b: mx.array) -> str:
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{what} differ: {a.shape} {a.dtype} and {b.shape} {b.dtype}"
    return f"{what} differ by {relative_difference(a, b):.2e} of the largest logit"
