"""The published recommendation, limit by limit, and the truth beside it."""

from __future__ import annotations

import mlx.core as mx
import pytest

from harness import recommend_metric
from harness.vocabulary.errors import UnknownName, UsageError


@pytest.mark.parametrize(
    ("size", "metrics"),
    [
        (2, ("l2",)), (49_999, ("l2",)), (50_000, ("l2", "cosine")), (100_000, ("l2", "cosine")),
        (100_001, ("mse", "cosine")), (151_936, ("mse", "cosine")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_recommendation_is_the_published_one(size, metrics, dtype):
    given = recommend_metric(size, dtype)
    assert given.metrics == metrics
    assert str(given).startswith(f"{' or '.join(metrics)}. ")
    assert "float64 on the host" in given.truth


@pytest.mark.parametrize(("size", "rms"), [(151_936, "0.657"), (128_256, "0.715"), (32_000, "1.43"), (2_048, "5.66")])
def test_the_truth_about_float16_is_the_measured_one(size, rms):
    truth = recommend_metric(size).truth
    assert "overflows when the true distance reaches 255.97, at any vocabulary" in truth
    assert f"root-mean-square difference of {rms} per logit" in truth


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_other_dtypes_do_not_overflow(dtype):
    assert "255.97" not in recommend_metric(151_936, dtype).truth


def test_an_mlx_dtype_will_do():
    assert recommend_metric(151_936, mx.bfloat16) == recommend_metric(151_936, "bfloat16")


@pytest.mark.parametrize("size", [1, 0, -5, 1.5, "151936", None], ids=repr)
def test_a_size_that_is_no_vocabulary_is_an_error(size):
    with pytest.raises(UsageError, match=r"vocab_size .* is no vocabulary; give a whole number, 2 or more"):
        recommend_metric(size)


def test_an_unknown_dtype_is_an_error():
    with pytest.raises(UnknownName, match="'flaot16' is not a dtype; did you mean 'float16'"):
        recommend_metric(151_936, "flaot16")
