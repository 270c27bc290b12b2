"""What else goes by a metric's name, and what the metric itself is in too few bits: why a reported number is wrong.

A *definition* is another formula for the same name: bits for nats, the arguments exchanged, an average for a sum. A
*narrow* value is the metric's own formula as it is written down, in a narrow dtype. Either is named only where it makes
every number that was reported of the same logits: the baseline, and the recovery of each cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np

from harness import metrics
from harness.metrics.host import finite_part
from harness.metrics.layouts import dtype_name
from harness.metrics.mistakes import agree, mistake_in, one_of
from harness.vocabulary import AnswerTokens, Cell, Mistake, Reading, State, metric_named

Row = metrics.Row


@dataclass(frozen=True)
class Rows:
    """The clean row and another one, float64 `[vocab]`, and the answers: what a definition is computed of."""

    clean: Row
    row: Row
    answers: AnswerTokens | None = None

    def measure(self, metric: str) -> float:
        """Return one of the harness's metrics; NaN where it has no value."""
        value = metrics.measure(metric, self.clean, self.row, self.answers).value
        return math.nan if value is None else value

    @property
    def exchanged(self) -> Rows:
        """The rows as arguments in the other order."""
        return Rows(self.row, self.clean, self.answers)

    @property
    def other_answers(self) -> Rows:
        ids = self.answers
        return Rows(self.clean, self.row, AnswerTokens(ids.wrong, ids.answer) if ids else None)

    @property
    def change(self) -> Row:
        """The difference at the ids that are not ruled out in both rows."""
        pair = finite_part(self.clean, self.row)
        return pair[1] - pair[0] if pair else np.full(1, np.nan)

    @property
    def probabilities(self) -> Rows:
        """Softmax of both rows."""
        weights = [np.exp(row - row.max()) for row in (self.clean, self.row)]
        clean, row = (each / each.sum() for each in weights)
        return Rows(clean, row, self.answers)


@dataclass(frozen=True)
class Definition:
    """A formula that is not the metric's, in words, and what mends it."""

    kind: str
    said: str
    remedy: str
    of: Callable[[Rows], float]


def _scaled(metric: str) -> Iterator[Definition]:
    """Yield the metric times a usual number."""
    yield Definition("negated", "the sign is reversed", "reverse it", lambda r: -r.measure(metric))
    yield Definition(
        "absolute value", "it is the absolute value", "keep the sign", lambda r: abs(r.measure(metric))
    )  # fmt: skip
    yield Definition("x 100", "it is 100 times the metric", "divide by 100", lambda r: 100 * r.measure(metric))
    yield Definition("/ 100", "it is a hundredth of the metric", "multiply by 100", lambda r: r.measure(metric) / 100)
    yield Definition(
        "averaged over the vocabulary", "it is divided by the number of tokens in the vocabulary",
        "sum over the vocabulary, and do not average", lambda r: r.measure(metric) / r.change.size,
    )  # fmt: skip


_NATS = "use the natural logarithm"
_FORWARD = "take KL(clean || x)"
_ROOT = "take the square root of the sum of squares"
_MEAN = "divide the sum of squares by the number of logits"
_BITS = 1 / math.log(2)


def _in_bits(metric: str) -> Definition:
    return Definition(
        "bits", f"it is {metric} in bits, {_BITS:.4g} times the nats", _NATS, lambda r: _BITS * r.measure(metric)
    )


def _kl(rows: Rows) -> float:
    return rows.measure("kl_divergence")


def _entropy(row: Row) -> float:
    p = row[row > 0]
    return -float(np.sum(p * np.log(p)))


def _jensen_shannon(rows: Rows) -> float:
    p, q = rows.probabilities.clean, rows.probabilities.row
    return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2


