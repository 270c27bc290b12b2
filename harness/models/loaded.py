"""What every source of models returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.vocabulary import ModelCard, Question, Reading


class Tokenizer(Protocol):
    """The part of a tokenizer that the harness uses; mlx-lm's wrappers fit as they are."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class KnownAnswers(Protocol):
    """Recoveries that follow from a model's construction, in closed form."""

    @property
    def linear(self) -> bool:
        """Whether the logits are linear in every activation, so that a first-order estimate of them is exact."""

    def recovery(
        self, question: Question, component: str, layer: int, metric: str, head: int | None = None
    ) -> Reading | None:
        """Return the recovery (percent) the question must get at a cell, or None where no closed form exists."""

    def tolerance(self, question: Question, metric: str) -> float:
        """Return how many percentage points a correct engine may be away in this model's dtype."""


@dataclass
class LoadedModel:
    """A model ready to run: the module, its tokenizer where it has one, and what is known of its answers."""

    card: ModelCard
    module: Any
    tokenizer: Tokenizer | None = None
    known: KnownAnswers | None = None
    proven: set[str] = field(default_factory=set, repr=False)
    """Components whose one-pass sweep was held against stepwise on this model."""
    restored: set[Any] = field(default_factory=set, repr=False)
    """Where the whole residual stream was seen to restore everything: after which layer, how many tokens the prompts
    have, and at which positions they differ."""
    unshared: str = ""
    """Why one-pass sweeps of this model do not run a common prefix once; empty while nothing speaks against it."""
    folder: Path | None = None
    """Where its files are, for whoever reads them otherwise; None for a model that was made in memory."""
    layouts: dict[Any, Any] = field(default_factory=dict, repr=False)
    """How its blocks and their parts are called, for the walks of `harness.patching`."""
