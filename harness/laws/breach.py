"""What a law saw broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LawBreach:
    """One way in which a law is broken; `kind` is the same wherever the same mistake breaks it."""

    kind: str
    text: str


Seen = str | Sequence[LawBreach] | None
"""What a law returns: None or nothing where it holds, a sentence, or a breach for each kind of mistake."""


def breaches(seen: Seen) -> tuple[LawBreach, ...]:
    """Return what a law said as breaches, none where it holds."""
    if isinstance(seen, str):
        return (LawBreach("", seen),) if seen else ()
    return tuple(seen or ())
