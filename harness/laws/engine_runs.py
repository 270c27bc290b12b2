"""An engine seen from outside, as the laws about runs see it: by the runs that were observed, or by what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from harness.engines import ForeignEngine
from harness.intercept import forward
from harness.intercept.observer import ObservedRun
from harness.laws.compared import Compared
from harness.laws.own_taps import OwnTaps
from harness.laws.subject import EngineUnderTest, Outcome
from harness.metrics.tolerances import Work, relative_difference, same_bits
from harness.vocabulary import Reading
from harness.vocabulary.errors import DoesNotApply


@dataclass(frozen=True)
class EngineRuns:
    """The runs and answers of an engine under test; an engine that is no foreign one runs the model by our taps."""

    subject: EngineUnderTest

    @property
    def foreign(self) -> bool:
        return isinstance(self.subject.engine, ForeignEngine)

    @property
    def traced(self) -> Compared:
        """Its clean runs, one of its corrupted runs, and no run of anything else.

        Among the corrupted runs are patched ones, so one bare run is enough; a clean run is never patched.
        """
        if not self.foreign:
            return OwnTaps(self.subject.situation).traced
        clean, corrupted = self.subject.clean, self.subject.corrupted
        rows: dict[tuple[int, ...], list[ObservedRun]] = {}
        for run in _seen(self.subject.plain):
            rows.setdefault(run.ids, []).append(run)
        bare = {ids: forward(self.subject.model, ids) for ids in (clean, corrupted) if ids in rows}
        if len(bare) == 2:
            # An engine may warm up on other tokens; that its numbers come from them, `declared` would see.
            rows = {ids: rows[ids] for ids in bare}
        got = {ids: each[0].logits for ids, each in rows.items()}
        for ids, which in ((clean, min), (corrupted, max)):
            if ids in bare:
                got[ids] = which((_or_bare(run, bare[ids]) for run in rows[ids]), key=partial(same_bits, bare[ids]))

        def told(apart: list[tuple[int, ...]]) -> str:
            if apart[0] == clean:
                return f"its clean run differs from the bare run by {relative_difference(bare[clean], got[clean]):.1e}"
            if apart[0] == corrupted:
                return "none of its corrupted runs is the bare one"
            return f"it ran token ids {list(apart[0])}, which are no prompt"

        return Compared(bare, got, told)

    @property
    def own_put_back(self) -> Compared:
        """Every run of an answer where both prompts are the corrupted one."""
        if not self.foreign:
            return OwnTaps(self.subject.situation).own_put_back
        outcome = self.subject.ask(clean=self.subject.corrupted)
        if outcome.error:
            raise DoesNotApply(f"it refuses equal prompts: {outcome.error}")
        bare = forward(self.subject.model, self.subject.corrupted)
        got = [_or_bare(run, bare) for run in _seen(outcome) if run.ids == self.subject.corrupted]
        if len(got) <= len(self.subject.chosen_layers):
            raise DoesNotApply(f"it patches nothing where the prompts are equal: it ran the model {len(got)} times")
        return Compared(
            dict.fromkeys(range(len(got)), bare),
            dict(enumerate(got)),
            lambda apart: f"own activations put back move the logits by {relative_difference(bare, got[apart[0]]):.1e}",
        )

    @property
    def residual_put_in(self) -> Compared:
        """What it says resid_post recovers, beside 100 %."""
        self.subject.needs("resid_post")
        outcome = self.subject.ask("resid_post")
        wanted = dict.fromkeys(self.subject.chosen_layers, Reading.of(100.0))
        got = {layer: outcome.numbers[layer] for layer in wanted if layer in outcome.numbers}

        def told(apart: list[int]) -> str:
            if outcome.error:
                return f"raised {outcome.error}"
            shown = (f"layer {at} {got[at].text('.4f') if at in got else 'missing'}" for at in apart)
            return f"resid_post recovers {', '.join(shown)} instead of 100 %"

        return Compared(wanted, got, told, Work.OTHER_FORMULA, self.subject.model.card.dtype)


def _or_bare(run: ObservedRun, bare: mx.array) -> mx.array:
    """Return the logits of a run, or the bare ones where a batch or a cache makes no more of them than rounding."""
    return bare if run.is_like(bare) else run.logits


def _seen(outcome: Outcome) -> tuple[ObservedRun, ...]:
    if not outcome.seen:
        raise DoesNotApply("its runs of the model were not seen")
    return outcome.seen
