"""What it means that a model answers one prompt in two ways."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from harness.vocabulary import Finding


class Cause(Enum):
    """Why a model answers one prompt in two ways."""

    TRAINING = "a module in training mode draws at random"
    DRAW = "a module draws at random"
    STATE = "state is kept from an earlier call"
    DEVICE = "the device is not deterministic"
    UNKNOWN = "nothing that a call draws or leaves behind explains it"


@dataclass(frozen=True)
class Inconstancy:
    """Two answers of a model to one prompt: the cause, the module it is in, and what was seen.

    `module` is None where no module could be told. `proven` says that without the cause the answers are alike.
    `difference` is a share of the largest logit.
    """

    cause: Cause
    module: str | None
    message: str
    proven: bool
    differing: int
    runs: int
    difference: float

    @property
    def is_the_models(self) -> bool:
        """Whether more than rounding by the machine is behind it."""
        return self.cause is not Cause.DEVICE

    @property
    def evidence(self) -> dict[str, Any]:
        """What was seen, as JSON types."""
        seen = {"module": self.module, "differing": self.differing, "runs": self.runs, "difference": self.difference}
        return {"cause": self.cause.name.lower(), **seen}


def finding_of(found: Inconstancy) -> Finding:
    """Return what a job or a notebook says of a model, or a machine, that gives one prompt two answers."""
    return Finding("MOD001" if found.is_the_models else "MOD002", found.message, evidence=found.evidence)
