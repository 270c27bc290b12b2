"""Our own taps on a job's model, as the laws about runs see them: logits of runs that were recorded or patched."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from harness.intercept import record, replace
from harness.intercept.hookpoints import point
from harness.laws.compared import Compared
from harness.laws.situation import Situation
from harness.metrics.tolerances import relative_difference
from harness.models.architectures import architecture_of, blocks_of


@dataclass(frozen=True)
class OwnTaps:
    """The runs of a situation by our own taps. The residual stream is put in after `layer`, or after the middle one."""

    situation: Situation
    layer: int | None = None

    @property
    def traced(self) -> Compared:
        """The target run with every hook point recorded, beside the bare one."""
        model, ids = self.situation.model, self.situation.target
        bare = self.situation.bare
        traced, _ = record(model, ids, self.situation.points)
        return _pair("traced and bare logits", bare, traced)

    @property
    def own_put_back(self) -> Compared:
        """The target run with its own activations put back at every hook point, beside the one they come from."""
        model, ids, points = self.situation.model, self.situation.target, self.situation.points
        bare, own = record(model, ids, points)
        positions = self.situation.question.sweep.positions
        patched = replace(model, ids, points, own, "all" if positions == "each" else positions)
        return _pair("own activations put back, logits", bare, patched)

    @property
    def residual_put_in(self) -> Compared:
        """The target run with the source run's whole residual stream after one layer, beside the source run."""
        model = self.situation.model
        blocks = blocks_of(model.module)
        layer = len(blocks) // 2 if self.layer is None else self.layer
        stream = [point(blocks[layer], layer, "resid_post", architecture_of(model.card.architecture))]
        wanted, source = record(model, self.situation.source, stream)
        got = replace(model, self.situation.target, stream, source, "all")
        return _pair(f"whole residual at layer {layer} put in, logits", wanted, got)


def _pair(what: str, wanted: mx.array, got: mx.array) -> Compared:
    return Compared({what: wanted}, {what: got}, lambda _: _distance(what, wanted, got))


def _distance(what: str, a: mx.array, b: mx.array) -> str:
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{what} differ: {a.shape} {a.dtype} and {b.shape} {b.dtype}"
    return f"{what} differ by {relative_difference(a, b):.2e} of the largest logit"
