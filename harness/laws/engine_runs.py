"""An engine seen from outside, as the laws about runs see it: by the runs that were observed, or by what it answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import mlx.core as mx

from harness.engines import ForeignEngine
from harness.engines.roles import CellPlace
from harness.intercept import forward
from harness.intercept.observer import ObservedRun
from harness.laws.compared import Compared
from harness.laws.own_taps import OwnTaps
from harness.laws.subject import EngineUnderTest, Outcome, named
from harness.metrics.tolerances import Work, recovery_tolerance, relative_difference, same_bits
from harness.vocabulary import Direction, Reading
from harness.vocabulary.errors import DoesNotApply
from harness.vocabulary.words import number_of


@dataclass(frozen=True)
class EngineRuns:
    """The runs and answers of an engine under test; an engine that is no foreign one runs the model by our taps."""

    subject: EngineUnderTest

    @property
    def foreign(self) -> bool:
        return isinstance(self.subject.engine, ForeignEngine)

    @property
    def traced(self) -> Compared:
        """Its source runs, one of its target runs, and no run of anything else.

        Among the target runs are patched ones, so one bare run is enough; a source run is never patched.
        """
        if not self.foreign:
            return OwnTaps(self.subject.situation).traced
        prompts = {self.subject.clean: "clean", self.subject.corrupted: "corrupted"}
        noising = self.subject.asked.direction is Direction.NOISING
        source, target = reversed(prompts) if noising else prompts
        rows: dict[tuple[int, ...], list[ObservedRun]] = {}
        for run in _seen(self.subject.plain):
            rows.setdefault(run.ids, []).append(run)
        bare = {ids: forward(self.subject.model, ids) for ids in (source, target) if ids in rows}
        if len(bare) == 2:
            # An engine may warm up on other tokens; that its numbers come from them, `declared` would see.
            rows = {ids: rows[ids] for ids in bare}
        got = {ids: each[0].logits for ids, each in rows.items()}
        for ids, which in ((source, min), (target, max)):
            if ids in bare:
                got[ids] = which((_or_bare(run, bare[ids]) for run in rows[ids]), key=partial(same_bits, bare[ids]))

        def said(ids: tuple[int, ...]) -> str:
            if ids == source:
                off = relative_difference(bare[source], got[source])
                return f"its {prompts[source]} run differs from the bare run by {off:.1e}"
            if ids == target:
                return f"none of its {prompts[target]} runs is the bare one"
            return f"it ran token ids {list(ids)}, which are no prompt"

        return Compared(bare, got, lambda apart: "; ".join(map(said, apart)))

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
        if len(got) <= len(self.subject.places):
            raise DoesNotApply(
                f"it patches nothing where the prompts are equal: it ran the model {number_of(len(got), 'time')}"
            )
        return Compared(
            dict.fromkeys(range(len(got)), bare),
            dict(enumerate(got)),
            lambda apart: f"own activations put back move the logits by {relative_difference(bare, got[apart[0]]):.1e}",
        )

    @property
    def residual_put_in(self) -> Compared:
        """What it says resid_post recovers, beside 100 %, or 0 % where the corrupted value goes into the clean run."""
        self.subject.needs("resid_post")
        subject = self.subject.of(replace(self.subject.asked, component="resid_post"))
        outcome, all_of_it = subject.plain, 0.0 if subject.asked.direction is Direction.NOISING else 100.0
        wanted = {place: Reading.of(all_of_it) for place in subject.places if _is_whole(place, subject)}
        if not wanted:
            raise DoesNotApply("no cell is the whole residual stream at the last layer")
        got = {place: outcome.numbers[place] for place in wanted if place in outcome.numbers}

        def told(apart: list[CellPlace]) -> str:
            if outcome.error:
                return f"raised {outcome.error}"
            shown = (f"{named(at)} {got[at].text('.4f') if at in got else 'missing'}" for at in apart)
            return f"resid_post recovers {', '.join(shown)} instead of {all_of_it:g} %"

        dtype = subject.model.card.dtype  # of patched rows of a batch beside unpatched ones
        return Compared(wanted, got, told, Work.OTHER_FORMULA, dtype, recovery_tolerance(Work.OTHER_BATCH, dtype))


def _is_whole(place: CellPlace, subject: EngineUnderTest) -> bool:
    """Return whether nothing else reaches the last token's logits: all positions, or the last at the last layer."""
    positions, last = subject.asked.positions, len(subject.clean) - 1
    if positions == "all":
        return True
    at_last = place.token == last if positions == "each" else positions == "last" or last in positions
    return at_last and place.layer == subject.model.card.layers - 1


def _or_bare(run: ObservedRun, bare: mx.array) -> mx.array:
    """Return the logits of a run, or the bare ones where a batch or a cache makes no more of them than rounding."""
    return bare if run.is_like(bare) else run.logits


def _seen(outcome: Outcome) -> tuple[ObservedRun, ...]:
    if not outcome.seen:
        raise DoesNotApply("its runs of the model were not seen")
    return outcome.seen
