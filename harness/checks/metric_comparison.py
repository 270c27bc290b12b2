"""Do the metrics of a job tell the same story? Every two of them rank the cells; Kendall's tau says how alike."""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.metrics import recommend_metric
from harness.vocabulary import Concordance, Finding

ALIKE = 1 / 3
"""Tau below which two rankings are called different: without ties, fewer than two of three pairs in the same order."""


def check(evidence: Evidence) -> Iterator[Finding]:
    by_component: dict[str, list[Concordance]] = {}
    for each in evidence.answer.concordances:
        if each.tau is not None and each.tau < ALIKE:
            by_component.setdefault(each.component, []).append(each)
    for component, apart in by_component.items():
        yield _finding(evidence, component, apart)


def _finding(evidence: Evidence, component: str, apart: list[Concordance]) -> Finding:
    worst = min(apart, key=lambda each: each.tau or 0.0)
    pairs = {" and ".join(each.metrics): each.tau for each in apart}
    card = evidence.model.card
    published = recommend_metric(card.vocab, "float32").metrics
    return Finding(
        "MET001",
        f"{component} by {' and by '.join(worst.metrics)}: tau {worst.tau:.2f}, most of all at "
        f"{_layers(worst)}{_others(len(apart) - 1)}; recommend_metric names "
        f"{' or '.join(published)} for {card.vocab:,} tokens",
        evidence={"component": component, "tau": pairs, "layers": list(worst.layers), "recommended": list(published)},
    )


def _layers(apart: Concordance) -> str:
    return f"layer{'s' if len(apart.layers) > 1 else ''} {', '.join(map(str, apart.layers))}"


def _others(count: int) -> str:
    return f"; {count} more pair{'s' if count > 1 else ''}" if count else ""
