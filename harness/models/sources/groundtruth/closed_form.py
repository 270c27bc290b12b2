"""From known logits to the recovery every engine must report: the definitions, written plainly in float64.

A ground-truth model gives three rows of logits by hand: clean, corrupted and patched. What follows is the textbook
definition of each metric and of recovery, and shares no code with `harness.metrics`, which it judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from harness.vocabulary import METRICS, AnswerTokens, Positions, Reading, State

Row = NDArray[np.float64]

POINTS = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.1}
"""Percentage points a correct engine may be away from a closed form."""


def recovery(metric: str, clean: Row, corrupted: Row, patched: Row, answers: AnswerTokens | None) -> Reading | None:
    """Return the recovery (percent) of a patched row, or None where float64 cannot tell or the metric is unknown.

    Rows are `[vocab]`. Columns where both unpatched rows are -inf are suppressed tokens and left out. Any other
    value that is not finite leaves no baseline, so the recovery is undefined.
    """
    kept = ~(np.isneginf(clean) & np.isneginf(corrupted))
    if not (np.isfinite(clean[kept]).all() and np.isfinite(corrupted[kept]).all()):
        return None if metric == "logit_diff" else Reading.absent(State.UNDEFINED)
    if metric in _DISTANCES:
        distance = _DISTANCES[metric]
        baseline = distance(clean[kept], corrupted[kept])
        return _percent(distance(clean[kept], patched[kept]), baseline, 0.0)
    if metric not in METRICS:
        return None
    return _score_recovery(metric, clean, corrupted, patched, answers or top_answers(clean, corrupted))


def top_answers(clean: Row, corrupted: Row) -> AnswerTokens:
    """Return the answers a question means when it names none: both argmaxes."""
    return AnswerTokens(int(np.argmax(clean)), int(np.argmax(corrupted)))


def patched_positions(positions: Positions, length: int) -> frozenset[int] | None:
    """Return the token indices a sweep patches, or None where they do not fit a prompt of this length."""
    if positions == "all":
        return frozenset(range(length))
    if positions == "last":
        return frozenset({length - 1})
    if isinstance(positions, str) or any(not -length <= index < length for index in positions):
        return None
    return frozenset(index % length for index in positions)


def _score_recovery(metric: str, clean: Row, corrupted: Row, patched: Row, answers: AnswerTokens) -> Reading | None:
    if answers.answer == answers.wrong:
        return None
    score = _logit_diff if metric == "logit_diff" else _log_prob
    best, worst, value = (score(row, answers) for row in (clean, corrupted, patched))
    if 0 < abs(best - worst) < 1e-9 * max(abs(best), abs(worst)):
        return None
    return _percent(value, worst, best)


def _percent(value: float, worst: float, best: float) -> Reading:
    if best == worst:
        return Reading.absent(State.ZERO_BASELINE)
    return Reading.of(100.0 * (value - worst) / (best - worst))


def _l2(clean: Row, row: Row) -> float:
    return float(np.sqrt(np.sum((row - clean) ** 2)))


def _mse(clean: Row, row: Row) -> float:
    return float(np.mean((row - clean) ** 2))


def _cosine(clean: Row, row: Row) -> float:
    """Return 1 - cos as sin^2 / (1 + cos), where the sine is what is left of the row beside the clean direction.

    The difference 1 - cos cancels for nearly parallel rows; what is left beside the direction does not.
    """
    beside = row - (row @ clean) / (clean @ clean) * clean
    sine = np.linalg.norm(beside) / np.linalg.norm(row)
    cosine = (row @ clean) / (np.linalg.norm(row) * np.linalg.norm(clean))
    return float(sine**2 / (1 + cosine)) if cosine > 0 else float(1 - cosine)


def _kl(clean: Row, row: Row) -> float:
    """Return KL(clean || row) in nats; for nearly equal rows through the second-order terms, which do not cancel."""
    p = np.exp(_log_softmax(clean))
    shift = row - clean
    shift = shift - float(p @ shift)
    if np.abs(shift).max() < 0.01:
        return float(np.log1p(p @ (shift**2 / 2 + shift**3 / 6 + shift**4 / 24 + shift**5 / 120)))
    return float(p @ (_log_softmax(clean) - _log_softmax(row)))


def _log_softmax(row: Row) -> Row:
    shifted = row - row.max()
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted))))


def _logit_diff(row: Row, answers: AnswerTokens) -> float:
    return float(row[answers.answer] - row[answers.wrong])


def _log_prob(row: Row, answers: AnswerTokens) -> float:
    return float(_log_softmax(row)[answers.answer])


_DISTANCES: Mapping[str, Callable[[Row, Row], float]] = {
    "l2": _l2,
    "mse": _mse,
    "cosine": _cosine,
    "kl_divergence": _kl,
}
