"""What an answer's denominators are worth: is there anything to recover, and can the recoveries be believed?

Asked by the check of a run, by `harness patch`, and by the notebook's interface, which raises the first of `unusable`.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.metrics.denominators import bar
from harness.vocabulary import Answer, Cell, Curve, Denominator, Finding, Question, State, metric_named
from harness.vocabulary.words import number_of

WIDE = 100.0
"""Points of an error bar from which a recovery says nothing: it cannot tell a restored run from a corrupted one."""


def unusable(question: Question, answer: Answer) -> Iterator[Finding]:
    """Yield an error for the metrics without a denominator: BAS001 for a gap of zero, BAS002 for one of rounding."""
    curves = {curve.metric: curve for curve in answer.curves}
    blind = [metric for metric, curve in curves.items() if curve.oracle_baseline.state is State.ZERO_BASELINE]
    if blind:
        same = question.clean.ids == question.corrupted.ids
        why = "the prompts are the same tokens" if same else "the prompts differ, the readings do not"
        yield Finding("BAS001", f"{', '.join(blind)}: {why}", evidence={"metrics": blind, "same_tokens": same})
    for metric, curve in curves.items():
        if curve.denominator and curve.denominator.state is State.ILL_CONDITIONED:
            text = apart(curve.denominator, answer.dtype)
            yield Finding("BAS002", text, metric=metric, evidence=_numbers(curve.denominator))


def doubtful(question: Question, answer: Answer) -> Iterator[Finding]:
    """Yield a warning for recoveries with error bars over 100 points (BAS003), and for answers that the two runs score
    the other way round (BAS004)."""
    usable = [(each, each.denominator) for each in answer.curves if each.denominator and each.oracle_baseline.finite]
    for curve, denominator in usable:
        bars = [(_bar(curve, denominator, cell), cell) for cell in curve.cells if cell.oracle.finite]
        if wide := [each for each in bars if each[0] > WIDE]:
            yield _wide(curve, denominator, wide, answer.dtype)
    for metric, denominator in {curve.metric: denominator for curve, denominator in usable}.items():
        if reasons := _turned(metric, denominator):
            text = f"{' and '.join(reasons)}; the clean run scores {denominator.clean:.6g}, the corrupted run "
            text += f"{denominator.corrupted:.6g}"
            yield Finding("BAS004", text, metric=metric, evidence=_numbers(denominator))


def _bar(curve: Curve, denominator: Denominator, cell: Cell) -> float:
    """Return the error bar of a recovery in points: measured in float32 where it was, otherwise what rounding makes."""
    if cell.precision is not None:
        return cell.precision
    return bar(curve.metric, denominator, cell.oracle.value or 0.0)


def _wide(curve: Curve, denominator: Denominator, wide: list[tuple[float, Cell]], dtype: str) -> Finding:
    points, cell = max(wide, key=lambda each: each[0])
    return Finding(
        "BAS003",
        f"{cell.oracle.text('.4g')} % ± {points:.3g} points; {len(wide)} of "
        f"{number_of(len(curve.cells), 'cell')} have a bar over "
        f"{WIDE:.0f} points, because {apart(denominator, dtype)}",
        curve.site(cell),
        curve.metric,
        {"points": points, "layers": [each.layer for _, each in wide], **_numbers(denominator)},
    )


def _turned(metric: str, denominator: Denominator) -> list[str]:
    """Return in which ways the runs score the answers the other way round, by more than rounding."""
    if not metric_named(metric).needs_answers:
        return []
    above = ["the corrupted run scores the answer above the clean run"] if denominator.gap < 0 else []
    wrong = denominator.clean if denominator.wrong is None else denominator.wrong
    return above + ["the clean run prefers the wrong answer"] * (wrong - denominator.clean > denominator.resolution)


def apart(denominator: Denominator, dtype: str) -> str:
    return (
        f"{denominator.clean:.8g} on the clean run and {denominator.corrupted:.8g} on the corrupted one are "
        f"{abs(denominator.gap):.3g} apart, and rounding alone makes {denominator.resolution:.3g} of {dtype} logits"
    )


def _numbers(denominator: Denominator) -> dict[str, float | None]:
    return {
        "clean": denominator.clean,
        "corrupted": denominator.corrupted,
        "resolution": denominator.resolution,
        "wrong": denominator.wrong,
    }
