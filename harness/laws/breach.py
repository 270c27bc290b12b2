"""What a law saw broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.laws.forms import Form


@dataclass(frozen=True)
class LawBreach:
    """One way in which a law is broken; `kind` is the same wherever the same mistake breaks it.

    `code` is that of its finding, where it is not the law's own. `form` is the form it was first seen in, where the law
    was asked in several.
    """

    kind: str
    text: str
    code: str = ""
    form: Form | None = None


Seen = str | Sequence[LawBreach] | None
"""What a law returns: None or nothing where it holds, a sentence, or a breach for each kind of mistake."""


def breaches(seen: Seen) -> tuple[LawBreach, ...]:
    """Return what a law said as breaches, none where it holds."""
    if isinstance(seen, str):
        return (LawBreach("", seen),) if seen else ()
    return tuple(seen or ())
