"""Our own taps on a job's model, as the laws about runs see them: logits of runs that were recorded or patched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from harness.intercept import record, replace
from harness.intercept.hookpoints import point
from harness.laws.compared import Compared
from harness.laws.situation import Situation
from harness.metrics.tolerances import relative_difference, same_bits
from harness.models.architectures import architecture_of, blocks_of
from harness.vocabulary.errors import TapError


@dataclass(frozen=True)
class OwnTaps:
    """The runs of a situation by our own taps. The residual stream is put in after `layer`, or after the middle one."""

    situation: Situation
    layer: int | None = None

    @property
    def traced(self) -> Compared:
        """The target run with every hook point recorded, beside the bare one."""
        bare = self.situation.bare
        traced = _unless_refused(lambda: self.situation.put_back)
        if traced is None or not same_bits(bare, traced):  # tapping or putting back did that: tap alone
            traced, _ = record(self.situation.model, self.situation.target, self.situation.points)
        return _pair("traced and bare logits", bare, traced)

    @property
    def own_put_back(self) -> Compared:
        """The target run with its own activations put back at every hook point, beside the one they come from."""
        what, bare, at_once = "own activations put back, logits", self.situation.bare, self.situation.put_back
        if same_bits(bare, at_once):
            return _pair(what, bare, at_once)
        model, ids, points = self.situation.model, self.situation.target, self.situation.points
        traced, own = record(model, ids, points)
        positions = self.situation.question.sweep.positions
        patched = replace(model, ids, points, own, "all" if positions == "each" else positions)
        if same_bits(bare, traced) and same_bits(traced, patched):
            return _pair(what, bare, at_once)  # it went wrong once, and no tap is to blame for that
        return _pair(what, traced, patched)

    @property
    def residual(self) -> tuple[int, ...]:
        """The layer after which the residual stream is put in, how many tokens the prompts have, and where they differ:
        on one model, what goes around the stream shows in every question that shares these."""
        source, target = self.situation.source, self.situation.target
        layers = len(blocks_of(self.situation.model.module))
        differ = (at for at, (a, b) in enumerate(zip(source, target, strict=True)) if a != b)
        return layers // 2 if self.layer is None else self.layer, len(target), *differ

    @property
    def residual_put_in(self) -> Compared:
        """The target run with the source run's whole residual stream after one layer, beside the source run."""
        model, (layer, *_) = self.situation.model, self.residual
        blocks = blocks_of(model.module)
        stream = [point(blocks[layer], layer, "resid_post", architecture_of(model.card.architecture))]
        wanted, source = record(model, self.situation.source, stream)
        got = replace(model, self.situation.target, stream, source, "all")
        return _pair(f"whole residual at layer {layer} put in, logits", wanted, got)


def _unless_refused(run: Callable[[], mx.array]) -> mx.array | None:
    """Return a run, or None where some of its activations cannot be put back at these positions, which is no question
    of recording them."""
    try:
        return run()
    except TapError:
        return None


def _pair(what: str, wanted: mx.array, got: mx.array) -> Compared:
    return Compared({what: wanted}, {what: got}, lambda _: _distance(what, wanted, got))


def _distance(what: str, a: mx.array, b: mx.array) -> str:
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{what} differ: {a.shape} {a.dtype} and {b.shape} {b.dtype}"
    return f"{what} differ by {relative_difference(a, b):.2e} of the largest logit"
