"""The smallest question that still shows a breach: one layer instead of all, and the shortest pair of prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.laws import Law
from harness.laws.breach import LawBreach, breaches
from harness.laws.subject import EngineUnderTest, Shared
from harness.vocabulary.errors import HarnessError


@dataclass(frozen=True)
class Smallest:
    """A question, and what it shows."""

    model: str
    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    component: str
    layers: tuple[int, ...]
    seen: str

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Smallest:
        """Read one back from JSON types."""
        given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}
        return cls(**given)

    def __str__(self) -> str:
        component = f"{self.component} at " if self.component else ""
        return (
            f"{component}layers {list(self.layers)}, clean {list(self.clean)}, "
            f"corrupted {list(self.corrupted)}: {self.seen}"
        )


def smallest(subject: EngineUnderTest, law: Law, broken: Sequence[LawBreach]) -> list[Smallest]:
    """Return, for each breach, the smallest of a few smaller questions at which the law is still broken so."""
    return [_smallest(subject if each.form is None else subject.of(each.form), law, each) for each in broken]


def _smallest(subject: EngineUnderTest, law: Law, broken: LawBreach) -> Smallest:
    for smaller in _smaller(subject):
        for breach in _breaches(smaller, law):
            if breach.kind == broken.kind:
                return _at(smaller, law, breach.text)
    return _at(subject, law, broken.text)


def _at(subject: EngineUnderTest, law: Law, seen: str) -> Smallest:
    try:
        component = "" if law.of_forms else subject.component
    except HarnessError:
        component = ""
    model = subject.model.card.id
    return Smallest(model, subject.clean, subject.corrupted, component, subject.chosen_layers, seen)


def _smaller(subject: EngineUnderTest) -> Iterator[EngineUnderTest]:
    """Yield smaller questions, the smallest first, on models of their own."""
    pairs = list(zip(subject.clean, subject.corrupted, strict=True))
    end = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs) - 1) + 1
    layers = subject.chosen_layers
    for last in dict.fromkeys((end, len(pairs))):
        for one in (layers[:1], layers[-1:], layers):
            if last < len(pairs) or len(one) < len(layers):
                clean, corrupted = subject.clean[:last], subject.corrupted[:last]
                yield replace(subject, clean=clean, corrupted=corrupted, layers=one, shared=Shared())


def _breaches(subject: EngineUnderTest, law: Law) -> tuple[LawBreach, ...]:
    try:
        return breaches(law.of_engine(subject))
    except HarnessError:
        return ()
