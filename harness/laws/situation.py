"""What a job's law is asked about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import mlx.core as mx

from harness.engines import answer, engine_named
from harness.intercept import HookPoint, forward
from harness.models.loaded import LoadedModel
from harness.vocabulary import Answer, Question

Ask = Callable[[LoadedModel, Question], Answer]
"""An engine as a law sees it: it is asked, and it answers."""


def ask_native(model: LoadedModel, question: Question) -> Answer:
    """Ask the harness's own engine."""
    return answer(engine_named("native"), model, question)


@dataclass(frozen=True)
class Situation:
    """A model, a question, the hook points the question resolves to on that model, and the engine that is asked.

    `within` is how many points the caller counts as rounding; a law may know better, but allows no less. `grids` says
    that the model is small enough for a sample of a grid of positions to be one.
    """

    model: LoadedModel
    question: Question
    points: tuple[HookPoint, ...]
    ask: Ask = ask_native
    within: float = 0.0
    bare_row: mx.array | None = None
    """The bare model's logits `[vocab]` of the target prompt, where the caller has them."""
    grids: bool = False

    @property
    def target(self) -> tuple[int, ...]:
        """Token ids of the run that is patched."""
        return self.question.target

    @property
    def source(self) -> tuple[int, ...]:
        """Token ids of the run the activations come from."""
        return self.question.source

    @cached_property
    def bare(self) -> mx.array:
        """The bare model's logits `[vocab]` of the target prompt."""
        return forward(self.model, self.target) if self.bare_row is None else self.bare_row

    @property
    def layers(self) -> tuple[int, ...]:
        """The first, a middle and the last layer of the question: enough for a law, however deep the model."""
        every = sorted({point.layer for point in self.points})
        return tuple(dict.fromkeys((every[0], every[len(every) // 2], every[-1])))

    def sample(self, layers: tuple[int, ...]) -> Question:
        """Return the question for some layers only; on a large model a grid becomes all positions at once."""
        sweep = self.question.sweep
        positions = "all" if sweep.positions == "each" and not self.grids else sweep.positions
        return replace(self.question, sweep=replace(sweep, layers=layers, positions=positions))

    @cached_property
    def sampled(self) -> Answer:
        """The engine's answer to the question for `layers`, asked once."""
        return self.ask(self.model, self.sample(self.layers))
