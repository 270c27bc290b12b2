"""Is everything a number? Logits, baselines and recoveries are asked apart, because each points somewhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.checks.evidence import Evidence
from harness.vocabulary import Answer, Curve, Finding, Reading, RowSummary, State
from harness.vocabulary.words import number_of

_BROKEN = (State.INF, State.NAN)


def check(evidence: Evidence) -> Iterator[Finding]:
    return found(evidence.answer)


def found(answer: Answer) -> Iterator[Finding]:
    """Yield what is not finite in an answer, with a case around it or without."""
    yield from _unpatched(answer)
    yield from _patched(answer)
    seen: set[tuple[str, Reading]] = set()
    for curve in answer.curves:
        # Our own engines have one baseline a metric; somebody else's says one with every component.
        if (curve.metric, curve.baseline) not in seen:
            yield from _baseline(curve)
            seen.add((curve.metric, curve.baseline))
        yield from _recoveries(curve)


def _unpatched(answer: Answer) -> Iterator[Finding]:
    for code, name, row in (("FIN001", "clean", answer.clean), ("FIN002", "corrupted", answer.corrupted)):
        if not row.finite:
            message = f"{_counts(row)} of {row.size:,} {name} logits; {_first(row)}"
            yield Finding(code, message, evidence=_numbers(row))


def _patched(answer: Answer) -> Iterator[Finding]:
    """What an unpatched run has as well was there before any patch, and is told of that run."""
    unpatched = (answer.clean, answer.corrupted)
    broken = {site: row for site, row in answer.patched.items() if _exceeds(row, unpatched)}
    if broken:
        site, row = next(iter(broken.items()))
        total = len(answer.patched)
        message = f"{len(broken)} of {total} patched runs; here {_counts(row)}, {_first(row)}"
        yield Finding("FIN003", message, site, evidence=_numbers(row) | {"sites": [str(each) for each in broken]})


def _exceeds(row: RowSummary, others: Sequence[RowSummary]) -> bool:
    """Return whether a row has more nan, more +inf or more -inf than each of the others."""
    return any(count > max(other.evidence[kind] for other in others) for kind, count in row.evidence.items())


def _baseline(curve: Curve) -> Iterator[Finding]:
    # A row of zeros has no angle, and a score without its answer is none: nothing can be recovered from either.
    if curve.baseline.state in (*_BROKEN, State.UNDEFINED):
        true = curve.oracle_baseline
        yield Finding(
            "FIN004",
            f"reported {curve.baseline.state}, float64 on the same logits gives {true.text('.6g')}",
            metric=curve.metric,
            evidence={"reported": curve.baseline.state.value, "oracle": true.value, "oracle_state": true.state.value},
        )


def _recoveries(curve: Curve) -> Iterator[Finding]:
    broken = [cell for cell in curve.cells if cell.recovery.state in _BROKEN]
    if broken:
        states = sorted({cell.recovery.state.value for cell in broken})
        yield Finding(
            "FIN005",
            f"{' and '.join(states)} at {len(broken)} of {number_of(len(curve.cells), 'cell')}",
            curve.site(broken[0]),
            curve.metric,
            {"layers": [cell.layer for cell in broken], "states": states},
        )


def _counts(row: RowSummary) -> str:
    parts = [(row.nan, "nan"), (row.pos_inf, "+inf"), (row.neg_inf, "-inf")]
    return ", ".join(f"{count:,} {name}" for count, name in parts if count)


def _first(row: RowSummary) -> str:
    largest = "no finite value" if row.absmax is None else f"largest finite |logit| {row.absmax:.4g}"
    return f"first at token id {row.first}, {largest}"


def _numbers(row: RowSummary) -> dict[str, float | int | None]:
    return {**row.evidence, "absmax": row.absmax, "first": row.first}
