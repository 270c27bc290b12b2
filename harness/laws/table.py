"""The table of laws. A law returns what it saw broken, or None.

That taps fire is asserted by every recording and every patch itself (`harness.intercept`), and that the model is
unchanged is asked of the job as a whole, so neither is a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from harness.intercept import HookPoint, forward, record, replace
from harness.intercept.hookpoints import point
from harness.models.architectures import architecture_of, blocks_of
from harness.models.loaded import LoadedModel
from harness.patching.equality import relative_difference, same_bits
from harness.vocabulary import Direction, Question

_EQUAL: Mapping[Any, float] = {mx.float32: 1e-5, mx.float16: 4e-3, mx.bfloat16: 3e-2}
"""Largest |difference| / largest |logit| that counts as equal: about four roundings of a half, DESIGN's for float32.

Tighter than what two strategies may differ by: here the work is the same, and bits are expected."""


@dataclass(frozen=True)
class Situation:
    """A model, a question, and the hook points the question resolves to on that model."""

    model: LoadedModel
    question: Question
    points: tuple[HookPoint, ...]

    @property
    def target(self) -> tuple[int, ...]:
        """Token ids of the run that is patched."""
        noising = self.question.sweep.direction is Direction.NOISING
        return self.question.clean.ids if noising else self.question.corrupted.ids

    @property
    def source(self) -> tuple[int, ...]:
        """Token ids of the run the activations come from."""
        noising = self.question.sweep.direction is Direction.NOISING
        return self.question.corrupted.ids if noising else self.question.clean.ids


@dataclass(frozen=True)
class Law:
    """A finding's code, and the test that returns a description of the breach."""

    code: str
    test: Callable[[Situation], str | None]


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
    if same_bits(wanted, got) or relative_difference(wanted, got) <= _EQUAL.get(wanted.dtype, 1e-5):
        return None
    return _distance(f"whole residual at layer {middle} put in, logits", wanted, got)


LAWS: tuple[Law, ...] = (
    Law("LAW001", traced_is_bare),
    Law("LAW002", self_patch_changes_nothing),
    Law("LAW003", whole_residual_restores),
)


def _distance(what: str, a: mx.array, b: mx.array) -> str:
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{what} differ: {a.shape} {a.dtype} and {b.shape} {b.dtype}"
    return f"{what} differ by {relative_difference(a, b):.2e} of the largest logit"