DEFINITIONS: Mapping[str, tuple[Definition, ...]] = {
    "l2": (
        Definition("squared", "it is the sum of squares, without the root", _ROOT, lambda r: r.measure("l2") ** 2),
        Definition("mse", "it is the mean square (mse), not the distance", _ROOT, lambda r: r.measure("mse")),
        Definition("rms", "it is the root of the mean square", "sum the squares, and do not average",
                   lambda r: math.sqrt(r.measure("mse"))),
        Definition("absolute differences", "it is the sum of the absolute differences (L1)", _ROOT,
                   lambda r: float(np.abs(r.change).sum())),
        Definition("largest difference", "it is the largest absolute difference", _ROOT,
                   lambda r: float(np.abs(r.change).max())),
        Definition("of probabilities", "it is the distance of the probabilities", "measure the logits",
                   lambda r: r.probabilities.measure("l2")),
    ),
    "mse": (
        Definition("summed", "it is the sum of squares, not their mean", _MEAN, lambda r: r.measure("l2") ** 2),
        Definition("root", "it is the distance (l2), not the mean square", _MEAN, lambda r: r.measure("l2")),
        Definition("rms", "it is the root of the mean square", "do not take the root",
                   lambda r: math.sqrt(r.measure("mse"))),
        Definition("absolute differences", "it is the mean of the absolute differences", "square the differences",
                   lambda r: float(np.abs(r.change).mean())),
        Definition("of probabilities", "it is that of the probabilities", "measure the logits",
                   lambda r: r.probabilities.measure("mse")),
    ),
    "cosine": (
        Definition("similarity", "it is the similarity cos, not the distance 1 - cos", "report 1 - cos",
                   lambda r: 1 - r.measure("cosine")),
        Definition("angle", "it is the angle, not 1 - cos", "report 1 - cos",
                   lambda r: math.acos(min(1.0, max(-1.0, 1 - r.measure("cosine"))))),
        Definition("of probabilities", "it is that of the probabilities", "measure the logits",
                   lambda r: r.probabilities.measure("cosine")),
    ),
    "kl_divergence": (
        _in_bits("kl_divergence"),
        Definition("reversed", "it is KL(x || clean), the arguments exchanged", _FORWARD, lambda r: _kl(r.exchanged)),
        Definition("reversed, bits", "it is KL(x || clean) in bits", f"{_FORWARD}, and {_NATS}",
                   lambda r: _BITS * _kl(r.exchanged)),
        Definition("symmetric", "it is the sum of KL in both directions", f"{_FORWARD} alone",
                   lambda r: _kl(r) + _kl(r.exchanged)),
        Definition("symmetric mean", "it is the mean of KL in both directions", f"{_FORWARD} alone",
                   lambda r: (_kl(r) + _kl(r.exchanged)) / 2),
        Definition("Jensen-Shannon", "it is the Jensen-Shannon divergence", _FORWARD, _jensen_shannon),
        Definition("cross entropy", "it is the cross entropy: the entropy of the clean run is in it",
                   "subtract the entropy of the clean run", lambda r: _kl(r) + _entropy(r.probabilities.clean)),
    ),
    "logit_diff": (
        Definition("one logit", "it is the logit of the answer alone", "subtract the logit of the wrong answer",
                   lambda r: float(r.row[r.answers.answer]) if r.answers else math.nan),
        Definition("of probabilities", "it is the difference of the probabilities", "measure the logits",
                   lambda r: r.probabilities.measure("logit_diff")),
    ),
    "log_prob": (
        _in_bits("log_prob"),
        Definition("probability", "it is the probability, not its logarithm", "take the logarithm",
                   lambda r: math.exp(r.measure("log_prob"))),
        Definition("one logit", "it is the logit, without the softmax", "subtract the logarithm of the sum of exp",
                   lambda r: float(r.row[r.answers.answer]) if r.answers else math.nan),
        Definition("the wrong answer", "it is that of the wrong answer", "read the id of the answer",
                   lambda r: r.other_answers.measure("log_prob")),
    ),
}  # fmt: skip
"""Metric -> what else goes by its name, besides its multiples."""


def definitions(metric: str) -> tuple[Definition, ...]:
    """Return every definition that a metric may be mistaken for; of a metric of the user's own, its multiples."""
    return (*DEFINITIONS.get(metric, ()), *_scaled(metric))


# -- the metric itself, in too few bits --------------------------------------------------------------------------------

Narrow = Callable[[mx.array, mx.array, AnswerTokens | None], mx.array]


def _squares(a: mx.array, x: mx.array) -> mx.array:
    return mx.square(a - x)


def _cos(a: mx.array, x: mx.array, _: AnswerTokens | None) -> mx.array:
    return 1 - mx.sum(a * x) / (mx.sqrt(mx.sum(a * a)) * mx.sqrt(mx.sum(x * x)))


def _log_softmax(x: mx.array) -> mx.array:
    return x - mx.logsumexp(x)


