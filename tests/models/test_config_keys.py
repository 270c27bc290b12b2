"""Keys of config.json that mlx-lm drops are named where dropping them changes the arithmetic, and nowhere else."""

from __future__ import annotations

import json

import pytest

from harness.models.config_keys import ignored_keys
from harness.models.sources.miniatures import small_config
from harness.vocabulary.errors import UsageError

TANH = "gelu_pytorch_tanh"
LOOK_ALIKES = {
    "torch_dtype": "bfloat16", "dtype": "float16", "use_cache": False, "_name_or_path": "somebody/model",
    "transformers_version": "4.0", "temperature": 0.7, "do_sample": True, "repetition_penalty": 1.3, "max_length": 77,
    "pad_token_id": 5, "attention_dropout": 0.1, "initializer_range": 0.9, "pretraining_tp": 2, "id2label": {"0": "a"},
    "chunk_size_feed_forward": 4, "router_aux_loss_coef": 0.5, "reorder_and_upcast_attn": True, "architectures": ["X"],
    "cache_implementation": "hybrid", "attn_implementation": "sdpa", "quantization_config": None,
}  # fmt: skip
"""Keys without effect on the logits."""


def keys(folder, architecture, stated, without=()):
    config = {**small_config(architecture), **stated}
    kept = {key: value for key, value in config.items() if key not in without}
    (folder / "config.json").write_text(json.dumps(kept))
    return {found.key: found for found in ignored_keys(folder)}


@pytest.mark.parametrize(
    ("architecture", "stated", "without", "key", "instead"),
    [
        ("qwen2", {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}, ["rope_theta"],
         "rope_parameters.rope_theta", "1e+06"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "rope_type": "llama3", "factor": 8.0}}, [],
         "rope_parameters.rope_type", "no scaling"),
        ("olmo3", {"rope_parameters": {"a": {"rope_theta": 1e4}, "sliding_attention": {"rope_theta": 9.0}}}, [],
         "rope_parameters.sliding_attention.rope_theta", "10000"),
        ("glm", {"partial_rotary_factor": 0.5}, [], "partial_rotary_factor", "the whole head rotated"),
        ("glm", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, [], "partial_rotary_factor",
         "the whole head rotated"),
        ("phi", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}}, [], "partial_rotary_factor",
         "0.5"),
        ("gemma", {"hidden_act": TANH}, [], "hidden_act", "gelu"),
        ("gemma", {"hidden_activation": TANH, "hidden_act": "gelu"}, [], "hidden_activation", "gelu"),
        ("starcoder2", {"hidden_act": TANH}, [], "hidden_act", "gelu"),
        ("llama", {"hidden_act": "gelu"}, [], "hidden_act", "silu"),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, [], "final_logit_softcapping", "none"),
        ("mixtral", {"hidden_act": "gelu"}, [], "hidden_act", "silu"),
        ("llama", {"hidden_act": "quick_gelu"}, [], "hidden_act", "silu"),
        ("gpt2", {"scale_attn_weights": False}, [], "scale_attn_weights", "none"),
        # Its class declares the key, and nothing reads it.
        ("qwen3_moe", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, [], "rope_scaling", "none"),
        ("qwen2", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, [], None, None),
        ("glm", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, [], "rope_scaling", "none"),
        ("gpt_neox", {"rotary_pct": 0.5, "hidden_act": "gelu"}, [], "hidden_act", "gelu_pytorch_tanh"),
        ("minicpm", {"residual_multiplier": 0.22}, [], "residual_multiplier", "none"),  # not in transformers
    ],
)  # fmt: skip
def test_a_key_that_changes_the_arithmetic_is_named(architecture, stated, without, key, instead, tmp_path):
    found = keys(tmp_path, architecture, stated, without)
    assert list(found) == ([key] if key else [])
    if key:
        assert found[key].instead == instead
        assert str(found[key]) == f"{key} is {found[key].stated!r}, and mlx-lm computes with {instead}"


