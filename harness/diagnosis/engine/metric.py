"""The metric: the number recomputed in float64 from the logits, next to what narrower formulas make of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness import metrics
from harness.diagnosis.engine.asked import Asked
from harness.diagnosis.outcome.nouns import PROVEN, SUSPECTED, Place, PlacedFinding
from harness.engines.definitions import LOST
from harness.engines.denominators import apart
from harness.engines.legacy import LEGACY
from harness.engines.legacy import distance as legacy_distance
from harness.engines.published import distance as published_distance
from harness.metrics.layouts import LAYOUTS, dtype_name
from harness.metrics.mistakes import agree
from harness.metrics.tolerances import Work, recovery_tolerance
from harness.vocabulary import AnswerTokens, Denominator, Mistake, Reading, State
from harness.vocabulary.words import number_of

PLACE = Place("metric", "metric")
WRONG = 0.01
"""Relative error from which a metric is an error: the tolerance that a stored baseline has across devices."""
DOUBTFUL = 1e-3
SHIFT_SHARE = 0.999
"""Share of the squared change from which only a shift is left; rounding `logits + 5` to float16 leaves 0.9999993."""


@dataclass(frozen=True)
class Measured:
    """One metric on two rows: the truth, and what each formula says of them."""

    metric: str
    dtype: str
    vocab: int
    true: Reading
    denominator: Denominator | None
    said: Mapping[str, float]
    suppressed: tuple[int, ...]
    shift: float
    shift_share: float | None
    scale: float | None
    identical: bool

    @property
    def limit(self) -> float | None:
        """Where a sum in the logits' own dtype overflows: an L2 whose square rounds to infinity."""
        return metrics.NORM_LIMITS.get(self.dtype) if self.metric == "l2" else None

    @property
    def summary(self) -> str:
        said = ", ".join(f"{name} says {value:.6g}" for name, value in self.said.items())
        room = f"; a {self.dtype} L2 overflows at {self.limit:.5g}" if self.limit else ""
        share = "" if self.shift_share is None else f"; {100 * self.shift_share:.1f} % of the change is a uniform shift"
        return f"{self.metric} in float64 {self.true.text('.6g')}" + (f", {said}" if said else "") + room + share

    def evidence(self) -> dict[str, Any]:
        """Return the numbers as JSON types."""
        return {
            "metric": self.metric,
            "dtype": self.dtype,
            "vocab": self.vocab,
            "true": self.true.value,
            "state": self.true.state.value,
            "said": dict(self.said),
            "limit": self.limit,
            "headroom": self.limit / self.true.value if self.limit and self.true.value else None,
            "suppressed": list(self.suppressed[:16]),
            "shift": self.shift,
            "shift_share": self.shift_share,
            "scale": self.scale,
        }


def measured(metric: str, clean: mx.array, corrupted: mx.array, answers: AnswerTokens | None = None) -> Measured:
    """Measure two rows `[vocab]` of the model's own dtype."""
    a, b = metrics.host_row(clean), metrics.host_row(corrupted)
    good = np.isfinite(a) & np.isfinite(b)
    shift, share, scale = _shift_and_scale(a[good], b[good])
    ends = metrics.ends(metric, a, b, dtype_name(clean), answers)
    said = {}
    if metric in LEGACY.metrics:
        said = {
            "legacy": legacy_distance(metric, clean, corrupted),
            "published": published_distance(metric, clean, corrupted),
        }
    elif metric == "kl_divergence":
        said = {"legacy": _naive_kl(clean, corrupted)}
    return Measured(
        metric,
        dtype_name(clean),
        a.size,
        ends.baseline,
        ends.denominator,
        said,
        metrics.suppressed(a, b),
        shift,
        share,
        scale,
        identical=bool(np.array_equal(a, b)),
    )


