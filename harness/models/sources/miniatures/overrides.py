"""What an architecture's configuration needs beyond the rules, with the reason beside each.

Kinds of layers alternate, so that a small model has every kind at an early and at a late layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.models.sources.miniatures.rules import EXPERTS, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, WINDOW

TEXT: Mapping[str, tuple[str, str]] = {
    # A wrapper for images keeps its language model's configuration apart: in which file, under which class.
    "gemma3": ("gemma3_text", "ModelArgs"),
    "gemma3n": ("gemma3n", "TextConfig"),
    "gemma4": ("gemma4_text", "ModelArgs"),
    "kimi_k25": ("deepseek_v3", "ModelArgs"),
    "kimi_k3": ("kimi_k3", "TextArgs"),
    "kimi_vl": ("kimi_vl", "TextArgs"),
    "lfm2-vl": ("lfm2", "ModelArgs"),
    "llama4": ("llama4", "TextArgs"),
    "minimax_m3_vl": ("minimax_m3_vl", "TextArgs"),
    "mistral3": ("ministral3", "ModelArgs"),
    "muse_spark": ("muse_spark", "TextArgs"),
    "pixtral": ("llama", "ModelArgs"),
    "qwen2_vl": ("qwen2", "ModelArgs"),
    "qwen3_5": ("qwen3_5", "TextModelArgs"),
    "qwen3_5_moe": ("qwen3_5", "TextModelArgs"),
    "qwen3_vl": ("qwen3", "ModelArgs"),
    "qwen3_vl_moe": ("qwen3_moe", "ModelArgs"),
}


def _alternate(first: Any, second: Any) -> list[Any]:
    return [first, second] * (LAYERS // 2)


_SLIDING = _alternate("sliding_attention", "full_attention")
_ROPE_BY_KIND = {kind: {"rope_theta": 1e4} for kind in ("sliding_attention", "full_attention")}
_LINEAR = {"num_heads": HEADS, "head_dim": HEAD_DIM, "short_conv_kernel_size": 3}
_KIMI = {"linear_attn_config": _LINEAR | {"kda_layers": [1, 3], "full_attn_layers": [2, 4]}}
_YARN = {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1024, "mscale_all_dim": 1.0}
_LLAMA_4 = {"llama_4_scaling_beta": 0.1, "original_max_position_embeddings": WINDOW, "rope_theta": 1e4}
_GEMMA_4 = {
    # Half of the layers use the keys and values of an earlier one, as in the released models.
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": HEAD_DIM,
    # The model's own split of kinds, which needs one of each before the sharing begins.
    "layer_types": _SLIDING,
}

OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "Klear": {"mlp_only_layers": [0]},  # a list of layers
    "afm7": {"num_kv_reuse_layers": 2},  # as in the released model, the later layers use earlier keys and values
    "afmoe": {"layer_types": _SLIDING},  # required
    "baichuan_m1": {"sliding_window_layers": [0, 2], "conv_window": 2},  # a list of layers; the only window it knows
    "dbrx": {  # dictionaries without a class
        "attn_config": {"kv_n_heads": KV_HEADS, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": HIDDEN, "moe_num_experts": EXPERTS, "moe_top_k": 2},
    },
    "deepseek_v2": {"rope_scaling": _YARN},  # read without asking whether it is there
    "exaone4": {"rope_scaling": None, "sliding_window_pattern": "LG"},  # the pattern is text: local, global
    "exaone_moe": {"layer_types": _SLIDING, "is_moe_layer": _alternate(False, True)},  # lists of layers
    "gear": {"layer_types": _alternate("conv_mixer", "full_attention")},  # required
    "gemma3n": {
        "text_config": {
            "num_kv_shared_layers": 2,  # the later half shares, as released
            "layer_types": _SLIDING,
            "activation_sparsity_pattern": _alternate(0.95, 0.0),
            "hidden_size_per_layer_input": HEAD_DIM,
            "altup_num_inputs": 4,
            "altup_coef_clip": 120.0,
            "altup_correct_scale": True,
            "altup_active_idx": 0,
            "laurel_rank": HEAD_DIM,
        }
    },
    "gemma4_text": _GEMMA_4,
    "gemma4": {"text_config": _GEMMA_4},
    "glm4_moe": {"rope_scaling": None},  # required
    "glm_moe_dsa": {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}},  # where its theta is
    "granitemoehybrid": {"layer_types": _alternate("mamba", "attention")},  # required
    "hunyuan": {  # pairs of layers share keys and values, as released; the scaling is read without asking
        "cla_share_factor": 2,
        "use_cla": True,
        "rope_scaling": {"type": "dynamic", "factor": 1.0, "alpha": 2.0},
    },
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1, "expert_layer_period": 2},
    "kimi_k3": {
        "text_config": _KIMI
        | {"activation_situ_beta": 1.0, "activation_situ_linear_beta": 1.0, "attn_res_block_size": 2}
    },  # no defaults that run
    "kimi_linear": _KIMI,  # layers are counted from 1
    "lfm2": {
        "block_dim": HIDDEN,
        "block_multiple_of": HIDDEN,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "full_attn_idxs": [1, 3],
    },
    "lfm2_moe": {"full_attn_idxs": [1, 3]},  # required, one way or another
    "llama4": {"text_config": {"rope_scaling": None, "num_experts_per_tok": 1}},  # the only number it runs
    "llama4_text": {"no_rope_layers": _alternate(1, 0)},  # a list of layers
    "longcat_flash": {
        "attention_method": "MLA",
        "zero_expert_type": "identity",
        "mla_scale_q_lora": True,
        "mla_scale_kv_lora": True,
    },
    "longcat_flash_ngram": {"mla_scale_q_lora": True, "mla_scale_kv_lora": True},  # required
    "mamba2": {
        # Heads times their size must be the intermediate size.
        "time_step_limit": [0.0, 100.0],
        "num_heads": 2 * HIDDEN // HEAD_DIM,
    },
    "mellum": {
        "layer_types": _SLIDING,
        "rope_parameters": _ROPE_BY_KIND,
    },
    "mimo_v2_flash": {
        "hybrid_layer_pattern": _alternate(1, 0),
        "moe_layer_freq": _alternate(0, 1),
        "add_swa_attention_sink_bias": True,
        "add_full_attention_sink_bias": False,
    },
    "minicpm3": {"rope_scaling": {"original_max_position_embeddings": 1024}},  # read without asking
    "minimax_m3_vl": {"text_config": {"moe_layer_freq": _alternate(0, 1)}},  # a list of layers
    "ministral3": {"rope_parameters": _LLAMA_4, "layer_types": _SLIDING},  # read without asking
    "mistral3": {"text_config": {"rope_parameters": _LLAMA_4, "layer_types": _SLIDING}},
    "mistral4": {"rope_parameters": _LLAMA_4},  # read without asking
    "muse_spark": {
        "text_config": {
            "rope_parameters": {"rope_theta": 1e4},
            "layer_rope_theta": [1e4] * LAYERS,
            "layer_types": _SLIDING,
            "output_multiplier": 1.0,
            "num_shared_experts": 0,
        }
    },
    "nanbeige": {"num_loops": 2},  # its blocks run twice, which is what it is for
    "nemotron": {"hidden_act": "relu2"},  # required, and not read
    "nemotron-nas": {
        # The search drops a module from some layers: layer 1 has no attention, layer 2 no MLP.
        "block_configs": [
            {
                "attention": {"no_op": True} if layer == 1 else {"n_heads_in_group": 2},
                "ffn": {"no_op": True} if layer == 2 else {"ffn_mult": 2.0},
            }
            for layer in range(LAYERS)
        ]
    },
    "nemotron_h": {"hybrid_override_pattern": ["M", "*", "-", "E"]},  # one block of each kind
    "olmo_hybrid": {"linear_allow_neg_eigval": True, "layer_types": _alternate("linear_attention", "full_attention")},
    "openelm": {
        "ffn_dim_divisor": HEAD_DIM,
        "num_query_heads": [HEADS] * LAYERS,
        "num_kv_heads": [KV_HEADS] * LAYERS,
        "ffn_multipliers": [2.0] * LAYERS,
    },
    "phi3small": {"gegelu_limit": 20.0, "vocab_size": 100_352},  # suppresses fixed ids up to the last one of this size
    "qwen3_moe": {"mlp_only_layers": []},  # a list of layers
    "qwen3_next": {"mlp_only_layers": []},
    "qwen3_vl_moe": {"text_config": {"mlp_only_layers": []}},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},  # the period of kinds
    "rwkv7": dict.fromkeys(("a_low_rank_dim", "v_low_rank_dim", "gate_low_rank_dim", "decay_low_rank_dim"), HEAD_DIM),
    "spark2_5": {
        "layer_types": _SLIDING,
        "rope_parameters": _ROPE_BY_KIND,
    },
}