_FORMULAS: Mapping[str, tuple[Narrow, ...]] = {
    "l2": (
        lambda a, x, _: mx.sqrt(mx.sum(_squares(a, x))),
        lambda a, x, _: mx.sqrt(mx.cumsum(_squares(a, x))[-1]),
        lambda a, x, _: mx.sqrt(mx.sum(mx.square((a - x).astype(mx.float32)))),
    ),
    "mse": (
        lambda a, x, _: mx.mean(_squares(a, x)),
        lambda a, x, _: mx.sum(_squares(a, x)) / a.size,
        lambda a, x, _: mx.cumsum(_squares(a, x))[-1] / a.size,
        lambda a, x, _: mx.mean(mx.square((a - x).astype(mx.float32))),
    ),
    "cosine": (_cos,),
    "kl_divergence": (
        lambda a, x, _: mx.sum(mx.softmax(a) * (mx.log(mx.softmax(a)) - mx.log(mx.softmax(x)))),
        lambda a, x, _: mx.sum(mx.exp(_log_softmax(a)) * (_log_softmax(a) - _log_softmax(x))),
    ),
    "logit_diff": (lambda a, x, ids: x[ids.answer] - x[ids.wrong] if ids else mx.array(math.nan),),
    "log_prob": (lambda a, x, ids: _log_softmax(x)[ids.answer] if ids else mx.array(math.nan),),
}
"""Each metric as it is written down; `cumsum` is a sum in one accumulator."""


def narrow_values(
    metric: str, clean: mx.array, row: mx.array, answers: AnswerTokens | None = None
) -> dict[tuple[str, int], float]:
    """Return the metric as it is written down, of rows `[vocab]`, in every float dtype of at most 32 bits.

    The key is a dtype and the number of the formula.
    """
    found = {}
    for dtype in (mx.float32, mx.float16, mx.bfloat16):
        a, x = clean.astype(dtype), row.astype(dtype)
        for number, formula in enumerate(_FORMULAS.get(metric, ())):
            found[dtype_name(a), number] = float(formula(a, x, answers))
    return found


# -- what explains the numbers of an engine ----------------------------------------------------------------------------

WIDEN = "widen before subtracting and before reducing"
LOST = "lost precision"
_MET = 2e-3
"""Relative: how well a definition must meet a number to be named. Nobody is found wrong by it."""
_OWN_ERROR = 0.02
"""How well a narrow value must meet a number, as a part of its own error."""
_AS_LARGE = 2.0
"""Errors of one size: what another order of the same sum may make of one."""


@dataclass(frozen=True)
class Reported:
    """What an engine reports of one component under one metric, and the logits behind it.

    `baseline` is None where none is stated. `cells` are cells with the rows that they were computed of.
    """

    metric: str
    clean: Any
    corrupted: Any
    baseline: float | None = None
    answers: AnswerTokens | None = None
    cells: Sequence[tuple[Cell, Any]] = field(default_factory=tuple)

    @cached_property
    def rows(self) -> tuple[Row, Row]:
        return metrics.host_row(self.clean), metrics.host_row(self.corrupted)

    def of(self, raw: Any) -> Rows:
        return Rows(self.rows[0], metrics.host_row(raw), self.answers)

    @cached_property
    def true(self) -> float:
        return self.of(self.corrupted).measure(self.metric)

    @property
    def has_wrong_baseline(self) -> bool:
        if self.baseline is None:
            return False
        return not abs(self.baseline - self.true) <= _MET * abs(self.true)


def mistake_of(reported: Reported, points: float) -> Mistake | None:
    """Return what makes wrong numbers of an engine's own logits, as far as one of those known makes all of them.

    `points` is what a recovery may be off by. Without any wrong number it is None.
    """
    reported = replace(reported, cells=[(cell, raw) for cell, raw in reported.cells if cell.oracle.finite])
    if math.isnan(reported.true):
        return None
    pairs = [(cell, cell.recovery, cell.oracle) for cell, _ in reported.cells]
    wrong = any(not agree(said, right, points) for _, said, right in pairs)
    if not (wrong or reported.has_wrong_baseline):
        return None
    if defined := one_of(list(_defined(reported, points))):
        return defined
    narrow = _Narrowed(reported, points)
    return (
        narrow.same()
        or _added_constant(reported, points)
        or mistake_in(pairs, points)
        or narrow.alike()
        or (None if wrong else _baseline_alone(reported))
    )


def _added_constant(reported: Reported, points: float) -> Mistake | None:
    """Return a constant in every distance: recoveries shrink by as much as the baseline grows."""
    said, true = reported.baseline, reported.true
    if not said or len(reported.cells) < 2 or metric_named(reported.metric).needs_answers:
        return None
    made = [(cell.recovery, true / said * _number(cell.oracle)) for cell, _ in reported.cells]
    if not all(math.isfinite(value) and agree(seen, Reading.of(value), points / 4) for seen, value in made):
        return None
    if all(agree(cell.recovery, cell.oracle, points) for cell, _ in reported.cells):
        return None
    return Mistake("constant added", f"{said - true:+.4g} is added to every distance", "leave the constant out")