def about_the_rows(found: Measured) -> list[PlacedFinding]:
    """Return what the rows themselves say: nothing to recover, or nothing that softmax can see."""
    if found.true.state is State.ZERO_BASELINE:
        same = "the logits are the same, bit for bit" if found.identical else "the metric is the same on both runs"
        return [
            PlacedFinding.of(
                "DIA501",
                f"{same}, so the baseline is 0 and a recovery is undefined, not 0 %",
                Place("recovery", "recovery"),
                **found.evidence(),
            )
        ]
    if found.true.state is State.UNDEFINED:
        text = f"{found.metric} has no value on these runs, so there is no baseline, and a recovery is undefined"
        none = PlacedFinding.of(
            "DIA501", text, Place("recovery", "recovery"), remedy="choose a metric that has a value on them",
            **found.evidence(),
        )  # fmt: skip
        return [replace(none, fault=None)]
    if found.denominator and found.denominator.state is State.ILL_CONDITIONED:
        text = apart(found.denominator, found.dtype)
        return [
            PlacedFinding.of("DIA504", f"{found.metric}: {text}", Place("recovery", "recovery"), **found.evidence())
        ]
    if found.shift_share is not None and found.shift_share >= SHIFT_SHARE and found.true.finite:
        return [
            PlacedFinding.of(
                "DIA405",
                f"corrupted is clean {found.shift:+.4g} at every id ({100 * found.shift_share:.2f} % of the squared "
                f"change): {found.metric} is {found.true.text('.6g')}, and softmax gives the same distribution",
                PLACE,
                **found.evidence(),
            )
        ]
    return []


def about_the_formula(
    found: Measured, name: str, said: float | None, clean: mx.array, mistake: Mistake | None
) -> list[PlacedFinding]:
    """Return what is wrong with the baseline that an engine reports, if the logits give one in float64.

    `mistake` is what makes it of the same logits, where anything known does.
    """
    true = found.true.value
    if said is None or true is None:
        return []
    if not math.isfinite(said):
        return [_not_finite(found, name, said, clean, mistake)]
    error = abs(said - true) / abs(true) if true else 0.0
    if error <= DOUBTFUL:
        return []
    lost = mistake is None or mistake.kind == LOST
    if found.limit and true >= found.limit and lost:
        return [_not_finite(found, name, said, clean, mistake)]
    seen = f"{name} says {said:.6g}, float64 on the same logits {true:.6g}"
    return [_differs(found, name, seen, error, mistake)]


def about_the_recoveries(found: Measured, asked: Asked, mistake: Mistake | None) -> list[PlacedFinding]:
    """Return what is wrong with recoveries that do not follow from the engine's own logits."""
    points = recovery_tolerance(Work.OTHER_FORMULA, found.dtype)
    wrong = [cell for cell in asked.curve.cells if cell.oracle.finite and not agree(cell.recovery, cell.oracle, points)]
    if not wrong:
        return []
    cell = max(wrong, key=lambda each: abs((each.recovery.value or math.inf) - (each.oracle.value or 0.0)))
    said, true = cell.recovery.text(".4g"), cell.oracle.text(".4g")
    seen = f"{asked.name} reports {said} % at {asked.curve.site(cell)}, float64 on the same logits {true} %"
    return [_differs(found, asked.name, seen, None, mistake)]


def _differs(found: Measured, name: str, seen: str, error: float | None, mistake: Mistake | None) -> PlacedFinding:
    """Return a finding about a finite number: another definition, lost precision, or neither."""
    evidence = {"engine": name, **found.evidence(), **(mistake.evidence if mistake else {})}
    if mistake and mistake.kind != LOST:
        return PlacedFinding.of("DIA408", f"{seen}: {mistake.said}", PLACE, **evidence)
    code = "DIA406" if error is not None and error <= WRONG else "DIA404"
    off = "" if error is None else f": off by {100 * error:.3g} %"
    if mistake is None:
        text = f"{seen}{off}, which no rounding and no other definition that is known makes of them"
        unknown = PlacedFinding.of(code, text, PLACE, SUSPECTED, relative_error=error, remedy=_STEP_BY_STEP, **evidence)
        return replace(unknown, fault=None)
    bits = max(0.0, LAYOUTS[found.dtype].mantissa + math.log2(error)) if error and found.dtype in LAYOUTS else None
    lost = "" if bits is None or not error else f", which leaves {max(0.0, -math.log2(error)):.0f} of its bits"
    confidence = PROVEN if mistake.proven else SUSPECTED
    return PlacedFinding.of(
        code, f"{seen}{off}{lost}; {mistake.said}", PLACE, confidence, relative_error=error, bits_lost=bits, **evidence
    )


