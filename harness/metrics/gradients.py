"""How each metric changes with the logits: its gradient at a row, in float64 on the host.

An estimate multiplies it with what a patch does to the logits, to first order. A distance has no gradient on the clean
run itself: l2 has a corner there, and the others are flat, so that to first order no patch moves them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from harness.metrics.host import Row
from harness.vocabulary import AnswerTokens


def gradient(metric: str, clean: Row, row: Row, answers: AnswerTokens | None = None) -> Row | None:
    """Return d metric / d row of two finite float64 rows `[vocab]`, in the metric's unit for each logit.

    None for a metric that has no gradient: one of the user's own, a distance of a row to itself, and the cosine of a
    zero row. Raises KeyError for scores without answers.
    """
    if metric in _SCORES:
        if answers is None:
            raise KeyError(f"{metric} needs answers")
        return _SCORES[metric](row, answers)
    if metric not in _DISTANCES or not np.any(row != clean):
        return None
    return _DISTANCES[metric](clean, row)


def _l2(clean: Row, row: Row) -> Row | None:
    away = _scaled(row - clean)
    unit: Row = away / np.sqrt(np.sum(away * away))
    return unit


def _mse(clean: Row, row: Row) -> Row | None:
    steep: Row = 2.0 * (row - clean) / clean.size
    return steep


def _cosine(clean: Row, row: Row) -> Row | None:
    if not (clean.any() and row.any()):
        return None
    a, largest = _scaled(clean), float(np.abs(row).max())
    b = row / largest
    long_a, long_b = np.sqrt(np.sum(a * a)), np.sqrt(np.sum(b * b))
    # Of a / |a|, the part along b turns nothing.
    along = np.sum(a * b) / (long_a * long_b)
    turned: Row = (along * b / long_b - a / long_a) / (long_b * largest)
    return turned


def _kl_divergence(clean: Row, row: Row) -> Row | None:
    return _softmax(row) - _softmax(clean)


def _logit_diff(row: Row, answers: AnswerTokens) -> Row:
    steep = np.zeros_like(row)
    steep[answers.answer] += 1.0
    steep[answers.wrong] -= 1.0
    return steep


def _log_prob(row: Row, answers: AnswerTokens) -> Row:
    steep = -_softmax(row)
    steep[answers.answer] += 1.0
    return steep


_DISTANCES: Mapping[str, Callable[[Row, Row], Row | None]] = {
    "l2": _l2,
    "mse": _mse,
    "cosine": _cosine,
    "kl_divergence": _kl_divergence,
}
_SCORES: Mapping[str, Callable[[Row, AnswerTokens], Row]] = {"logit_diff": _logit_diff, "log_prob": _log_prob}


def _scaled(row: Row) -> Row:
    """Return a row over its largest absolute value: squares of what is left neither overflow nor vanish."""
    largest = float(np.abs(row).max())
    return row / largest if largest else row


def _softmax(row: Row) -> Row:
    weights = np.exp(row - row.max())
    shares: Row = weights / np.sum(weights)
    return shares
