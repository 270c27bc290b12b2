"""Reductions by the bits, against NumPy on the widened values."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.diagnosis.trail.statistics import LAYOUTS, StatisticsProbe, counts, element, host_values, layout_of

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
            array = mx.array(row).astype(getattr(mx, dtype))
            assert probed(array) >= LAYOUTS[dtype].infinity
            found = counts(array)
            assert found.first == (place,)
            assert (found.nan, found.pos_inf, found.neg_inf) == tuple(int(fault == name) for name in FAULTS)


@pytest.mark.parametrize("dtype", LAYOUTS)
@given(values=st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_numpy(dtype, values):
    array = mx.array(np.array(values, np.float32)).astype(getattr(mx, dtype))
    wide = np.array(array.astype(mx.float32)).astype(np.float64)
    assert np.array_equal(host_values(array), wide, equal_nan=True)
    found, finite = counts(array), wide[np.isfinite(wide)]
    assert found.nan == np.isnan(wide).sum()
    assert (found.pos_inf, found.neg_inf) == (np.isposinf(wide).sum(), np.isneginf(wide).sum())
    assert found.absmax == (np.abs(finite).max() if finite.size else None)
    layout = LAYOUTS[dtype]
    if found.finite:
        assert layout.value(probed(array)) == np.abs(wide).max()
    else:
        assert probed(array) >= layout.infinity


@pytest.mark.parametrize("dtype", LAYOUTS)
def test_a_layout_is_what_mlx_says_of_its_dtype(dtype):
    layout, info = LAYOUTS[dtype], mx.finfo(getattr(mx, dtype))
    assert layout.limit == info.max
    assert 2.0 ** (1 - layout.mantissa) == info.eps
    assert layout.value(layout.infinity) == np.inf
    assert layout.value(1) == layout.smallest


@pytest.mark.parametrize(
    ("index", "place"),
    [(None, (None, None)), ((3,), (None, 3)), ((2, 3), (2, 3)), ((0, 2, 3), (2, 3))],
)
def test_the_last_axis_is_the_dimension_and_the_one_before_it_the_token(index, place):
    assert element(index) == place


@pytest.mark.parametrize(
    ("shape", "token"),
    [((1, 6, 4, 8), 1), ((1, 4, 6, 8), 2), ((1, 6, 6, 8), None), ((1, 4, 4, 8), None), ((6, 1, 6, 8), 0)],
    ids=["heads after", "heads before", "either", "none", "both say the same"],
)
def test_with_four_axes_the_token_is_on_the_axis_as_long_as_the_prompt(shape, token):
    index = (0, 0, 0, 3) if shape[0] == 6 else (0, 1, 2, 3)
    assert element(index, shape, 6) == (token, 3)


def test_a_view_that_is_not_contiguous_is_reduced_as_it_looks():
    array = mx.array(np.arange(12, dtype=np.float32).reshape(3, 4)).T
    assert LAYOUTS["float32"].value(probed(array[:, 0])) == 3.0
    assert counts(put_nan(array)).first == (1, 2)


def put_nan(array):
    return mx.where(array == 9.0, mx.array(np.nan), array)
