"""Values that leave the range of float16 in a forward pass, or fall below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

from harness.diagnosis.zoo.fault import RANGE, PlantedFault, on
from harness.diagnosis.zoo.models import BLOCK, CLEAN, DIMENSION, TOKEN, alone, both, build, names_in
from harness.diagnosis.zoo.surgery import answer_with, at, behave, change_output, input_of, put

Arguments = Mapping[str, Any]
_HERE = {"run": "clean", "layer": BLOCK, "token": TOKEN}


@contextmanager
def _tiny_epsilon(architecture: str) -> Iterator[Arguments]:
    """A norm written by hand adds 1e-8 in float16, which is 0, to the square of an all-zero activation."""
    model, names = build(architecture), names_in(architecture)
    row = CLEAN[TOKEN]
    table, norm = at(model.module, names["embedding"]).weight, at(model.module, names["first_norm"])
    # gpt2 adds the position's row.
    table[row] = -at(model.module, "model.wpe").weight[TOKEN] if architecture == "gpt2" else 0.0
    norm.eps = 1e-8

    def by_hand(own: Any, x: mx.array) -> mx.array:
        x = x - mx.mean(x, axis=-1, keepdims=True) if architecture == "gpt2" else x
        return x * mx.rsqrt(mx.mean(x * x, axis=-1, keepdims=True) + mx.array(norm.eps, x.dtype))

    behave(norm, by_hand)
    yield alone(model)


@contextmanager
def _residual_stream(architecture: str) -> Iterator[Arguments]:
    """A token with 6e4 in one dimension, as massive activations are, and a block that adds 1e4 to it."""
    model, names = build(architecture), names_in(architecture)
    root, scale = model.module, 8.0 if architecture == "gemma2" else 1.0
    at(root, names["embedding"]).weight[CLEAN[TOKEN], DIMENSION] = 6e4 / scale
    if architecture == "gemma2":
        # A norm comes last, and its weight is what does it, as in Gemma 3.
        x = input_of(root, names["added"], CLEAN)[TOKEN]
        normed = x[DIMENSION] / (x @ x / len(x)) ** 0.5
        at(root, names["added"]).weight[DIMENSION] = 1e4 / normed - 1
    else:
        answer_with(root, names["added"], DIMENSION, 1e4, CLEAN, TOKEN)
    yield both(model)


@contextmanager
def _mlp_product(architecture: str) -> Iterator[Arguments]:
    """One neuron whose gate and whose up projection are 300 at one token: 300 x 300 is not a float16."""
    model, names = build(architecture), names_in(architecture)
    for part in ("gate", "up"):
        answer_with(model.module, names[part], DIMENSION, 300.0, CLEAN, TOKEN)
    yield both(model)


@contextmanager
def _two_infs_embedded(architecture: str) -> Iterator[Arguments]:
    model = build(architecture)
    change_output(at(model.module, names_in(architecture)["embedding"]), put(float("inf"), (1, DIMENSION), (3, 17)))
    yield alone(model)


_FINE = dict.fromkeys(RANGE, "1e-8 is a number in it")

FAULTS = (
    PlantedFault(
        "F06", "epsilon below the smallest float16", "pylate#239; pytorch#192017", "H",
        "the norm, the epsilon, and that it is 0 in float16",
        on("llama qwen3 gemma2 gpt2", _tiny_epsilon, numbers=(1e-8,), words=("float16",), without=_FINE,
           place={"run": "clean", "module": "{first_norm}", "layer": 0, "token": TOKEN, "dimension": 0}),
    ),
    PlantedFault(
        "F08", "residual stream beyond 65,504", "Gemma 3: mlx-lm#28, #102", "H",
        "the first block, token and dimension, the limit, and that bfloat16 is finite",
        on("llama qwen3 gemma2", _residual_stream, numbers=(65504,), words=("bfloat16",), without=RANGE,
           place={**_HERE, "module": "{block}", "dimension": DIMENSION}),
    ),
    PlantedFault(
        "F09", "MLP product overflow", "DeepSeek-V3: mlx-examples#1229; llama.cpp#25442", "H",
        "the layer's MLP, and which product",
        on("llama qwen3 gemma2", _mlp_product, words=("product", "down_proj"), without=RANGE,
           place={**_HERE, "module": "{mlp}", "dimension": DIMENSION}),
    ),
    PlantedFault(
        "F10", "a few inf in the embeddings become all-NaN logits", "mlx-vlm#1163", "H",
        "2 elements at the embedding, not the norm after it",
        on("llama qwen3 gemma2 gpt2", _two_infs_embedded, numbers=(2, 1, DIMENSION, 3, 17),
           place={"run": "clean", "module": "{embedding}", "layer": None, "token": 1, "dimension": DIMENSION}),
    ),
)  # fmt: skip
