"""Rows of logits are the same only bit by bit, in every dtype that MLX computes in."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from harness.patching.equality import equal, same_bits


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32, mx.float64], ids=str)
def test_every_bit_counts_and_nan_equals_itself(dtype: mx.Dtype) -> None:
    with mx.stream(mx.cpu):
        row = mx.array([1.0, np.nan, -0.0, np.inf]).astype(dtype)
        assert same_bits(row, mx.array(row))
        assert not same_bits(row, mx.array([1.0, np.nan, 0.0, np.inf]).astype(dtype)), "the sign of a zero"
        assert not same_bits(row, row[:3])
        next_to_one = mx.array([1 + 2.0**-7]).astype(dtype)
        assert not same_bits(next_to_one, mx.ones((1,), dtype))


def test_another_dtype_is_another_row() -> None:
    assert not same_bits(mx.ones((2,), mx.float16), mx.ones((2,), mx.bfloat16))


def test_what_may_differ_can_be_narrowed() -> None:
    one, other = mx.array([1.0, 2.0]), mx.array([1.0, 2.00001])
    assert equal(one, other)
    assert not equal(one, other, most=1e-6)
