"""Rows reach the host bit for bit."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest

from harness.metrics import host_row
from harness.vocabulary.errors import HarnessError

EDGES = {
    "float16": [0.0, -0.0, 1.5, 65504.0, -65504.0, 2.0**-24, math.inf, -math.inf, math.nan],
    "bfloat16": [0.0, -0.0, 1.5, 2.0**127 * (2 - 2.0**-7), -(2.0**-126), 2.0**-133, math.inf, -math.inf, math.nan],
    "float32": [0.0, -0.0, 1.5, 2.0**127 * (2 - 2.0**-23), -(2.0**-126), 2.0**-149, math.inf, -math.inf, math.nan],
}


@pytest.mark.parametrize("dtype", EDGES)
def test_every_value_of_a_device_row_arrives_exactly(dtype: str) -> None:
    want = np.array(EDGES[dtype], np.float64)
    row = host_row(device_row(dtype, want))
    assert row.dtype == np.float64
    np.testing.assert_array_equal(row, want)
    np.testing.assert_array_equal(np.signbit(row[:2]), [False, True])


SIGNALLING = {"float16": 0x7C01, "bfloat16": 0x7F81, "float32": 0x7F800001}


@pytest.mark.parametrize("dtype", SIGNALLING)
def test_a_signalling_nan_is_a_nan_and_no_warning(dtype: str) -> None:
    """The processor raises a flag where it widens one: x86-64 for float32, ARM for float16 as well."""
    bits = mx.array([SIGNALLING[dtype], 0], getattr(mx, "uint32" if dtype == "float32" else "uint16"))
    row = host_row(bits.view(getattr(mx, dtype)))
    assert np.isnan(row).tolist() == [True, False]


def device_row(dtype: str, values: np.ndarray) -> mx.array:
    """Make the row from its bits, so that no conversion on the device is trusted."""
    if dtype != "bfloat16":
        return mx.array(values.astype(dtype))
    bits = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return mx.array(bits).view(mx.bfloat16)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numpy_rows_are_widened(dtype: type) -> None:
    row = host_row(np.array([1.5, -math.inf], dtype))
    assert row.dtype == np.float64
    assert row.tolist() == [1.5, -math.inf]


def test_a_strided_row_is_read_in_order() -> None:
    logits = mx.arange(24, dtype=mx.float32).reshape(2, 3, 4).astype(mx.bfloat16)
    assert host_row(logits[1, :, 2]).tolist() == [14.0, 18.0, 22.0]


def test_the_row_is_a_copy() -> None:
    source = np.zeros(3)
    host_row(source)[0] = 1.0
    assert source[0] == 0.0


@pytest.mark.parametrize(
    ("logits", "seen"),
    [
        pytest.param(mx.zeros((1, 4)), r"float32 and shape \[1, 4\]", id="batch"),
        pytest.param(mx.zeros((4,), dtype=mx.int32), "int32", id="integers"),
        pytest.param(mx.zeros((2, 4), dtype=mx.bfloat16), r"bfloat16 and shape \[2, 4\]", id="bfloat16-batch"),
        pytest.param(np.float64(3.0), r"shape \[\]", id="scalar"),
    ],
)
def test_anything_but_one_row_of_floats_is_refused(logits: object, seen: str) -> None:
    with pytest.raises(HarnessError, match=seen):
        host_row(logits)