@pytest.mark.parametrize(
    ("architecture", "stated"),
    [
        ("qwen2", {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}),
        ("qwen3", {"rope_parameters": {"rope_theta": 1e4}, "hidden_act": "silu", "attention_dropout": 0.1}),
        ("glm", {"partial_rotary_factor": 1.0, "hidden_act": "silu"}),
        ("phi", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
        ("gemma", {"hidden_act": "gelu", "initializer_range": 0.02}),
        ("gemma3_text", {"rope_parameters": {"sliding_attention": {"rope_theta": 1e4}}}),  # its rope_local_base_freq
        ("gemma2", {"hidden_act": TANH, "hidden_activation": TANH}),
        ("llama", {"final_logit_softcapping": None, "residual_multiplier": 1.0, "rope_scaling": None}),
        ("llama", {"rope_scaling": {"rope_type": "default"}, "transformers_version": "5.0"}),
        ("recurrent_gemma", {"partial_rotary_factor": 0.5}),  # its code rotates half of a head
        ("nanochat", {"final_logit_softcapping": 15.0}),  # its code caps at 15
        ("deepseek_v3", {"rope_scaling": None, "partial_rotary_factor": 0.5}),  # qk_rope_head_dim says so
        ("gpt2", {"activation_function": "gelu_new"}),
        ("llama", {"hidden_act": "somebody's"}),  # nobody knows how that would be spelt
        ("llama", LOOK_ALIKES),
        ("glm", LOOK_ALIKES),
        ("gpt2", LOOK_ALIKES | {"rope_parameters": {"rope_theta": 9.0, "rope_type": "linear", "factor": 4.0}}),
        # Keys of other architectures, which transformers' class does not read either.
        ("llama", {"final_logit_softcapping": 30.0, "residual_multiplier": 0.22, "logit_scale": 0.1, "clip_qkv": 8.0}),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}),  # transformers keeps it and never passes it on
        ("glm", {"rotary_pct": 0.5}),
        # Begins beyond `max_position_embeddings`.
        ("glm", {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}, "max_position_embeddings": 64}),
    ],
)  # fmt: skip
def test_a_key_that_says_the_same_or_is_read_is_left_alone(architecture, stated, tmp_path):
    assert keys(tmp_path, architecture, stated) == {}


@pytest.mark.parametrize(
    ("architecture", "stated", "tokens", "named"),
    [
        ("gemma2", {"sliding_window": 4}, 5, True),
        ("gemma2", {"sliding_window": 4}, 4, False),
        ("gemma2", {"sliding_window": None}, 5, False),
        ("qwen2", {"sliding_window": 4, "use_sliding_window": False}, 5, False),
        ("qwen2", {"sliding_window": 4, "use_sliding_window": True}, 5, True),
        ("qwen2", {"sliding_window": 4, "layer_types": ["full_attention"] * 4}, 5, False),
        ("gemma3_text", {"sliding_window": 4}, 5, False),
        ("starcoder2", {"sliding_window": 4, "use_sliding_window": False}, 5, True),  # it has no such switch
        ("olmoe", {"sliding_window": 4}, 5, False),
    ],
)
def test_a_window_is_named_for_prompts_that_are_longer(architecture, stated, tokens, named, tmp_path):
    keys(tmp_path, architecture, stated)
    assert [found.key for found in ignored_keys(tmp_path, tokens)] == (["sliding_window"] if named else [])


def test_no_other_miniature_is_accused(tmp_path):
    from harness.models.sources.miniatures import architectures

    accused = {name: list(found) for name in architectures() if name != "olmo" and (found := keys(tmp_path, name, {}))}
    # Their class overwrites the key with 0.25, the default of `rope_parameters`; the miniatures say 0.5.
    assert accused == {name: ["partial_rotary_factor"] for name in ("qwen3_5", "qwen3_5_moe")}


def test_a_wrapper_is_judged_by_its_language_model(tmp_path):
    text = {**small_config("gemma3")["text_config"], "final_logit_softcapping": 30.0}
    assert list(keys(tmp_path, "gemma3", {"text_config": text})) == ["final_logit_softcapping"]
    assert keys(tmp_path, "gemma3", {"text_config": {**text, "final_logit_softcapping": None}}) == {}


@pytest.mark.parametrize("config", [{"model_type": "nobody's"}, {"model_type": "llama"}, {}])
def test_what_mlx_lm_cannot_build_is_not_judged(config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert ignored_keys(tmp_path) == []


def test_a_config_that_is_not_json_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        ignored_keys(tmp_path)
