"""What a job's law is asked about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import mlx.core as mx

from harness.engines import answer, engine_named
from harness.engines.kept_rows import KeptRows
from harness.intercept import HookPoint, forward, output_changed, put_back
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
    kept: KeptRows | None = None
    """Rows of the engine's sweep of the question, where its numbers are arithmetic on them."""
    proven: bool = False
    """Whether cells of that sweep were held against forward passes that share nothing with it."""

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

    @cached_property
    def put_back(self) -> mx.array:
        """The target run `[vocab]` with its own activations put back while it ran."""
        positions = self.question.sweep.positions
        return put_back(self.model, self.target, self.points, "all" if positions == "each" else positions)

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
        """The engine's answer to the question for `layers`: of rows that were kept, or asked once."""
        if self.kept is not None:
            return self.kept.answer(self.model, self.question)
        return self.ask(self.model, self.sample(self.layers))

    def scaled(self, factor: float, metrics: tuple[str, ...]) -> Answer:
        """Return the engine's answer for `layers` where the model's logits are `factor` times as large."""
        if self.kept is not None:
            return self.kept.answer(self.model, replace(self.question, metrics=metrics), factor)
        with output_changed(self.model.module, lambda out: _times(out, factor)):
            return self.ask(self.model, replace(self.sample(self.layers), metrics=metrics))

    def alone(self, layers: tuple[int, ...]) -> tuple[Answer, Answer]:
        """Return the engine's answers among others and for some layers only, which are asked where nothing has shown
        yet that cells of a sweep keep to themselves."""
        question = self.sample(layers)
        if self.kept is None:
            return self.sampled, self.ask(self.model, question)
        if self.proven:
            sweep = replace(self.question.sweep, layers=layers)
            return self.sampled, self.kept.answer(self.model, replace(self.question, sweep=sweep))
        same = question.sweep.positions == self.question.sweep.positions
        among = self.sampled if same else self.ask(self.model, self.sample(self.layers))
        return among, self.ask(self.model, question)


def _times(out: object, factor: float) -> object:
    if isinstance(out, tuple):
        return (out[0] * factor, *out[1:])
    return out * factor  # type: ignore[operator]  # an array of logits
