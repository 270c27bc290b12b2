"""Metrics: two rows of last-token logits become one number, in float64 on the host.

Logits of 150,000 tokens overflow a float16 sum and wear out a float32 one, so every metric here widens first and
reduces afterwards, and avoids the subtractions in which small distances drown. There is one implementation, and it is
also the oracle that other engines' numbers are held against: relative error below 1e-9 for every finite row of
float16, bfloat16 or float32. In float64 rows cosine resolves 1 - cos down to about 1e-32.

A number is given only where one exists. `measure` leaves out the ids that are -inf in both rows; whatever else is not
finite turns the reading into a state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from harness.metrics import function
from harness.metrics.baselines import NORM_LIMITS, headroom, shift_share
from harness.metrics.denominators import resolution
from harness.metrics.distances import cosine, l2, mse
from harness.metrics.distributions import kl_divergence, log_prob
from harness.metrics.finiteness import summarize
from harness.metrics.host import Row, host_row, suppressed
from harness.metrics.recommendation import Recommendation, recommend_metric
from harness.metrics.recoveries import Ends, recovery
from harness.vocabulary import AnswerTokens, Metric, Reading, State, is_code, metric_named
from harness.vocabulary.errors import HarnessError

Mask = npt.NDArray[np.bool_]

__all__ = [
    "NORM_LIMITS",
    "Ends",
    "Recommendation",
    "Row",
    "ends",
    "headroom",
    "host_row",
    "measure",
    "recommend_metric",
    "recovery",
    "shift_share",
    "summarize",
    "suppressed",
]

DISTANCES: Mapping[str, Callable[[Row, Row], float | None]] = {
    "l2": l2,
    "mse": mse,
    "cosine": cosine,
    "kl_divergence": kl_divergence,
}
"""Functions of (clean, row), both finite; None means undefined."""

SCORES: Mapping[str, Callable[[Row, AnswerTokens], float]] = {
    "logit_diff": lambda row, answers: float(row[answers.answer] - row[answers.wrong]),
    "log_prob": lambda row, answers: log_prob(row, answers.answer),
}
"""Functions of (row, answers) in which -inf stands for a suppressed id."""


def measure(metric: str, clean: Row, row: Row, answers: AnswerTokens | None = None) -> Reading:
    """Return a metric of `row` with `clean` as the reference; both are float64 `[vocab]`.

    Ids that are -inf in both rows are left out (for mse also of the count). What else is not finite makes the reading
    `nan` where a difference of the rows is NaN, and `inf` otherwise. It is `undefined` where no id remains, where an
    answer is left out, and for the cosine of a zero row.

    Raises UnknownName for a metric that is not in the table, and HarnessError for rows of different shape, or answers
    that are missing or outside the vocabulary.
    """
    kind = metric_named(metric)
    clean, row = np.asarray(clean, np.float64), np.asarray(row, np.float64)
    if clean.shape != row.shape or clean.ndim != 1:
        raise HarnessError(f"{metric}: rows of shape {clean.shape} and {row.shape}; both must be one row [vocab]")
    ids = _answer_ids(kind, answers, row.size)
    gone = (clean == -np.inf) & (row == -np.inf)
    if state := _obstacle(clean, row, gone, ids):
        return Reading.absent(state)
    # What overflows float64 is not lost: the reading carries it as its state.
    with np.errstate(over="ignore", invalid="ignore"):
        if answers and ids:
            return Reading.of(SCORES[metric](row, answers))
        distance = function.load(metric) if is_code(metric) else DISTANCES[metric]
        value = distance(_without(clean, gone), _without(row, gone))
    return Reading.absent(State.UNDEFINED) if value is None else Reading.of(value)


def ends(metric: str, clean: Row, corrupted: Row, dtype: str, answers: AnswerTokens | None = None) -> Ends:
    """Return a metric on both unpatched runs and what their gap is worth in the dtype the logits came in.

    Raises what `measure` raises.
    """
    first, last = (measure(metric, clean, row, answers) for row in (clean, corrupted))
    wrong = None
    if answers and metric_named(metric).needs_answers and 0 <= answers.wrong < len(clean):
        wrong = measure(metric, clean, clean, AnswerTokens(answers.wrong, answers.answer))
    return Ends.of(first, last, resolution(metric, clean, corrupted, dtype, answers), wrong)


def _answer_ids(metric: Metric, answers: AnswerTokens | None, vocab: int) -> list[int]:
    """Return the ids the metric reads, each of them checked; none for a distance."""
    if not metric.needs_answers:
        return []
    if answers is None:
        raise HarnessError(f"{metric.name}: no answers; it needs the token ids of the answer and of the wrong answer")
    ids = [answers.answer, answers.wrong] if metric.name == "logit_diff" else [answers.answer]
    for token in ids:
        if not 0 <= token < vocab:
            raise HarnessError(f"{metric.name}: answer id {token}; ids of this vocabulary run from 0 to {vocab - 1:,}")
    return ids


def _obstacle(clean: Row, row: Row, gone: Mask, ids: list[int]) -> State | None:
    """Return the state that stands for the number, where the ids that are not `gone` leave none."""
    if gone.all():
        return State.UNDEFINED
    if not ((np.isfinite(clean) & np.isfinite(row)) | gone).all():
        with np.errstate(invalid="ignore"):
            difference = (row - clean)[~gone]
        return State.NAN if np.isnan(difference).any() else State.INF
    return State.UNDEFINED if gone[ids].any() else None


def _without(row: Row, gone: Mask) -> Row:
    return row[~gone] if gone.any() else row
