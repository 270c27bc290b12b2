"""A GPU beside the CPU: rounding agrees, more of it is suspected, and a wrong kernel is proven."""

from __future__ import annotations

import mlx.core as mx
import pytest
from emulation.accelerator import emulated
from mlx.utils import tree_map
from mlx_lm.models import llama

from harness.diagnosis import comparisons
from harness.diagnosis.outcome.nouns import PROVEN, SUSPECTED
from harness.models.loaded import LoadedModel
from harness.vocabulary import ModelCard

IDS = (3, 7, 11, 200, 5, 9)


def deep(layers: int, dtype: str) -> LoadedModel:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    args = llama.ModelArgs(
        model_type="llama", num_hidden_layers=layers, rms_norm_eps=1e-5, vocab_size=512, tie_word_embeddings=False,
        **sizes,
    )  # fmt: skip
    mx.random.seed(1)
    module = llama.Model(args)
    module.update(tree_map(lambda each: each.astype(getattr(mx, dtype)), module.parameters()))
    return LoadedModel(ModelCard("deep", "synthetic", "llama", layers, 512, dtype), module)


def said(model: LoadedModel) -> list[tuple[str, str]]:
    asked = comparisons.run(model, IDS, compile=False, device="cpu", lengths=None, repeat=1)
    return [(each.code, each.confidence) for findings, _ in asked for each in findings]


@pytest.mark.parametrize("text", ["order", "rows:1"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layers", [4, 64])
def test_a_device_that_rounds_otherwise_agrees_at_any_depth(layers: int, dtype: str, text: str) -> None:
    with emulated(f"{text},metal"):
        assert said(deep(layers, dtype)) == []


def test_more_than_usual_rounding_is_suspected() -> None:
    with emulated("rows:16,metal"):
        assert said(deep(4, "float16")) == [("DIA603", SUSPECTED)]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_wrong_kernel_is_proven(dtype: str) -> None:
    with emulated("rows:2048,metal"):
        assert said(deep(4, dtype)) == [("DIA603", PROVEN)]
