"""How tensors are named in a diagnosis: their place, their role in all layers, and several of them in a row."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.diagnosis.outcome.nouns import Place

MOST_NAMED = 8
"""Tensors named one by one; of more, the number."""


def place_of(name: str, row: int | None = None, column: int | None = None) -> Place:
    """Return the place of an element of a tensor."""
    return Place.of_module("weights", "weights", name, row, column)


def listed(names: Sequence[str]) -> str:
    """Return names in a row, the first ones of many."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def role_of(name: str) -> str:
    """Return what a tensor is called in every layer."""
    return re.sub(r"\.\d+\.", ".N.", name)
