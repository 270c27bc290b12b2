"""The small size of every key that architectures share: a key means the same in every configuration that has it.

Four layers let kinds of layers alternate, and four heads over two of keys and values show who groups them. Windows and
chunks are shorter than the prompts of the matrix, so that a mask is not a word. Every scale differs from 1, so that a
forgotten one shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HIDDEN = 64
LAYERS = 4
HEADS = 4
KV_HEADS = 2
HEAD_DIM = HIDDEN // HEADS
VOCAB = 256
EXPERTS = 4
WINDOW = 4

_NAMES: tuple[tuple[Any, str], ...] = (
    (HIDDEN, "hidden_size hidden_dim d_model n_embd model_dim"),
    (LAYERS, "num_hidden_layers num_layers n_layers n_layer num_transformer_layers"),
    (HEADS, "num_attention_heads num_heads n_heads n_head swa_num_attention_heads num_attention_groups"),
    (KV_HEADS, "num_key_value_heads num_kv_heads n_kv_heads swa_num_key_value_heads n_shared_head"),
    (HEAD_DIM, "head_dim v_head_dim qk_nope_head_dim swa_head_dim swa_v_head_dim kv_channels hidden_size_per_head"),
    (HEAD_DIM, "global_head_dim query_pre_attn_scalar index_head_dim mamba_d_head mamba_head_dim"),
    (HEAD_DIM, "linear_key_head_dim linear_value_head_dim"),
    (HEAD_DIM // 2, "qk_rope_head_dim rotary_dim state_size ssm_state_size mamba_d_state time_step_rank mamba_dt_rank"),
    (2 * HIDDEN, "intermediate_size n_inner ffn_hidden_size intermediate_size_mlp ff_intermediate_size"),
    (2 * HIDDEN, "mlp_hidden_size dense_intermediate_size mamba_d_ssm"),
    (HIDDEN // 2, "moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size"),
    (HIDDEN // 2, "shared_intermediate_size expert_ffn_hidden_size share_expert_dim moe_hidden_size"),
    (HIDDEN // 2, "kv_lora_rank q_lora_rank o_lora_rank moe_latent_size"),
    (HEADS, "linear_num_value_heads index_n_heads"),
    (2 * HIDDEN // HEAD_DIM, "mamba_n_heads mamba_num_heads"),
    (KV_HEADS, "linear_num_key_heads num_global_key_value_heads"),
    (VOCAB, "vocab_size num_vocab embedding_size vocab_size_per_layer_input"),
    (EXPERTS, "num_experts num_local_experts n_routed_experts moe_num_experts"),
    (2, "num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k top_k_experts"),
    (1, "num_shared_experts n_shared_experts num_shared_expert moe_num_shared_experts zero_expert_num"),
    (1, "n_group topk_group n_groups num_expert_group decoder_sparse_step moe_layer_freq mamba_n_groups o_groups"),
    (1, "first_k_dense_replace num_dense_layers moe_layer_start_index interleave_moe_layer_step"),
    (2, "full_attention_interval layer_group_size sliding_window_pattern group_norm_size mamba_expand"),
    (2, "no_rope_layer_interval dense_attention_every_n_layers linear_conv_kernel_dim"),
    (3, "conv_kernel mamba_d_conv conv_L_cache conv1d_width short_conv_kernel_size conv_window"),
    (WINDOW, "sliding_window sliding_window_size window_size attention_window_size attention_chunk_size"),
    (WINDOW, "loop_window_size mamba_chunk_size index_topk"),
    (2048, "max_position_embeddings original_max_position_embeddings n_positions n_ctx model_max_length block_size"),
    (1e-5, "rms_norm_eps layer_norm_eps layer_norm_epsilon norm_eps norm_epsilon layernorm_epsilon post_norm_eps"),
    (1e4, "rope_theta swa_rope_theta rope_local_base_freq rope_local_theta rotary_emb_base"),
    (0.5, "partial_rotary_factor rotary_pct residual_multiplier embedding_multiplier routed_scaling_factor"),
    (0.25, "attention_multiplier"),
    (2.0, "logits_scaling scale_emb scale_depth"),
    (HIDDEN // 2, "dim_model_base"),
    (50.0, "logits_soft_cap final_logit_softcapping"),
    (False, "attention_bias mlp_bias use_bias bias tie_word_embeddings use_conv_bias mamba_conv_bias use_qkv_bias"),
    (False, "mamba_proj_bias conv_bias use_cla use_mixed_mlp_moe post_norm"),
    (True, "norm_topk_prob use_qk_norm qk_norm use_expert_bias"),
    ("sigmoid", "scoring_func"),
    ("noaux_tc", "topk_method"),
)

SIZES: Mapping[str, Any] = {name: value for value, names in _NAMES for name in names.split()}
