"""Do two metrics of one run tell the same story? For any logits, l2² = N x mse, and the recoveries follow.

From recovery_l2 = 1 - d/b and recovery_mse = 1 - d²/b² comes recovery_mse = 1 - (1 - recovery_l2)²; the comparison is
made on that side, because a square root would magnify the error of a recovery near 100 %.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.vocabulary import Cell, Curve, Finding
from harness.vocabulary.words import number_of


def check(evidence: Evidence) -> Iterator[Finding]:
    if evidence.engine.is_estimate:
        return  # the two differ to second order
    curves = {(curve.component, curve.metric): curve for curve in evidence.answer.curves}
    terms = evidence.model.card.vocab - len(evidence.answer.suppressed)
    tolerance = evidence.case.tolerance
    pairs = [(curves[c, "l2"], curves[c, "mse"]) for c, m in curves if m == "l2" and (c, "mse") in curves]
    for l2, mse in pairs[:1]:
        yield from _baselines(l2, mse, terms, 2 * tolerance.oracle_relative)
    for l2, mse in pairs:
        yield from _recoveries(l2, mse, tolerance.oracle_points)


def _baselines(l2: Curve, mse: Curve, terms: int, relative: float) -> Iterator[Finding]:
    if l2.baseline.value is None or mse.baseline.value is None:
        return
    square, product = l2.baseline.value**2, terms * mse.baseline.value
    if abs(square - product) > relative * max(square, product):
        yield Finding(
            "AGR002",
            f"l2² = {square:.6g}, {terms:,} x mse = {product:.6g}",
            evidence={"l2_squared": square, "terms_x_mse": product},
        )


def _recoveries(l2: Curve, mse: Curve, points: float) -> Iterator[Finding]:
    apart = [pair for pair in l2.paired(mse) if _gap(*pair) > points]
    if apart:
        a, b = max(apart, key=lambda pair: _gap(*pair))
        yield Finding(
            "AGR001",
            f"l2 {a.recovery.text('.2f')} % asks for mse {_implied(a):.2f} %, reported {b.recovery.text('.2f')} %; "
            f"{len(apart)} of {number_of(len(l2.cells), 'cell')}",
            l2.site(a),
            evidence={"layers": [x.layer for x, _ in apart]},
        )


def _implied(l2: Cell) -> float:
    assert l2.recovery.value is not None
    return 100 * (1 - (1 - l2.recovery.value / 100) ** 2)


def _gap(l2: Cell, mse: Cell) -> float:
    if l2.recovery.value is None or mse.recovery.value is None:
        return 0.0
    slope = max(1.0, 2 * abs(1 - l2.recovery.value / 100))
    return abs(_implied(l2) - mse.recovery.value) / slope
