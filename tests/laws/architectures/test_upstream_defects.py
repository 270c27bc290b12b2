"""Every architecture that is said to compute otherwise, compared without the harness: transformers writes a folder,
mlx-lm loads it, the logits differ, and with the one accused line of mlx-lm changed they do not."""

from __future__ import annotations

import importlib
import importlib.util
import json
from dataclasses import dataclass
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from harness.laws.architectures.reference import KNOWN

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the extra `reference` (torch)"),
    pytest.mark.slow,
]
IDS = [3, 7, 11, 200, 5, 9]
SIZES = {
    "vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPS = {"num_key_value_heads": 2, "head_dim": 16}
ERNIE = {"moe_num_experts": 4, "moe_layer_start_index": 1, "moe_layer_end_index": 3, "moe_layer_interval": 1}


def other_nn(**changed):
    """mlx.nn with some functions changed."""
    return lambda old: SimpleNamespace(**{**vars(nn), **changed})


def tanh(x):
    return 0.5 * x * (1 + mx.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def windowed(old):
    class Windowed(old):
        def __call__(self, inputs, cache=None):
            h, at = self.embed_tokens(inputs) * self.args.hidden_size**0.5, mx.arange(inputs.shape[1])
            full = at[:, None] >= at[None]
            near = full & (at[:, None] < at[None] + 4)
            for number, layer in enumerate(self.layers):
                h = layer(h, full if number % 2 else near, None)
            return self.norm(h)

    return Windowed


def chosen(scores, weights, k):
    ids = mx.argpartition(-scores, kth=k - 1, axis=-1)[..., :k]
    return ids, mx.take_along_axis(weights, ids, axis=-1)


def softmax_over_all(old):
    class SoftmaxOverAll(old):
        def __call__(self, x):
            weights = mx.softmax(self.router(x), axis=-1, precise=True)
            ids, weights = chosen(weights, weights, self.num_experts_per_tok)
            return (self.switch_mlp(x, ids) * weights[..., None]).sum(axis=-2)

    return SoftmaxOverAll


def biased(old):
    class Biased(old):
        def __init__(self, args):
            super().__init__(args)
            self.e_score_correction_bias = mx.zeros((args.moe_num_experts,))

        def __call__(self, x):
            weights = self.gate_act(self.gate(x).astype(mx.float32))
            ids, weights = chosen(weights + self.e_score_correction_bias, weights, self.k)
            weights = weights / weights.sum(axis=-1, keepdims=True)
            return (self.switch_mlp(x, ids) * weights[..., None]).sum(axis=-2) + self.shared_experts(x)

    return Biased


def keeping_the_bias(old):
    class KeepingTheBias(old):
        def sanitize(self, weights):
            kept = {name: value for name, value in weights.items() if "e_score_correction_bias" in name}
            renamed = {name.replace(".gate.moe_statics", ""): value.reshape(-1) for name, value in kept.items()}
            return super().sanitize(weights) | {
                name.replace(".moe_statics", ""): value for name, value in renamed.items()
            }

    return KeepingTheBias


def bounded_from_below(old):
    @dataclass
    class BoundedFromBelow(old):
        def __post_init__(self):
            super().__post_init__()
            self.time_step_limit = (self.time_step_min, float("inf"))

    return BoundedFromBelow


THETA = {"rope_theta": 10000.0}
CASES = {
    "gemma": (GROUPS, THETA, {"nn": other_nn(gelu=tanh)}),
    "starcoder2": ({"num_key_value_heads": 2}, THETA, {"nn": other_nn(gelu=tanh)}),
    "gpt_bigcode": (
        {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_inner": 128, "n_positions": 64, "multi_query": True}, {},
        {"nn": other_nn(gelu=tanh)},
    ),
    "gpt_neox": (
        {"intermediate_size": 256}, {"rotary_emb_base": 10000, "rotary_pct": 0.25},
        {"nn": other_nn(gelu_approx=nn.gelu)},
    ),
    "glm": (
        GROUPS, {**THETA, "partial_rotary_factor": 0.5},
        {"nn": other_nn(RoPE=lambda dims, **more: nn.RoPE(dims // 2, **more))},
    ),
    "gemma2": ({**GROUPS, "sliding_window": 4}, THETA, {"GemmaModel": windowed}),
    "jamba": (
        {"num_key_value_heads": 2, "num_experts": 4, "mamba_dt_rank": 8, "use_mamba_kernels": False,
         "attn_layer_period": 2, "attn_layer_offset": 1},
        {}, {"JambaSparseMoeBlock": softmax_over_all},
    ),
    "ernie4_5_moe": (
        {**GROUPS, **ERNIE, "moe_k": 2, "moe_intermediate_size": 64, "moe_num_shared_experts": 1},
        {**ERNIE, "rope_theta": 500000.0}, {"Ernie4_5_MoeMLP": biased, "Model": keeping_the_bias},
    ),
    "nemotron_h": (
        {**GROUPS, "layers_block_type": ["mamba", "attention", "mamba", "mlp"], "mamba_num_heads": 8,
         "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 16, "use_mamba_kernels": False, "chunk_size": 16,
         "time_step_min": 0.3},
        {}, {"ModelArgs": bounded_from_below},
    ),
}  # fmt: skip
"""Architecture -> its configuration, keys that transformers 5 leaves out, and the change that cures mlx-lm."""


def test_every_accusation_is_compared():
    assert set(CASES) == set(KNOWN)


@pytest.mark.parametrize("architecture", CASES)
def test_the_logits_differ_and_with_the_accused_line_changed_they_do_not(architecture, tmp_path, monkeypatch):
    import torch
    import transformers
    from mlx_lm.utils import load_model

    config, keys, cure = CASES[architecture]
    torch.manual_seed(0)
    stated = transformers.AutoConfig.for_model(architecture, **{**SIZES, **config})
    net = transformers.AutoModelForCausalLM.from_config(stated, dtype=torch.float32)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.12 if parameter.ndim > 1 else 0.2))
    net.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))
    net = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
    )
    with torch.no_grad():
        wanted = net(torch.tensor([IDS]), use_cache=False).logits[0].numpy()

    def apart():
        got = np.array(load_model(tmp_path)[0](mx.array([IDS]))[0])
        return np.abs(got - wanted).max() / np.abs(wanted).max()

    assert apart() > 5e-5
    module = importlib.import_module(f"mlx_lm.models.{architecture}")
    for name, changed in cure.items():
        monkeypatch.setattr(module, name, changed(getattr(module, name)))
    assert apart() < 1e-5
