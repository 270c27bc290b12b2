"""The one count of what is not finite, by the bits, against NumPy on the widened values."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics import finiteness, summarize
from harness.metrics.finiteness import Tally
from harness.metrics.host import host_bits, host_values
from harness.metrics.layouts import FLOAT64, LAYOUTS, layout_named, layout_of
from harness.vocabulary import RowSummary

FAULTS = {"nan": np.nan, "pos_inf": np.inf, "neg_inf": -np.inf}


def by_numpy(wide: np.ndarray) -> RowSummary:
    finite = np.isfinite(wide)
    return RowSummary(
        int(np.isnan(wide).sum()),
        int(np.isposinf(wide).sum()),
        int(np.isneginf(wide).sum()),
        float(np.abs(wide[finite]).max()) if finite.any() else None,
        None if finite.all() else int(finite.reshape(-1).argmin()),
        wide.size,
    )


@pytest.mark.parametrize("dtype", LAYOUTS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative"])
def test_one_value_that_is_not_finite_is_counted_wherever_it_is(dtype: str, fault: str, sign: int) -> None:
    for width in (1, 2, 31, 1025):
        for place in {0, width // 2, width - 1}:
            row = np.full(width, 1.5 * sign, np.float32)
            row[place] = FAULTS[fault]
            found = summarize(mx.array(row).astype(getattr(mx, dtype)))
            assert found.first == place
            assert found.evidence == {name: int(name == fault) for name in FAULTS}


@pytest.mark.parametrize("dtype", LAYOUTS)
@given(values=st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_numpy_on_the_device_and_on_the_host(dtype: str, values: list[float]) -> None:
    array = mx.array(np.array(values, np.float32)).astype(getattr(mx, dtype))
    wide = np.array(array.astype(mx.float32)).astype(np.float64)
    assert np.array_equal(host_values(array), wide, equal_nan=True)
    assert summarize(array) == summarize(wide) == by_numpy(wide)


@pytest.mark.parametrize(
    ("values", "want"),
    [
        pytest.param([1, -3, 2], RowSummary(0, 0, 0, 3.0, None, 3), id="finite"),
        pytest.param([1, np.inf, -5, np.nan], RowSummary(1, 1, 0, 5.0, 1, 4), id="mixed"),
        pytest.param([-np.inf, -np.inf, 0], RowSummary(0, 0, 2, 0.0, 0, 3), id="suppressed"),
        pytest.param([np.nan] * 3, RowSummary(3, 0, 0, None, 0, 3), id="all-nan"),
        pytest.param([], RowSummary(), id="empty"),
    ],
)
def test_a_row_of_the_host_is_counted(values: list[float], want: RowSummary) -> None:
    assert summarize(np.array(values, np.float64)) == want


@given(values=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40))
@settings(max_examples=100, deadline=None)
def test_float64_is_counted_alike_on_the_device_and_on_the_host(values: list[float]) -> None:
    wide = np.array(values, np.float64)
    assert summarize(wide) == by_numpy(wide)
    if values:
        assert summarize(mx.array(wide, mx.float64)) == by_numpy(wide)


@pytest.mark.parametrize("dtype", [*LAYOUTS, "float64"])
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_a_count_does_not_depend_on_the_pieces(dtype: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finiteness, "CHUNK", chunk)
    values = np.array([1.0, np.inf, -7.0, np.nan, 2.0, -np.inf, np.nan], np.float64)
    array = mx.array(values, getattr(mx, dtype))
    tally = Tally(layout_named(dtype))
    tally.add(host_bits(array)[:2])
    tally.add(host_bits(array)[2:])
    assert tally.summary() == summarize(array) == RowSummary(2, 1, 1, 7.0, 1, 7)


def test_what_is_no_float_is_not_looked_at() -> None:
    assert summarize(mx.array([1, 2, 3])) == RowSummary(size=3)
    assert summarize(mx.array([True])) == RowSummary(size=1)


def test_an_array_that_is_not_contiguous_is_counted_as_it_looks() -> None:
    array = mx.array(np.arange(12, dtype=np.float32).reshape(3, 4)).T
    assert summarize(mx.where(array == 9.0, mx.array(np.nan), array)).first == 1 * 3 + 2
    wide = np.arange(12.0).reshape(3, 4).T
    assert summarize(np.where(wide == 9.0, np.nan, wide)[:, 1:]).first == 1 * 2 + 1
    assert summarize(wide[::2]).absmax == 10.0


def test_the_text_names_what_there_is() -> None:
    assert RowSummary(3, 1, 0, None, 0, 40_960).text() == "3 NaN, 1 +inf of 40,960 values"


@pytest.mark.parametrize("dtype", LAYOUTS)
def test_a_layout_is_what_mlx_says_of_its_dtype(dtype: str) -> None:
    layout, info = LAYOUTS[dtype], mx.finfo(getattr(mx, dtype))
    assert layout.limit == info.max
    assert 2.0 ** (1 - layout.mantissa) == info.eps
    assert layout.value(layout.infinity) == np.inf
    assert layout.value(layout.infinity - 1) == layout.limit
    assert layout.value(1) == layout.smallest


@pytest.mark.parametrize("dtype", LAYOUTS)
def test_the_overflow_is_the_first_value_that_a_cast_makes_infinite(dtype: str) -> None:
    layout = LAYOUTS[dtype]
    for value, finite in ((np.nextafter(layout.overflow, 0), True), (layout.overflow, False)):
        # A bfloat16 is rounded from float32, which holds its limits exactly and not the number next to them.
        if dtype == "bfloat16":
            value = np.nextafter(np.float32(layout.overflow), np.float32(0)) if finite else np.float32(value)
            assert np.isfinite(host_values(mx.array(value).astype(mx.bfloat16))).all() == finite
        else:
            with np.errstate(over="ignore"):
                assert np.isfinite(np.float64(value).astype(dtype)) == finite


def test_float64_is_what_numpy_says_of_it() -> None:
    info = np.finfo(np.float64)
    assert (FLOAT64.limit, 2.0 ** (1 - FLOAT64.mantissa)) == (info.max, info.eps)
    assert (FLOAT64.value(FLOAT64.infinity), FLOAT64.value(1)) == (np.inf, FLOAT64.smallest)
    assert layout_of(mx.array([1.0], mx.float64)) is FLOAT64
