"""Is a model a function of its input? Asked A, B, A, it answers A alike twice.

One that does not either draws at random, dropout in training mode above all, or keeps state from an earlier call, or
runs on a device that is not deterministic. Which of them is tried out (`inquiry.py`): without the cause the answers are
alike, and then it is proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import mlx.core as mx

from harness.intercept import generators
from harness.intercept.capture import forward
from harness.intercept.inconstancy import Inconstancy
from harness.intercept.inquiry import Inquiry
from harness.metrics.tolerances import same_bits
from harness.models.kept import KeptState
from harness.models.loaded import LoadedModel
from harness.vocabulary.errors import device_failed


@dataclass
class Constancy:
    """A model as it was before it was asked, and whether it answers as a function of its input since."""

    model: LoadedModel
    harmless: set[str] = field(default_factory=set)
    """State that moves and was seen to change no answer: it is not looked at again."""

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Take what the model and the generators are now for what they were before."""
        self.kept, self.drawn = KeptState(self.model.module), generators.states()

    def watch(self) -> None:
        """Look from now on whether something draws; what the model keeps is held against what it was at the start."""
        self.drawn = generators.states()

    def asked(self, a: Sequence[int], b: Sequence[int]) -> Inconstancy | None:
        """Ask A, B, A, and return what is wrong. Raises what the model raises on A the first time."""
        first = forward(self.model, a)
        with suppress(Exception):  # whether B can be run at all is another question
            forward(self.model, b)
        return self.judged(first, a, b)

    def judged(
        self,
        first: mx.array,
        a: Sequence[int],
        b: Sequence[int],
        again: mx.array | None = None,
        *,
        watched: bool = False,
        thoroughly: bool = False,
    ) -> Inconstancy | None:
        """Return what is wrong with a model that gave the row `first` `[vocab]` for A, before B, and gives `again`.

        `watched` says that the first run was watched, and another one may be rounded otherwise than it was. A model is
        asked `thoroughly`, many times, where something went wrong that chance in it would explain.
        """
        inquiry = Inquiry(self.model, self.kept, a, b)
        if again is None:
            try:
                again = forward(self.model, a)
            except Exception as error:
                if device_failed(error):
                    raise
                return inquiry.broken(error)  # it could be run before
        doubtful = thoroughly or self.drawn != generators.states() or not same_bits(first, again)
        if doubtful and (found := inquiry.explained(*(() if watched else (first, again)))):
            return found
        moved = [name for name in self.kept.moved() if name not in self.harmless]
        if moved and (found := inquiry.by_order(moved)):
            return found
        self.harmless.update(moved)
        return None


def another(ids: Sequence[int]) -> list[int]:
    """Return another prompt of the same ids, of the same length where they are not all alike."""
    turned = [*ids[1:], ids[0]]
    return turned if turned != list(ids) else [*turned, ids[0]]
