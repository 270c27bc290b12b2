"""The emulated accelerator itself: what it changes, by how much, and what it leaves as it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest
from emulation.accelerator import OUT_OF_MEMORY, ULP, child, emulated

DTYPES = [mx.float32, mx.float16, mx.bfloat16]
ROUNDING = ["order", "rows:1", "rows:4", "rows:16"]


def numbers(*shape: int, seed: int = 0) -> mx.array:
    return mx.random.uniform(-1, 1, shape, key=mx.random.key(seed))


def matmul(x: mx.array) -> mx.array:
    return x @ numbers(64, 48, seed=1).astype(x.dtype)


def addmm(x: mx.array) -> mx.array:
    return mx.addmm(numbers(48, seed=2).astype(x.dtype), x, numbers(64, 48, seed=1).astype(x.dtype))


def quantized(x: mx.array) -> mx.array:
    w, scales, biases = mx.quantize(numbers(48, 64, seed=1).astype(x.dtype), group_size=32, bits=4)
    return mx.quantized_matmul(x, w, scales, biases, transpose=True, group_size=32, bits=4)


def experts(x: mx.array) -> mx.array:
    w, *more = mx.quantize(numbers(3, 48, 64, seed=1).astype(x.dtype), group_size=32, bits=4)
    chosen = mx.zeros((x.shape[0], 1), mx.uint32) + 2
    out = mx.gather_qmm(x[:, None], w, *more, rhs_indices=chosen, transpose=True, group_size=32, bits=4)
    return out.reshape(x.shape[0], -1, 48)


def attention(x: mx.array) -> mx.array:
    """Causal attention of 4 heads over 2 that they share, with a sink."""
    heads = x.reshape(x.shape[0], x.shape[1], 4, 16).swapaxes(1, 2)
    keys, sinks = heads[:, :2], numbers(4, seed=3).astype(x.dtype)
    return mx.fast.scaled_dot_product_attention(heads, keys, keys * 2, scale=0.25, mask="causal", sinks=sinks)


def masked(x: mx.array) -> mx.array:
    heads, mask = x[:, None], mx.array(np.tri(x.shape[1])).astype(mx.bool_)
    return mx.fast.scaled_dot_product_attention(heads, heads, heads, scale=1.0, mask=mask)


OPERATIONS = [matmul, addmm, quantized, experts, attention, masked]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("text", ROUNDING)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_row_rounds_otherwise_in_a_larger_batch_and_within_its_dtype(
    operation: Callable[[mx.array], mx.array], text: str, dtype: mx.Dtype
) -> None:
    row = numbers(1, 7, 64, seed=4).astype(dtype)
    batch = mx.concatenate([row, row, row])
    plain = np.array(operation(row).astype(mx.float32), np.float64)
    with emulated(text):
        alone, among = (np.array(operation(each).astype(mx.float32), np.float64) for each in (row, batch))
    assert (among[0] == among[1]).all(), "equal rows of one batch round alike"
    if text != "order" or dtype == mx.float32:  # the halves are summed in float32, so few of their sums change
        assert (alone[0] != among[0]).any(), "rows of another batch do not"
    size = float(text.partition(":")[2] or 1)
    assert np.abs(alone - among).max() <= (2 * size + 2) * ULP[dtype] * np.abs(plain).max()
    assert np.abs(alone - plain).max() <= (size + 4) * ULP[dtype] * np.abs(plain).max()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", range(1, 12))
def test_another_order_leaves_what_is_exact(rows: int, dtype: mx.Dtype) -> None:
    x, w = (mx.array(np.random.default_rng(rows).integers(-2, 3, shape)).astype(dtype) for shape in ((rows, 8), (8, 5)))
    ones = mx.ones((1, 1, rows, 4), dtype)
    with emulated("order"):
        product, with_bias = x @ w, mx.addmm(w[0], x, w)
        mean = mx.fast.scaled_dot_product_attention(ones, ones, 3 * ones, scale=0.5, mask="causal")
    assert mx.array_equal(product, x @ w)
    assert mx.array_equal(with_bias, x @ w + w[0])
    if rows in (1, 2, 4, 8):  # other shares of equal keys are not exact in any order
        assert mx.array_equal(mean, 3 * ones)


def test_a_function_compiled_for_every_shape_is_emulated() -> None:
    gate = mx.compile(lambda x, w: mx.sigmoid(x @ w), shapeless=True)
    with emulated("order"):
        assert all(gate(mx.zeros((rows, 8)), mx.zeros((8, 4))).shape == (rows, 4) for rows in (2, 3, 7))


def test_another_order_leaves_inf_and_nan() -> None:
    x = mx.array([[np.inf, 1.0, 2.0, np.nan], [np.inf, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]])
    with emulated("order"):
        out = x @ mx.ones((4, 2))
    assert mx.array_equal(out, x @ mx.ones((4, 2)), equal_nan=True)


def test_a_flaky_product_is_off_once_in_so_many_calls_and_by_an_ulp() -> None:
    row = numbers(1, 1, 64).astype(mx.float16)
    right = matmul(row)

    def hits(text: str) -> list[int]:
        with emulated(text):
            seen = [matmul(row) for _ in range(1000)]
        off = [i for i, each in enumerate(seen) if not mx.array_equal(each, right)]
        assert all(mx.abs(seen[i] - right).max() <= 2 * ULP[mx.float16] * mx.abs(right).max() for i in off)
        return off

    first = hits("flaky:0.01")
    assert 3 <= len(first) <= 20
    assert hits("flaky:0.01") == first
    assert hits("flaky:0.01:1") != first


def test_the_nth_evaluation_is_out_of_memory_and_the_next_is_not() -> None:
    with emulated("memory:3"):
        mx.eval(numbers(2))
        mx.eval(numbers(2))
        with pytest.raises(RuntimeError) as raised:
            mx.eval(numbers(2))
        mx.eval(numbers(2))
    assert str(raised.value) == OUT_OF_MEMORY
    mx.eval(numbers(2))


def test_a_late_failure_gives_zeros_and_then_an_error() -> None:
    x = numbers(1, 1, 64)
    with emulated("late:2"):
        good, bad = matmul(x), matmul(x)
        mx.eval(good, bad)
        assert mx.abs(good).max() > 0
        assert mx.abs(bad).max() == 0
        with pytest.raises(RuntimeError, match="Insufficient Memory"):
            mx.eval(good)
        mx.eval(matmul(x))


@pytest.mark.parametrize("text", ["order", "rows:16", "flaky:0.5", "memory:1", "metal", "cpu-arm64", "order,metal"])
def test_afterwards_everything_is_as_it_was(text: str) -> None:
    before = {id(owner): dict(vars(owner)) for owner in (mx, mx.fast, mx.metal)}
    product = mx.array.__matmul__
    with emulated(text):
        pass
    assert {id(owner): dict(vars(owner)) for owner in (mx, mx.fast, mx.metal)} == before
    assert mx.array.__matmul__ is product


def test_what_cannot_be_emulated_is_refused() -> None:
    with pytest.raises(ValueError, match="'ordre'"), emulated("ordre"):
        pass


SAYS = """
import mlx.core as mx
from harness.environment.facts import backend
x = mx.random.uniform(-1, 1, (3, 64), key=mx.random.key(0)).astype(mx.float16)
print(backend(), (x @ x.T).tolist())
"""


@pytest.mark.parametrize(
    ("text", "name"), [("order,metal", "metal"), ("rows:4,cpu-arm64", "cpu-arm64"), ("flaky:0.5,metal", "metal")]
)
def test_two_processes_say_the_same(text: str, name: str) -> None:
    from project import environment

    said = [
        subprocess.run(
            [sys.executable, "-c", SAYS], env=environment(**child(text)), capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said[0] == said[1]
    assert said[0].split()[0] == name
    with emulated(text.partition(",")[0]):
        x = mx.random.uniform(-1, 1, (3, 64), key=mx.random.key(0)).astype(mx.float16)
        assert said[0] == f"{name} {(x @ x.T).tolist()}\n"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_long_sums_of_the_halves_change_with_the_batch(dtype: mx.Dtype) -> None:
    x, w = numbers(1, 4096).astype(dtype), numbers(4096, 4096, seed=1).astype(dtype)
    with emulated("order"):
        alone, among = x @ w, mx.concatenate([x, x]) @ w
    assert not mx.array_equal(alone[0], among[0])
