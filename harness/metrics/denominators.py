"""The denominator of a recovery: m(clean) - m(corrupted), and whether the logits' dtype can tell the two apart.

A recovery divides by that gap. Where the gap is no larger than what rounding makes of equal runs, the quotient is
rounding over rounding: millions of percent, or a plausible number. `resolution` is the gap that rounding alone makes.

How far rounding moves a logit x of a row:

    digit(x) = ROUNDINGS x eps x max(|x|, median |logit| of the row)

eps is the spacing of the dtype at 1. The median is there because a head sums products of that size whatever comes out
of them, so that a logit near 0 is no more exact than its neighbours. With c and x the digits of the clean and of the
corrupted row, a the answer and w the wrong answer:

    logit_diff   c[a] + c[w] + x[a] + x[w]              four logits are read; at worst all err to one side
    log_prob     (1 - p[a]) c[a] + sqrt(sum(p² c²) over the others), and as much of x and q: its slope by a logit is
                 (i == a) - p[i], and p and q are the softmax of the two runs
    l2           sqrt(sum e²), e² = c² + x²             the digits of many logits, and of two runs, are independent
    mse          sum(e²) / N
    cosine       sum(c²) / 2 |clean|² + sum(x²) / 2 |corrupted|²        1 - cos is half of a small angle's square
    kl           sum(p (1 - p) e²) / 2, and at most 2 max e             half the variance of a small change

Ids with the same value in both runs (masks, padding) have no digit in the four distances, and none in the median.
Nothing is known of a metric of the user's own: its resolution is 0, and only an exact zero is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.metrics.distances import norm
from harness.metrics.host import Row, finite_part
from harness.metrics.layouts import FloatLayout, layout_named
from harness.metrics.tolerances import ROUNDINGS
from harness.vocabulary import AnswerTokens, Denominator

_ENOUGH = 64
"""Distinct logits from which a grid that holds all of them is no accident."""


def resolution(metric: str, clean: Row, corrupted: Row, dtype: str, answers: AnswerTokens | None = None) -> float:
    """Return the gap of a metric that rounding alone makes, in the metric's unit; 0 where nothing is known.

    `clean` and `corrupted` are float64 `[vocab]`, `dtype` is what they came in. Nothing is known of rows that are not
    finite (but for ids that are -inf in both), of metrics that are not in the table, and of other dtypes.
    """
    rows = finite_part(clean, corrupted)
    layout = layout_named(_grid(dtype, *rows)) if rows else None
    if layout is None or metric not in _NOISE:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        moved = np.isfinite(clean) & (clean != corrupted)
        found = _NOISE[metric](_Digits.of(clean, corrupted, moved, layout), answers) if moved.any() else 0.0
    return found if math.isfinite(found) else 0.0


def bar(metric: str, denominator: Denominator, percent: float) -> float:
    """Return the error bar of a recovery in points, as far as the resolution of its denominator makes one.

    r = (p - x) / (c - x) moves with each of its three readings, which err independently. A score moves by half the
    resolution. A distance is 0 on the clean run itself, and a squared one of m moves by 2 sqrt(m s) + s where its
    resolution is s, because its root moves by sqrt(s).
    """
    size, left = denominator.resolution / abs(denominator.gap), 1 - percent / 100
    if metric in _SCORES:
        return 100 * size / 2 * math.hypot(1, left, 1 - left)
    if metric not in _SQUARES:
        return 100 * size * math.hypot(1, left)
    root = math.sqrt(size)
    return 100 * math.hypot(2 * root * math.sqrt(abs(left)) + size, left * (2 * root + size))


def _grid(dtype: str, clean: Row, corrupted: Row) -> str:
    """Return the narrowest dtype that holds every logit of both rows, if they are enough to tell.

    Logits computed in bfloat16 and returned in float32, or saved so, have the digits of bfloat16.
    """
    if dtype != "float32":
        return dtype
    values = np.concatenate((clean, corrupted))
    narrow = None
    with np.errstate(over="ignore"):
        if not (values.astype(np.float32).view(np.uint32) & 0xFFFF).any():  # the upper half of a float32
            narrow = "bfloat16"
        elif (values.astype(np.float16) == values).all():
            narrow = "float16"
    return narrow if narrow and np.unique(values).size >= _ENOUGH else dtype


@dataclass(frozen=True)
class _Digits:
    """The last digits `[vocab]` of both rows, and where the rows differ."""

    clean: Row
    corrupted: Row
    of_clean: Row
    of_corrupted: Row
    moved: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, clean: Row, corrupted: Row, moved: npt.NDArray[np.bool_], layout: FloatLayout) -> _Digits:
        one = ROUNDINGS[layout.name] * 2.0 ** (1 - layout.mantissa)
        sizes = (np.maximum(np.abs(row), float(np.median(np.abs(row[moved])))) for row in (clean, corrupted))
        c, x = (np.maximum(one * size, layout.smallest) for size in sizes)
        return cls(clean, corrupted, c, x, moved)

    @property
    def runs(self) -> tuple[tuple[Row, Row], ...]:
        """(logits, digits) of each run."""
        return (self.clean, self.of_clean), (self.corrupted, self.of_corrupted)

    @property
    def both(self) -> Row:
        """The digits of a difference of the two runs; 0 where they do not differ."""
        return np.where(self.moved, np.hypot(self.of_clean, self.of_corrupted), 0.0)


def _logit_diff(digits: _Digits, answers: AnswerTokens | None) -> float:
    assert answers is not None  # `measure` refuses a score without answers
    return sum(float(each[answers.answer] + each[answers.wrong]) for _, each in digits.runs)


def _log_prob(digits: _Digits, answers: AnswerTokens | None) -> float:
    assert answers is not None
    noise = 0.0
    for row, each in digits.runs:
        others = _softmax(row)
        own = (1 - others[answers.answer]) * each[answers.answer]
        others[answers.answer] = 0.0
        noise += float(own) + math.sqrt(_weighed(others**2, each**2))
    return noise


def _l2(digits: _Digits, answers: AnswerTokens | None) -> float:
    return norm(digits.both)


def _mse(digits: _Digits, answers: AnswerTokens | None) -> float:
    rms = norm(digits.both) / math.sqrt(np.isfinite(digits.clean).sum())
    return rms * rms  # inf beyond float64, where a power raises


def _cosine(digits: _Digits, answers: AnswerTokens | None) -> float:
    sizes = [norm(row[np.isfinite(row)]) for row, _ in digits.runs]
    angles = [norm(each[digits.moved]) / size for (_, each), size in zip(digits.runs, sizes, strict=True) if size]
    return sum(angle * angle for angle in angles) / 2


def _kl(digits: _Digits, answers: AnswerTokens | None) -> float:
    p = _softmax(digits.clean)
    return min(_weighed(p * (1 - p), digits.both**2) / 2, 2 * float(digits.both.max()))


def _softmax(row: Row) -> Row:
    weights = np.exp(row - row.max())
    probabilities: Row = weights / np.sum(weights)
    return probabilities


def _weighed(weights: Row, digits: Row) -> float:
    """Return the weighted sum of digits; an id of -inf has the weight 0 and no digit."""
    seen = weights > 0
    return float(np.sum(weights[seen] * digits[seen]))


_Noise = Callable[[_Digits, AnswerTokens | None], float]
_SCORES: Mapping[str, _Noise] = {"logit_diff": _logit_diff, "log_prob": _log_prob}
_SQUARES: Mapping[str, _Noise] = {"mse": _mse, "cosine": _cosine, "kl_divergence": _kl}
_NOISE: Mapping[str, _Noise] = {**_SCORES, "l2": _l2, **_SQUARES}