def _baseline_alone(reported: Reported) -> Mistake | None:
    """Return the factor of a wrong baseline beside right recoveries: a quotient divides nothing else away."""
    said = reported.baseline
    if said is None or len(reported.cells) < 2 or not reported.true or not math.isfinite(said):
        return None
    text = f"it is {said / reported.true:.4g} times the right one, and the recoveries are right"
    return Mistake("baseline alone", text, "look for a factor or a constant that the metric has on every run alike")


def _defined(reported: Reported, points: float) -> Iterator[Mistake]:
    """Yield the definitions that make the baseline, if there is one, and every recovery."""
    for each in definitions(reported.metric):
        try:
            made = _makes(reported, each, points)
        except (ValueError, OverflowError):
            continue  # a root or a logarithm of a number that has none
        if made:
            yield Mistake(each.kind, each.said, each.remedy)


def _makes(reported: Reported, definition: Definition, points: float) -> bool:
    top, base = (definition.of(reported.of(raw)) for raw in (reported.clean, reported.corrupted))
    said = reported.baseline
    if said is None and len(reported.cells) < 2:
        return False
    # One number meets some definition or other sooner than a whole sweep does.
    within = _MET if len(reported.cells) > 1 else _MET / 20
    if said is not None and not abs(said - base) <= within * abs(base):
        return False
    for cell, raw in reported.cells:
        made = 100 * (definition.of(reported.of(raw)) - base) / (top - base) if top != base else math.nan
        if not math.isfinite(made) or not agree(cell.recovery, Reading.of(made), points + _MET * abs(made)):
            return False
    return True


class _Narrowed:
    """What narrow arithmetic makes of the same logits, beside what was reported and what is right."""

    def __init__(self, reported: Reported, points: float):
        self.own = dtype_name(reported.clean)
        self.remedy = f"{WIDEN}, and avoid 1 - cos, which cancels" if reported.metric == "cosine" else WIDEN
        at = (reported.clean, reported.corrupted, *(raw for _, raw in reported.cells))
        values = [narrow_values(reported.metric, reported.clean, raw, reported.answers) for raw in at]
        score = metric_named(reported.metric).needs_answers
        self.made = {key: _readings([each[key] for each in values], score) for key in values[0]}
        self.said = [reported.baseline, *(_number(cell.recovery) for cell, _ in reported.cells)]
        self.right = [reported.true, *(_number(cell.oracle) for cell, _ in reported.cells)]
        self.least = [1e-6 * abs(reported.true), *(points / 4 for _ in reported.cells)]

    def same(self) -> Mistake | None:
        """Return lost precision where one narrow formula makes every number that was reported."""
        for (dtype, _), values in self.made.items():
            numbers = zip(self.said, values, self.right, self.least, strict=True)
            # A narrower dtype than the logits' own may be anybody's choice, but its inf has too many other reasons.
            if all(_is_made(*each, usual=dtype in (self.own, "float32")) for each in numbers):
                return Mistake(LOST, f"the formula in {dtype} makes the same of these logits", self.remedy)
        return None

    def alike(self) -> Mistake | None:
        """Return lost precision where the errors are of the size that the usual dtypes make."""
        usual = [values for (dtype, _), values in self.made.items() if dtype in (self.own, "float32")]
        for i, (said, right, least) in enumerate(zip(self.said, self.right, self.least, strict=True)):
            errors = [abs(values[i] - right) for values in usual]
            if said is None or math.isnan(right):
                continue
            if not math.isfinite(said) and all(map(math.isfinite, errors)):
                return None
            largest = max(filter(math.isfinite, errors), default=0.0)
            if math.isfinite(said) and abs(said - right) > _AS_LARGE * largest + 4 * least:
                return None
        return Mistake(LOST, f"the error is of the size that {self.own} arithmetic makes", self.remedy, proven=False)


def _is_made(said: float | None, made: float, right: float, least: float, usual: bool) -> bool:
    if said is None or math.isnan(right):
        return True
    if not math.isfinite(made):
        return usual and (not math.isfinite(said) or said == 0.0)  # a guard makes 0 of what is not finite
    return abs(said - made) <= _OWN_ERROR * abs(made - right) + least


def _readings(values: Sequence[float], score: bool) -> list[float]:
    """Return the baseline and the recoveries that follow from values of the clean, the corrupted and the other rows."""
    clean, base, *others = values
    gap = np.float64((clean if score else 0.0) - base)
    with np.errstate(all="ignore"):
        return [base, *(float(100 * (np.float64(each) - base) / gap) for each in others)]


def _number(reading: Reading) -> float:
    return math.inf if reading.state is State.INF else math.nan if reading.value is None else reading.value
