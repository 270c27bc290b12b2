"""What a case asks of a job and nobody looked at, in words: that a job passed says nothing of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from harness.casefile import Case, OfJobs
from harness.engines import Engine, engine_named
from harness.vocabulary import Finding

_STATED = (
    "baselines", "recoveries", "finite", "baseline_range", "top_layers", "minimum_recovery", "rank_order",
)  # fmt: skip


def without_metric(case: Case, engine: Engine, allow_code: bool) -> Iterator[str]:
    """Yield the metrics of a case that an engine or the case's reference does not have."""
    own = [metric for metric in case.metrics if engine.knows(metric)]
    if lacking := [metric for metric in case.metrics if metric not in own]:
        yield f"{', '.join(lacking)}, which {engine.name} does not have"
    if case.reference not in (None, engine.name):
        reference = engine_named(case.reference, allow_code)
        if theirs := [metric for metric in own if not reference.knows(metric)]:
            yield f"{', '.join(theirs)} with the reference {case.reference}, which does not have them"


def without_answer(
    case: Case, engine: str, model: str, findings: Sequence[Finding], lacking: Collection[str] | None = None
) -> Iterator[str]:
    """Yield what a case states of numbers that there are not: of the metrics `lacking`, or of none at all."""
    stated = [
        key
        for key in _STATED
        for entry in _entries(case, key)
        if entry.meant(engine, model) and (lacking is None or getattr(entry, "metric", None) in lacking)
    ]
    if lacking is None and case.reference not in (None, engine):
        stated.append("reference")
    if stated:
        codes = " ".join(dict.fromkeys(finding.code for finding in findings))
        ended = "ended the job before its numbers" if lacking is None else f"left no numbers of {', '.join(lacking)}"
        yield f"expect.{', '.join(dict.fromkeys(stated))}: {codes} {ended}"


def stated_of(
    case: Case, engine: str, model: str, metric: str | None = None, component: str | None = None
) -> list[str]:
    """Return under which keys a case states values of a job: of one metric and component, or of any."""
    return [
        key
        for key in _STATED
        for entry in _entries(case, key)
        if entry.meant(engine, model)
        and (metric is None or getattr(entry, "metric", None) in (None, metric))
        and (component is None or key == "baselines" or getattr(entry, "component", None) in (None, component))
    ]


def _entries(case: Case, key: str) -> Sequence[OfJobs]:
    return case.expect.must_be_finite() if key == "finite" else getattr(case.expect, key)
