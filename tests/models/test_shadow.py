"""The shadow computes in float32 what the model computes in a narrower dtype, and the model stays as it is."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from harness import models
from harness.intercept import forward
from harness.metrics.tolerances import same_bits
from harness.models.fingerprint import fingerprint
from harness.models.loaded import LoadedModel
from harness.models.shadow import float32_shadow
from harness.models.spec import CircuitRow, DialRow, SyntheticRow
from harness.vocabulary import ModelCard

IDS = (1, 2, 3)


def synthetic(architecture: str, dtype: str, **more: object) -> LoadedModel:
    row = SyntheticRow(id="m", source="synthetic", architecture=architecture, vocab=512, dtype=dtype, **more)
    return models.load(row)


def quantized(dtype: str) -> LoadedModel:
    model = synthetic("llama", "float32", quantize="4bit")
    model.module.set_dtype(getattr(mx, dtype))
    return model


SOURCES = {
    "llama float16": lambda: synthetic("llama", "float16"),
    "llama bfloat16": lambda: synthetic("llama", "bfloat16"),
    "tied gpt2": lambda: synthetic("gpt2", "float16"),
    "gemma3": lambda: synthetic("gemma3_text", "bfloat16"),
    "quantized": lambda: quantized("float16"),
    "dial": lambda: models.load(
        DialRow(id="d", source="groundtruth", kind="dial", vocab=64, weights=(0.5, 0.25), dtype="float16")
    ),
    "circuit": lambda: models.load(
        CircuitRow(id="c", source="groundtruth", kind="circuit", architecture="llama", vocab=64, layers=3,
                   attention_layer=0, factors={1: 0.5}, dtype="float16")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_the_shadow_gives_the_logits_of_the_model_cast_in_place(name):
    model = SOURCES[name]()
    before, narrow = fingerprint(model.module), forward(model, IDS)
    arrays = [id(array) for _, array in tree_flatten(model.module.parameters())]
    shadow = float32_shadow(model)
    wide = forward(shadow, IDS)
    assert (wide.dtype, shadow.card.dtype) == (mx.float32, "float32")
    assert before.difference(fingerprint(model.module)) is None
    assert arrays == [id(array) for _, array in tree_flatten(model.module.parameters())]
    assert same_bits(narrow, forward(model, IDS))
    model.module.set_dtype(mx.float32)
    assert same_bits(wide, forward(model, IDS))


@pytest.mark.parametrize(
    "model", [lambda: synthetic("llama", "float32"), lambda: quantized("float32")], ids=["plain", "q4"]
)
def test_a_model_in_float32_has_no_shadow(model):
    assert float32_shadow(model()) is None


def test_what_is_not_cast_is_shared():
    model = quantized("float16")
    packed = {address(array) for _, array in tree_flatten(model.module.parameters()) if array.dtype == mx.uint32}
    shared = {address(array) for _, array in tree_flatten(float32_shadow(model).module.parameters())}
    assert packed
    assert packed <= shared


def address(array):
    """Where the values of an array are."""
    return np.array(array, copy=False).__array_interface__["data"][0]


def test_an_array_written_in_place_on_the_copy_stays_what_it_was_in_the_model():
    model = quantized("float16")
    packed = model.module.layers[0].mlp.up_proj.weight
    before = mx.array(packed)
    mx.eval(before)
    own = float32_shadow(model).module.layers[0].mlp.up_proj.weight
    own[0, 0] = 7
    own += 1
    assert not mx.array_equal(own, packed)
    assert mx.array_equal(before, packed)


class Private(nn.Module):
    """Keeps a float16 array that is no parameter, in a list inside a dict."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = {"tables": [mx.array([[1.0, 2049.0]], dtype=mx.float16)]}
        self.layers = [nn.Identity()]

    def __call__(self, inputs):
        return self._kept["tables"][0][inputs * 0] + 1


def test_arrays_beside_the_parameters_are_cast_too():
    """2,049 + 1 is even in float32, and in float16 the sum of 2,048 and 1."""
    model = LoadedModel(ModelCard("p", "test", "p", 1, 2, "float16"), Private())
    assert forward(model, (0,)).tolist() == [2.0, 2048.0]
    assert forward(float32_shadow(model), (0,)).tolist() == [2.0, 2049.0]
    assert forward(float32_shadow(model), (0,)).dtype == mx.float32


def test_nothing_is_known_or_proven_of_a_shadow():
    model = SOURCES["circuit"]()
    model.proven.add("mlp_out")
    shadow = float32_shadow(model)
    assert (shadow.known, shadow.proven, shadow.tokenizer) == (None, set(), model.tokenizer)
