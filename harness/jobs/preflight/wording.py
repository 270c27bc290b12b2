"""What an inspection yields: a fault of the case at a key path, or something that could not be looked at."""

from __future__ import annotations

from dataclasses import dataclass

from harness.casefile.syntax.document import KeyPath


@dataclass(frozen=True)
class Refused:
    """Something a run on this model would refuse, and where the case says it."""

    path: KeyPath
    text: str


@dataclass(frozen=True)
class Unknown:
    """Something nobody can say without the model, and why."""

    what: str
    why: str
