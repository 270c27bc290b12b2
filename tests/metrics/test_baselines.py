"""Headroom against what each dtype holds by its bits; shift share against exact arithmetic and closed forms."""

from __future__ import annotations

import math
from fractions import Fraction

import exact_metrics
import mlx.core as mx
import numpy as np
import pytest

from harness.metrics import NORM_LIMITS, headroom, shift_share
from harness.vocabulary import METRICS

INF, NAN = math.inf, math.nan
RANDOM = np.random.RandomState(3)
CLEAN, CORRUPTED = (RANDOM.standard_normal(500).astype(np.float32).astype(np.float64) for _ in range(2))


@pytest.mark.parametrize("dtype", NORM_LIMITS)
def test_the_limit_is_where_a_square_rounds_to_infinity(dtype):
    def held(value: float) -> bool:
        return bool(mx.isfinite(mx.array(value, mx.float32).astype(getattr(mx, dtype))).item())

    limit = NORM_LIMITS[dtype] ** 2
    if dtype == "float32":
        with np.errstate(over="ignore"):
            assert np.isinf(np.float32(limit * (1 + 1e-12)))
            assert np.isfinite(np.float32(limit * (1 - 1e-12)))
    else:
        assert not held(limit * (1 + 1e-6))
        assert held(limit * (1 - 1e-6))


def test_the_float16_limit_is_that_of_the_report():
    assert NORM_LIMITS["float16"] == pytest.approx(math.sqrt(65520), rel=1e-15)
    clean, corrupted = np.zeros(151_936), np.full(151_936, 313.7752 / math.sqrt(151_936))
    assert headroom("l2", clean, corrupted, "float16") == pytest.approx(255.97 / 313.7752, rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 2.0**100, 2.0**-100], ids=str)
def test_headroom_is_the_limit_over_the_norm_that_is_squared_and_summed(scale):
    clean, corrupted = CLEAN * scale, CORRUPTED * scale
    distance = float(exact_metrics.l2(clean, corrupted))
    largest = max(float(exact_metrics.l2(np.zeros(500), row)) for row in (clean, corrupted))
    for metric, size in {"l2": distance, "mse": distance, "cosine": largest}.items():
        for rows in ((clean, corrupted), (corrupted, clean)):
            assert headroom(metric, *rows, "float16") == pytest.approx(NORM_LIMITS["float16"] / size, rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_only_metrics_with_a_sum_of_squares_have_headroom_and_only_squared_distances_a_shift(metric):
    assert (headroom(metric, CLEAN, CORRUPTED, "float32") is None) == (metric not in ("l2", "mse", "cosine"))
    assert (shift_share(metric, CLEAN, CORRUPTED) is None) == (metric not in ("l2", "mse"))


@pytest.mark.parametrize(
    ("clean", "corrupted"),
    [([1, 2], [1, 2]), ([1, NAN], [1, 2]), ([1, 2], [1, INF]), ([1, -INF], [1, 2]), ([-INF], [-INF]), ([], [])],
    ids=["equal", "nan", "inf", "suppressed in one", "all suppressed", "empty"],
)
def test_without_a_difference_there_is_neither(clean, corrupted):
    rows = np.array(clean, np.float64), np.array(corrupted, np.float64)
    assert headroom("l2", *rows, "float16") is None
    assert shift_share("l2", *rows) is None


def test_suppressed_ids_do_not_count():
    rows = np.array([3.0, 0.0, -INF]), np.array([0.0, 4.0, -INF])
    assert headroom("l2", *rows, "float16") == pytest.approx(NORM_LIMITS["float16"] / 5)
    assert shift_share("mse", *rows) == pytest.approx(100 * 2 * 0.5**2 / 25)


def test_an_unknown_dtype_has_no_limit():
    assert headroom("l2", CLEAN, CORRUPTED, "float64") is None


@pytest.mark.parametrize("metric", ["l2", "mse"])
@pytest.mark.parametrize(("shift", "share"), [(0.0, 0.0), (1.0, 50.0), (2.0, 80.0), (-3.0, 90.0)])
def test_a_shift_of_c_beside_noise_of_rms_1_is_c2_of_1_plus_c2(metric, shift, share):
    noise = np.array([1.0, -1.0] * 50)
    assert shift_share(metric, CLEAN[:100], CLEAN[:100] + noise + shift) == pytest.approx(share, abs=1e-12)


def test_the_share_is_exact_whatever_the_size():
    for scale in (1.0, 2.0**500, 2.0**-500):
        (a, b), _ = exact_metrics.integers(CLEAN, CORRUPTED)
        change = [y - x for x, y in zip(a, b, strict=True)]
        share = Fraction(sum(change) ** 2, len(change) * sum(each * each for each in change))
        assert shift_share("l2", CLEAN * scale, CORRUPTED * scale) == pytest.approx(float(100 * share), rel=1e-9)
