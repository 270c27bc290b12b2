"""Does the engine's number follow from the engine's own logits? Float64 on the same logits decides."""

from __future__ import annotations

from collections.abc import Iterator

from harness.casefile import Tolerance
from harness.checks.evidence import Evidence
from harness.metrics.mistakes import mistake_in
from harness.vocabulary import Answer, Cell, Curve, Finding, Mistake, Reading, State
from harness.vocabulary.words import number_of


def check(evidence: Evidence) -> Iterator[Finding]:
    return found(evidence.answer, evidence.case.tolerance)


def found(answer: Answer, tolerance: Tolerance) -> Iterator[Finding]:
    """Yield which numbers of an answer float64 does not make of the same logits, with a case around it or without."""
    seen: set[tuple[str, Reading]] = set()
    for curve in answer.curves:
        mistake = answer.mistakes.get((curve.component, curve.metric)) or _mistake(curve, tolerance.oracle_points)
        # Our own engines have one baseline a metric; somebody else's says one with every component.
        if (curve.metric, curve.baseline) not in seen:
            yield from _baseline(curve, tolerance.oracle_relative, mistake)
            seen.add((curve.metric, curve.baseline))
        yield from _recoveries(curve, tolerance.oracle_points, mistake)


def _mistake(curve: Curve, points: float) -> Mistake | None:
    """Return what makes the recoveries of what they should be, where nobody kept the logits to ask for more."""
    return mistake_in([(cell, cell.recovery, cell.oracle) for cell in curve.cells if cell.oracle.finite], points)


def _baseline(curve: Curve, relative: float, mistake: Mistake | None) -> Iterator[Finding]:
    said, true = curve.baseline, curve.oracle_baseline
    if said.value is not None and true.value is not None:
        if abs(said.value - true.value) > relative * abs(true.value):
            yield _differs(curve, said.text(".6g"), true.text(".6g"), mistake)
    elif true.finite:
        yield _differs(curve, said.state.value, true.text(".6g"), mistake)
    elif said.value is not None and not (said.value == 0.0 and true.state is State.ZERO_BASELINE) and _seen(true):
        # 0.0 for a zero baseline is the value itself; what follows from it is not.
        yield Finding("ORC003", f"baseline {said.text('.6g')} where it is {true.state}", metric=curve.metric)


def _differs(curve: Curve, said: str, true: str, mistake: Mistake | None) -> Finding:
    return Finding(
        "ORC001",
        f"reported {said}, float64 gives {true}{_named(mistake)}",
        metric=curve.metric,
        evidence={"reported": said, "oracle": true, "unit": curve.unit} | _evidence(mistake),
    )


def _named(mistake: Mistake | None) -> str:
    return f": {mistake.said}" if mistake else ""


def _evidence(mistake: Mistake | None) -> dict[str, str]:
    return mistake.evidence if mistake else {}


def _recoveries(curve: Curve, points: float, mistake: Mistake | None) -> Iterator[Finding]:
    wrong = [cell for cell in curve.cells if _off(cell) > points]
    if wrong:
        worst = max(wrong, key=_off)
        yield _about(
            curve,
            "ORC002",
            worst,
            wrong,
            f"reported {worst.recovery.text('.2f')} %, float64 gives {worst.oracle.text('.2f')} %",
            mistake,
        )
    invented = [cell for cell in curve.cells if cell.recovery.finite and not cell.oracle.finite and _seen(cell.oracle)]
    if invented:
        first = invented[0]
        yield _about(
            curve,
            "ORC003",
            first,
            invented,
            f"reported {first.recovery.text('.2f')} % where the recovery is {first.oracle.state}",
        )


def _seen(true: Reading) -> bool:
    return true.state is not State.UNKNOWN


def _off(cell: Cell) -> float:
    if cell.oracle.value is None:
        return 0.0
    return float("inf") if cell.recovery.value is None else abs(cell.recovery.value - cell.oracle.value)


def _about(
    curve: Curve, code: str, cell: Cell, cells: list[Cell], message: str, mistake: Mistake | None = None
) -> Finding:
    return Finding(
        code,
        f"{message}; {len(cells)} of {number_of(len(curve.cells), 'cell')}{_named(mistake)}",
        curve.site(cell),
        curve.metric,
        {"layers": [each.layer for each in cells]} | _evidence(mistake),
    )
