"""Metrics on the distribution softmax makes of a row `[vocab]`: kl_divergence and log_prob, in nats.

Softmax ignores a uniform shift, so a shift must leave both unchanged to the last digit. And both get small: KL with
the square of the change, log_prob with the remaining doubt. The textbook forms subtract numbers near 1 to get there;
the forms here only add numbers of one sign.
"""

from __future__ import annotations

import math

import numpy as np

from harness.metrics.host import Row

_SMALL = 0.1
# e^t - 1 - t = t² (1/2! + t/3! + t²/4! + ...): below |t| = 0.1 the eighth coefficient adds less than 1e-12 of the sum.
_SERIES = tuple(1 / math.factorial(k) for k in range(2, 9))


def kl_divergence(clean: Row, row: Row) -> float:
    """Return KL(clean || row) of finite rows, with 0 log 0 = 0.

    The sum of p (log p - log q) has terms of both signs that cancel when p is near q. As p and q both sum to 1, adding
    q - p to each term changes nothing, and makes each of them p (e^t - 1 - t) >= 0 with t = log q - log p.
    """
    top = int(clean.argmax())
    p, log_zp = _softmax(clean)
    q, log_zq = _softmax(row)
    change = _relative_change(clean, row, top)
    shift = _log_mean_exp(change, p, q, float(row.max() - row[top]) + log_zq - log_zp)
    t = change - shift
    terms = q - p * (1 + t)
    small = np.abs(t) < _SMALL
    terms[small] = p[small] * _exp_minus_line(t[small])
    return float(np.sum(terms))


def log_prob(row: Row, answer: int) -> float:
    """Return the log probability of token id `answer`; -inf elsewhere in the row counts as probability 0."""
    top = int(row.argmax())
    others = np.exp(row - row[top])
    others[top] = 0.0
    return float(row[answer] - row[top]) - math.log1p(float(np.sum(others)))


def _softmax(row: Row) -> tuple[Row, float]:
    """Return the probabilities, and the log of their normaliser relative to the largest logit."""
    weights = np.exp(row - row.max())
    total = float(np.sum(weights))
    return weights / total, math.log(total)


def _relative_change(clean: Row, row: Row, reference: int) -> Row:
    """Return row - clean minus its value at one id, without losing the digits of the smaller of the two rows.

    The rounding error of each difference is recovered (Knuth's two-sum), as a shift of 1e9 would hide behind it what
    the clean row contributes.
    """
    high = row - clean
    seen = high - row
    low = (row - (high - seen)) - (clean + seen)
    change: Row = (high - high[reference]) + (low - low[reference])
    return change


def _log_mean_exp(change: Row, p: Row, q: Row, coarse: float) -> float:
    """Return log of the p-weighted mean of e^change: the shift that makes p e^(change - shift) sum to 1.

    `coarse` is the same number from the normalisers, good to 1e-15 absolute. That is enough unless the changes
    themselves are small; then the mean is taken of e^change - 1.
    """
    if abs(coarse) > 1:
        return coarse
    growth = q * math.exp(coarse) - p
    small = np.abs(change) < 1
    growth[small] = p[small] * np.expm1(change[small])
    return math.log1p(float(np.sum(growth)))


def _exp_minus_line(t: Row) -> Row:
    """Return e^t - 1 - t for |t| < 0.1, to 1e-12 of itself."""
    total = np.full_like(t, _SERIES[-1])
    for coefficient in _SERIES[-2::-1]:
        total *= t
        total += coefficient
    return total * t * t
