"""Oracles for the metrics that share neither code nor arithmetic with them.

A float is a dyadic rational, so the distances are computed on integers without any rounding, and only the last root is
taken, in decimal. Softmax metrics use decimal with enough digits that the cancellation of the textbook formula does
not matter. Both are the same on every platform; NumPy's long double is not (on macOS arm64 it is a double), and serves
only where decimal is too slow, see `LONG_DOUBLE_IS_WIDER`.
"""

from __future__ import annotations

import decimal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import numpy as np

LONG_DOUBLE_IS_WIDER = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant
# What the textbook formulas cancel: 1 - cos and log_prob leave nothing down to 1e-300, the end of float64.
DIGITS = 360
NO_LONG_DOUBLE = "long double is no wider than double on this platform; the decimal oracle covers the same formula"


@contextmanager
def _digits(count: int) -> Iterator[None]:
    """Compute with so many digits, and with exponents that never underflow."""
    with decimal.localcontext() as context:
        context.prec, context.Emin, context.Emax = count, decimal.MIN_EMIN, decimal.MAX_EMAX
        yield


def integers(*rows: np.ndarray) -> tuple[list[list[int]], int]:
    """Return the rows as integers over one common power of two: value = integer x 2**exponent."""
    parts = [np.frexp(np.asarray(row, np.float64)) for row in rows]
    low = min(int(exponents.min()) for _, exponents in parts) - 53
    whole = [
        [int(m * 2.0**53) << (int(e) - 53 - low) for m, e in zip(mantissas, exponents, strict=True)]
        for mantissas, exponents in parts
    ]
    return whole, low


def l2(clean: np.ndarray, row: np.ndarray) -> Decimal:
    (a, b), low = integers(clean, row)
    with _digits(60):
        return Decimal(sum((y - x) ** 2 for x, y in zip(a, b, strict=True))).sqrt() * Decimal(2) ** low


def mse(clean: np.ndarray, row: np.ndarray) -> Decimal:
    (a, b), low = integers(clean, row)
    with _digits(60):
        return Decimal(sum((y - x) ** 2 for x, y in zip(a, b, strict=True))) * Decimal(4) ** low / len(a)


def cosine(clean: np.ndarray, row: np.ndarray) -> Decimal:
    (a, b), _ = integers(clean, row)
    aa, bb = sum(x * x for x in a), sum(y * y for y in b)
    ab = sum(x * y for x, y in zip(a, b, strict=True))
    if ab > 0 and ab * ab == aa * bb:
        return Decimal(0)
    with _digits(DIGITS):
        return 1 - Decimal(ab) / (Decimal(aa).sqrt() * Decimal(bb).sqrt())


def kl_divergence(clean: np.ndarray, row: np.ndarray) -> Decimal:
    """Return KL by its textbook sum; equal pairs are computed once, so a wide row may have few distinct ones."""
    pairs = Counter(zip(clean.tolist(), row.tolist(), strict=True))
    counts = list(pairs.values())
    with _digits(DIGITS):
        log_p = _log_softmax([Decimal(x) for x, _ in pairs], counts)
        log_q = _log_softmax([Decimal(y) for _, y in pairs], counts)
        return sum((n * p.exp() * (p - q) for n, p, q in zip(counts, log_p, log_q, strict=True)), Decimal(0))


def log_prob(row: np.ndarray, answer: int) -> Decimal:
    values = Counter(row.tolist())
    with _digits(DIGITS):
        logs = _log_softmax([Decimal(x) for x in values], list(values.values()))
        return dict(zip(values, logs, strict=True))[float(row[answer])]


def _log_softmax(values: list[Decimal], counts: list[int]) -> list[Decimal]:
    total = sum((n * (x - max(values)).exp() for n, x in zip(counts, values, strict=True)), Decimal(0))
    return [x - max(values) - total.ln() for x in values]


def relative_error(got: float | None, want: Decimal) -> float:
    """Return |got - want| / |want|; where `want` is 0, or too small for a float, anything but 0 is infinitely wrong."""
    if got is None:
        return float("inf")
    if not float(want):
        return 0.0 if got == 0 else float("inf")
    with _digits(60):
        return float(abs(Decimal(got) - want) / abs(want))
