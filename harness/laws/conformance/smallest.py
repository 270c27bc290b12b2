"""The smallest question that still shows a breach: one layer instead of all, and the shortest pair of prompts.

A smaller question counts only where the law is broken so when it alone is asked, on a fresh model: whoever runs the
command that a report prints sees the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.laws.conformance.rows import ModelRow

Shown = Callable[[ModelRow], Mapping[str, str]]
"""Asks the law on a row, and returns kind of mistake -> what is seen."""


@dataclass(frozen=True)
class Smallest:
    """A question that shows a breach, and what it shows; `layers` None means all, and no prompts those of the row."""

    model: str
    seen: str
    clean: tuple[int, ...] = ()
    corrupted: tuple[int, ...] = ()
    layers: tuple[int, ...] | None = None

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Smallest:
        """Read one back from JSON types."""
        given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}
        return cls(**given)

    @property
    def options(self) -> list[str]:
        """The words by which `harness conformance --row` asks it."""
        ids = (("--clean", self.clean), ("--corrupted", self.corrupted), ("--layers", self.layers))
        words = [word for name, given in ids if given for word in (name, ",".join(map(str, given)))]
        return [*words, *(["--ids"] if self.clean or self.corrupted else [])]


def smallest(row: ModelRow, layers: int, kinds: Collection[str], shown: Shown) -> dict[str, Smallest]:
    """Return, for each kind of mistake, the smallest of a few questions that shows it; none where only the laws before
    this one make it appear."""
    found: dict[str, Smallest] = {}
    for smaller in _smaller(row, layers):
        shorter = smaller.clean != row.clean
        for kind, seen in shown(smaller).items():
            clean, corrupted = (smaller.clean, smaller.corrupted) if shorter else ((), ())
            found.setdefault(kind, Smallest(row.id, seen, clean, corrupted, smaller.layers))
        if found.keys() >= set(kinds):
            break
    return found


def _smaller(row: ModelRow, layers: int) -> Iterator[ModelRow]:
    """Yield smaller questions, the smallest first, and the whole one at last."""
    pairs = list(zip(row.clean, row.corrupted, strict=True))
    end = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs) - 1) + 1
    every = row.layers or tuple(range(layers))
    for last in dict.fromkeys((end, len(pairs))):
        for some in dict.fromkeys((every[:1], every[-1:], row.layers) if len(every) > 1 else (row.layers,)):
            yield replace(row, clean=row.clean[:last], corrupted=row.corrupted[:last], layers=some)