_STEP_BY_STEP = "hold the metric step by step against float64 on the same two rows"


def _not_finite(found: Measured, name: str, said: float, clean: mx.array, mistake: Mistake | None) -> PlacedFinding:
    true = found.true.text(".6g")
    start = f"{name} says {said:g} for {found.metric}, though the logits are fit to be measured: float64 gives {true}"
    if found.suppressed and math.isnan(said):
        ids = ", ".join(map(str, found.suppressed[:8]))
        return PlacedFinding.of(
            "DIA403",
            f"{start} over the {found.vocab - len(found.suppressed):,} finite ids; "
            f"{number_of(len(found.suppressed), 'id')} "
            f"are -inf in both runs ({ids}), which is legal, and -inf minus -inf is NaN",
            PLACE,
            engine=name,
            ids=list(found.suppressed[:64]),
            **found.evidence(),
        )
    zero = np.flatnonzero(np.array(mx.softmax(clean, axis=-1).astype(mx.float32)) == 0)
    if found.metric == "kl_divergence" and zero.size:
        return PlacedFinding.of(
            "DIA402",
            f"{start}; {zero.size:,} ids have probability 0 in {found.dtype} ({', '.join(map(str, zero[:8]))}), "
            "where 0 x log 0 is 0 and not NaN",
            PLACE,
            engine=name,
            ids=[int(i) for i in zero[:64]],
            **found.evidence(),
        )
    return _overflow(found, name, start, mistake)


def _overflow(found: Measured, name: str, start: str, mistake: Mistake | None) -> PlacedFinding:
    logits = f"the logits are {found.dtype}, {found.vocab:,} wide, and finite"
    if mistake is None or mistake.kind != LOST:
        text = f"{start}; {logits}, and the formula in their own dtype is finite as well"
        unknown = PlacedFinding.of(
            "DIA401", text, PLACE, SUSPECTED, engine=name, remedy=_NO_OVERFLOW, **found.evidence()
        )
        return replace(unknown, fault=None)
    limit = f"; a {found.dtype} L2 overflows when the true distance reaches {found.limit:.2f}" if found.limit else ""
    room = f" (headroom {found.limit / found.true.value:.3g})" if found.limit and found.true.value else ""
    return PlacedFinding.of("DIA401", f"{start}{limit}{room}; {logits}", PLACE, engine=name, **found.evidence())


_NO_OVERFLOW = "nothing overflows here: look for a division by 0, the log of 0, or a number that was never computed"


def _shift_and_scale(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> tuple[float, float | None, float | None]:
    """Return the mean change, its share of the squared change, and the factor from clean to corrupted."""
    if not a.size:
        return 0.0, None, None
    change = b - a
    size = np.abs(change).max()
    shift = float(change.mean())
    share = float(a.size * (shift / size) ** 2 / np.sum((change / size) ** 2)) if size > 0 else None
    square = float(np.dot(a, a))
    return shift, share, float(np.dot(a, b)) / square if square and math.isfinite(square) else None


def _naive_kl(clean: mx.array, x: mx.array) -> float:
    """KL as it is written down: sum p (log p - log q), in the logits' own dtype."""
    p, q = mx.softmax(clean, axis=-1), mx.softmax(x, axis=-1)
    return float(mx.sum(p * (mx.log(p) - mx.log(q))))
