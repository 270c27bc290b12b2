"""The fingerprint sees every change of a model's arrays that a cryptographic digest of their bytes sees, and more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.models.fingerprint import PIECE, digest, fingerprint, settled

DTYPES = {
    "float32": np.float32, "float16": np.float16, "uint8": np.uint8, "int64": np.int64, "uint32": np.uint32,
    "complex64": np.complex64,
}  # fmt: skip


def oracle(value: np.ndarray) -> bytes:
    return hashlib.blake2b(value.tobytes()).digest()


def of(value: np.ndarray) -> int:
    return digest(mx.array(value)).item()


def numbers(size: int, dtype: str, seed: int) -> np.ndarray:
    bits = np.random.Generator(np.random.PCG64(seed)).integers(1, 100, size)
    return bits.astype(DTYPES[dtype])


Change = Callable[[np.ndarray, int, int], np.ndarray]


def _at(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def changed(value: np.ndarray, i: int, j: int) -> np.ndarray:
        value = value.copy()
        value[i] = change(value[i])
        return value

    return changed


def _swapped(value: np.ndarray, i: int, j: int) -> np.ndarray:
    value = value.copy()
    value[[i, j]] = value[[j, i]]
    return value


def _two_signs(value: np.ndarray, i: int, j: int) -> np.ndarray:
    value = value.copy()
    value[i], value[j] = -value[i], -value[j]
    return value


def _bit(value: np.ndarray, i: int, j: int) -> np.ndarray:
    raw = value.copy().view(np.uint8)
    raw[i * value.itemsize + j % value.itemsize] ^= np.uint8(1 << (i + j) % 8)
    return raw.view(value.dtype)


CHANGES: dict[str, Change] = {
    "one doubled": _at(lambda x: x * 2),
    "one negated": _at(lambda x: -x),
    "all doubled": lambda value, i, j: value + value,
    "all negated": lambda value, i, j: -value,
    "two signs": _two_signs,
    "two swapped": _swapped,
    "reversed": lambda value, i, j: value[::-1].copy(),
    "rolled": lambda value, i, j: np.roll(value, i + 1),
    "one bit": _bit,
    "one put to zero": _at(lambda x: x * 0),
    "sorted": lambda value, i, j: np.sort(value),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dtype", DTYPES)
@given(size=st.integers(1, 1200), seed=st.integers(0, 2**32), places=st.tuples(st.integers(0), st.integers(0)))
@settings(max_examples=25, deadline=None)
def test_it_sees_what_blake2b_sees(dtype: str, change: str, size: int, seed: int, places: tuple[int, int]) -> None:
    before = numbers(size, dtype, seed)
    with np.errstate(over="ignore"):
        after = CHANGES[change](before, places[0] % size, places[1] % size)
    assert (of(before) == of(after)) == (oracle(before) == oracle(after))


@pytest.mark.parametrize("size", [512, 1024, 49152, PIECE * 2, PIECE * 2 + 1, PIECE * 5 + 3])
@pytest.mark.parametrize("factor", [2.0, 0.5, -1.0])
def test_all_weights_times_a_factor_at_sizes_whose_sums_wrapped_to_nothing(size: int, factor: float) -> None:
    value = np.random.Generator(np.random.PCG64(size)).integers(-8, 8, size).astype(np.float32) / 8
    assert of(value) != of(value * np.float32(factor))


def test_pieces_that_change_places_are_seen() -> None:
    value = numbers(PIECE * 4, "float32", 7)  # two pieces of as many words
    assert of(value) != of(np.concatenate([value[PIECE * 2 :], value[: PIECE * 2]]))


def test_zeros_of_another_number_are_other_zeros() -> None:
    assert len({of(np.zeros(size, np.float32)) for size in range(1, 100)}) == 99


class Settings:
    def __init__(self) -> None:
        self.epsilon, self.nested = 1e-5, {"table": [1, 2]}


class Counting(nn.Module):
    """A layer that counts its calls, which changes nothing that it computes."""

    shared = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self._private = [nn.Linear(4, 4)]
        self.scale = 2.0
        self.activation = nn.silu
        self.settings = Settings()
        self.table = np.arange(4)
        self.compiled = partial(nn.gelu)
        self.dtype = mx.float32
        self._held = {"arrays": (mx.arange(4), mx.arange(5))}
        self.calls = 0
        self._frequencies = mx.arange(4) / 4

    def __call__(self, x: mx.array) -> mx.array:
        self.calls += 1
        return self.helper(self.inner(x)) * self.scale + self._frequencies

    def helper(self, x: mx.array) -> mx.array:
        return x


def _frequencies(model: Counting) -> None:
    model._frequencies = model._frequencies * 2


def _scale(model: Counting) -> None:
    model.scale = 3.0


def _epsilon_of_an_instance(model: Counting) -> None:
    model.inner.weight = model.inner.weight * 2


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_frequencies, "attribute '_frequencies' changed"),
        (_scale, "attribute 'scale' changed (1 in all): 2.0 is now 3.0"),
        (_epsilon_of_an_instance, "parameter 'inner.weight' changed"),
        (lambda model: delattr(model, "scale"), "attribute 'scale' changed (1 in all): 2.0 is now gone"),
        (lambda model: setattr(model, "inner", nn.Linear(4, 5)), "parameter 'inner.weight' changed"),
    ],
    ids=["private array", "attribute", "weight doubled", "attribute gone", "another module"],
)
def test_what_a_job_may_leave_behind_is_named(damage: Callable[[Counting], None], said: str) -> None:
    model = Counting()
    before = fingerprint(model)
    damage(model)
    assert said in (before.difference(fingerprint(model)) or "")


UNUSUAL: dict[str, Callable[[Counting], object]] = {
    "activation": lambda model: setattr(model, "activation", nn.relu),
    "settings.epsilon": lambda model: setattr(model.settings, "epsilon", 1.0),
    "settings.nested.table.1": lambda model: model.settings.nested["table"].__setitem__(1, 3),
    "settings.nested.table": lambda model: model.settings.nested["table"].append(3),
    "table": lambda model: model.table.__imul__(2),
    "compiled": lambda model: setattr(model, "compiled", partial(nn.gelu)),
    "dtype": lambda model: setattr(model, "dtype", mx.float16),
    "_private.0.weight": lambda model: setattr(model._private[0], "weight", model._private[0].weight * 2),
    "_held.arrays.1": lambda model: model._held.update(arrays=(mx.arange(4), mx.arange(5) * 2)),
    "shared": lambda model: setattr(model, "shared", 2.0),
    "helper": lambda model: setattr(model, "helper", lambda x: 2 * x),
    f"class {__name__}.Counting.shared": lambda model: setattr(Counting, "shared", 2.0),
    f"class {__name__}.Counting.helper": lambda model: setattr(Counting, "helper", lambda self, x: 2 * x),
    f"class {__name__}.Counting.__call__": lambda model: setattr(Counting.__call__, "__defaults__", (1,)),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_whatever_a_forward_pass_may_read_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kept in ("shared", "helper"):
        monkeypatch.setattr(Counting, kept, vars(Counting)[kept])
    monkeypatch.setattr(Counting.__call__, "__defaults__", None)
    model = Counting()
    before = fingerprint(model)
    model.freeze()  # what may be trained is nothing that a forward pass reads
    model.note = "new"
    assert before.difference(fingerprint(model)) is None
    UNUSUAL[name](model)
    assert f"attribute {name!r}" in (before.difference(fingerprint(model)) or "")


def test_a_tuple_that_stands_in_two_places_is_read_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "kept", (), raising=False)  # as __static_attributes__ from 3.13 on
    model = Counting()
    before = fingerprint(model)
    model.note = ()  # the same object, and read before the class is
    assert before.difference(fingerprint(model)) is None
    monkeypatch.setattr(Counting, "kept", (2.0,))
    assert "kept' changed" in (before.difference(fingerprint(model)) or "")


def test_another_call_of_a_class_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Counting()
    before = fingerprint(model)
    assert before.difference(fingerprint(model)) is None
    original = nn.Linear.__call__
    with monkeypatch.context() as patch:
        patch.setattr(nn.Linear, "__call__", lambda self, x: original(self, x) * 2)
        assert "attribute 'class mlx.nn.layers.linear.Linear.__call__' changed" in (
            before.difference(fingerprint(model)) or ""
        )
    code = original.__code__
    try:
        original.__code__ = (lambda self, x: x).__code__
        assert "attribute 'class mlx.nn.layers.linear.Linear.__call__' changed" in (
            before.difference(fingerprint(model)) or ""
        )
    finally:
        original.__code__ = code
    assert before.difference(fingerprint(model)) is None


def test_a_counter_of_the_models_own_is_no_damage() -> None:
    model = Counting()
    before = settled(model, lambda: mx.eval(model(mx.ones((1, 4)))))
    mx.eval(model(mx.ones((1, 4))))
    assert before.difference(fingerprint(model)) is None
    model.scale = 3.0
    assert "attribute 'scale'" in (before.difference(fingerprint(model)) or "")
