"""What of a declaration was asked, and what was not: a number that nobody held against anything is no pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.engines import ForeignEngine
from harness.laws.declared import forms_asked, why_not_asked
from harness.laws.subject import EngineUnderTest
from harness.vocabulary import METRICS
from harness.vocabulary.errors import HarnessError


@dataclass(frozen=True)
class Coverage:
    """What was asked of a declaration on one model: how many of all forms, and what met in none of them."""

    asked: int
    forms: int
    """All products of what is declared and this model has."""
    components: tuple[str, ...]
    """Components asked about, in the engine's own words."""
    unmet: int = 0
    """Pairs of a metric and a component that are in no form together."""
    lacking: Mapping[str, str] | None = None
    """A form that the model has no answer in, or the engine refuses -> why."""

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Coverage:
        """Read one back from JSON types."""
        return cls(**plain | {"components": tuple(plain["components"])})


def coverage_of(subject: EngineUnderTest) -> Coverage:
    """Return what is asked of the engine's declaration on a model."""
    declared, asked = subject.declared, forms_asked(subject)
    lacking = {str(form): why for form in declared.forms if (why := why_not_asked(subject, form))}
    names = dict.fromkeys(name for form in asked for name in _own_names(subject, form.component))
    return Coverage(len(asked), len(declared.product), tuple(names), len(declared.unmet), lacking)


def _own_names(subject: EngineUnderTest, component: str) -> Iterator[str]:
    """Yield a component, and what the engine itself calls it."""
    yield component
    if isinstance(subject.engine, ForeignEngine):
        try:
            name = subject.engine.declared.own_name(subject.model, component)
        except HarnessError:
            return
        yield name
        if name not in subject.engine.declared.components:
            yield "paths"


def not_asked(engine: Any, covered: Sequence[Coverage], skipped: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield what an engine declares and nobody asked, from the coverage of every model, and law -> reasons of the laws
    that were skipped on all of them."""
    if isinstance(engine, ForeignEngine) and covered:
        yield from _of_declaration(engine, covered)
    if covered and (left := max(covered, key=lambda each: each.forms - each.asked)).forms > left.asked:
        met = f"; {left.unmet} pairs of a metric and a component met in none" if left.unmet else ""
        yield f"{left.asked} of {left.forms} forms were asked of one model, every pair of two declared things{met}"
    reasons: dict[str, list[str]] = {}
    for each in covered:
        for form, why in (each.lacking or {}).items():
            reasons.setdefault(why, []).append(form)
    for why, forms in reasons.items():
        more = f" and {len(forms) - 1} more forms" if len(forms) > 1 else ""
        yield f"{forms[0]}{more}: {why}"
    for law, texts in skipped.items():
        yield f"the law {law}, on any model: {'; '.join(dict.fromkeys(texts))}"


def _of_declaration(engine: ForeignEngine, covered: Sequence[Coverage]) -> Iterator[str]:
    for metric in engine.declared.metrics:
        if metric not in METRICS:
            yield f"the numbers of the metric {metric!r}: the harness does not know it"
    seen = {name for each in covered for name in each.components}
    for component in engine.declared.components:
        if component not in seen:
            yield f"the component {component!r}: none of the models has it under this name"
