"""Baselines that an engine states beside its recoveries: a quotient divides a wrong unit away, a baseline shows it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from harness.engines.definitions import Reported, mistake_of
from harness.intercept import forward
from harness.laws.breach import LawBreach
from harness.laws.subject import EngineUnderTest
from harness.metrics import ends
from harness.metrics.layouts import dtype_name
from harness.metrics.tolerances import Work, recovery_tolerance, row_tolerance
from harness.vocabulary import METRICS


def wrong_baselines(subject: EngineUnderTest, stated: Mapping[str, float]) -> Iterator[LawBreach]:
    """Yield the baselines of distances that float64 does not make of the bare runs; `stated` has them by metric.

    What a score's baseline is, is a convention, and none is asked for.
    """
    clean, corrupted = (forward(subject.model, ids) for ids in (subject.clean, subject.corrupted))
    dtype = dtype_name(clean)
    # A relative change of the logits is twice as large in their square.
    within = 2 * row_tolerance(Work.OTHER_BATCH, dtype) + recovery_tolerance(Work.OTHER_FORMULA, dtype) / 100
    for metric, said in stated.items():
        if metric not in METRICS or METRICS[metric].needs_answers:
            continue
        reported = Reported(metric, clean, corrupted, said)
        if not ends(metric, *reported.rows, dtype).baseline.finite:
            continue
        if math.isfinite(said) and abs(said - reported.true) <= within * abs(reported.true):
            continue
        mistake = mistake_of(reported, recovery_tolerance(Work.OTHER_FORMULA, dtype))
        kind, why = (mistake.kind, f": {mistake}") if mistake else ("another number", "")
        seen = f"{metric}: the baseline is stated as {said:.6g}, float64 gives {reported.true:.6g}{why}"
        yield LawBreach(f"baseline, {kind}", seen)
