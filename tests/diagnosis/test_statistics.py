"""The reduction on the device, against the count on the host and NumPy on the widened values."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.diagnosis.trail.statistics import StatisticsProbe, element
from harness.metrics import summarize
from harness.metrics.host import host_values
from harness.metrics.layouts import FLOAT64, LAYOUTS, layout_of

FAULTS = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


def probed(array):
    probe = StatisticsProbe(array, layout_of(array))
    return probe.magnitude()


@pytest.mark.parametrize("dtype", LAYOUTS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative"])
def test_one_value_that_is_not_finite_is_seen_wherever_it_is(dtype, fault, sign):
    for width in (1, 2, 31, 1025):
        for place in {0, width // 2, width - 1}:
            row = np.full(width, 1.5 * sign, np.float32)
            row[place] = FAULTS[fault]
            assert probed(mx.array(row).astype(getattr(mx, dtype))) >= LAYOUTS[dtype].infinity


@pytest.mark.parametrize("dtype", LAYOUTS)
@given(values=st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_reduction_says_what_the_count_says(dtype, values):
    array = mx.array(np.array(values, np.float32)).astype(getattr(mx, dtype))
    found, layout = summarize(array), LAYOUTS[dtype]
    assert (probed(array) < layout.infinity) == found.finite
    if found.finite:
        assert layout.value(probed(array)) == np.abs(host_values(array)).max() == found.absmax


def test_the_reduction_sees_float64_on_the_device_that_has_it():
    with mx.stream(mx.cpu):
        assert FLOAT64.value(probed(mx.array([1.0, -1e300], mx.float64))) == 1e300
        assert probed(mx.array([1.0, np.nan], mx.float64)) > FLOAT64.infinity


@pytest.mark.parametrize(
    ("index", "shape", "place"),
    [(None, (4,), (None, None)), (3, (4,), (None, 3)), (11, (3, 4), (2, 3)), (11, (1, 3, 4), (2, 3))],
)
def test_the_last_axis_is_the_dimension_and_the_one_before_it_the_token(index, shape, place):
    assert element(index, shape) == place


@pytest.mark.parametrize(
    ("shape", "token"),
    [((1, 6, 4, 8), 1), ((1, 4, 6, 8), 2), ((1, 6, 6, 8), None), ((1, 4, 4, 8), None), ((6, 1, 6, 8), 0)],
    ids=["heads after", "heads before", "either", "none", "both say the same"],
)
def test_with_four_axes_the_token_is_on_the_axis_as_long_as_the_prompt(shape, token):
    index = (0, 0, 0, 3) if shape[0] == 6 else (0, 1, 2, 3)
    assert element(int(np.ravel_multi_index(index, shape)), shape, 6) == (token, 3)


def test_a_view_that_is_not_contiguous_is_reduced_as_it_looks():
    array = mx.array(np.arange(12, dtype=np.float32).reshape(3, 4)).T
    assert LAYOUTS["float32"].value(probed(array[:, 0])) == 3.0
