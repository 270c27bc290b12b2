"""The torch tools on the same weights: forward hooks on the transformers model, and TransformerLens' bridge to it.

Both make L+2 forward passes with the logits of every position, which is what their users' sweeps do. One thread, as
everybody. MLX's wheel for Linux brings a slow BLAS: a comparison in absolute time is fair only under a preloaded one.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from contenders import Absent
from mlx.utils import tree_flatten

from harness.models import LoadedModel
from harness.vocabulary import Question

KEYS = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "vocab_size": "vocab_size",
    "rms_norm_eps": "rms_norm_eps",
    "tie_word_embeddings": "tie_word_embeddings",
    "max_position_embeddings": "max_position_embeddings",
}
CLASSES = {"qwen3": ("Qwen3Config", "Qwen3ForCausalLM"), "llama": ("LlamaConfig", "LlamaForCausalLM")}


def hooks(loaded: LoadedModel, asked: Question) -> Callable[[], Sequence[Any]]:
    """Return a sweep by forward hooks."""
    model = _model(loaded)
    clean, corrupted = _ids(asked)
    mlps = [block.mlp for block in model.model.layers]

    def run() -> Sequence[Any]:
        kept: dict[int, torch.Tensor] = {}
        handles = [mlp.register_forward_hook(functools.partial(_keep, kept, i)) for i, mlp in enumerate(mlps)]
        with torch.inference_mode():
            model(clean, use_cache=False)
            for handle in handles:
                handle.remove()
            model(corrupted, use_cache=False)
            return [_patched(model, mlp, corrupted, kept[i]) for i, mlp in enumerate(mlps)]

    return run


def transformer_lens(loaded: LoadedModel, asked: Question) -> Callable[[], Sequence[Any]]:
    """Return a sweep by TransformerLens: one cached run, one run with hooks for each layer."""
    try:
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError as error:
        raise Absent(f"not installed ({error})") from error
    hf = _model(loaded)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        hf.config.architectures = [type(hf).__name__]
        hf.config.save_pretrained(folder)
        _tokenizer().save_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(folder, hf_model=hf, device="cpu", dtype=torch.float32)
    clean, corrupted = _ids(asked)
    names = [f"blocks.{i}.hook_mlp_out" for i in range(len(hf.model.layers))]

    def run() -> Sequence[Any]:
        with torch.inference_mode():
            _, cache = bridge.run_with_cache(clean, names_filter=lambda name: name in names)
            bridge(corrupted)
            return [
                bridge.run_with_hooks(corrupted, fwd_hooks=[(name, functools.partial(_given, cache[name]))])[0, -1]
                for name in names
            ]

    return run


def _tokenizer() -> Any:
    """Return a tokenizer that the bridge insists on and nobody asks: everybody is given ids."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({"<unknown>": 0}, unk_token="<unknown>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), unk_token="<unknown>")


def _given(value: torch.Tensor, activation: torch.Tensor, hook: Any) -> torch.Tensor:
    return value


def _keep(kept: dict[int, torch.Tensor], layer: int, module: Any, args: Any, out: torch.Tensor) -> None:
    kept[layer] = out


def _patched(model: Any, mlp: Any, ids: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    handle = mlp.register_forward_hook(lambda module, args, out: value)
    try:
        return model(ids, use_cache=False).logits[0, -1]  # type: ignore[no-any-return]
    finally:
        handle.remove()


def _ids(asked: Question) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([asked.clean.ids]), torch.tensor([asked.corrupted.ids])


def _model(loaded: LoadedModel) -> Any:
    """Return transformers' model with the weights of an mlx-lm one."""
    if loaded.card.architecture not in CLASSES or importlib.util.find_spec("transformers") is None:
        raise Absent(f"no torch model is written here for {loaded.card.architecture}")
    import transformers

    torch.set_num_threads(1)
    args = loaded.module.args
    config, model_class = (getattr(transformers, name) for name in CLASSES[loaded.card.architecture])
    known = {theirs: getattr(args, ours) for ours, theirs in KEYS.items() if getattr(args, ours, None) is not None}
    rope = {"rope_theta": args.rope_theta, "rope_type": "default"}
    model = model_class(config(**known, rope_parameters=rope, attn_implementation="sdpa")).eval()
    weights = {name: torch.from_numpy(np.array(value)) for name, value in _weights(loaded)}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or [name for name in missing if name != "lm_head.weight"]:
        raise Absent(f"the weights do not fit: {missing[:2]} missing, {unexpected[:2]} unexpected")
    model.tie_weights()
    return model


def _weights(loaded: LoadedModel) -> Sequence[tuple[str, mx.array]]:
    args = loaded.module.args
    traditional = getattr(args, "rope_traditional", False)

    def arranged(name: str, value: mx.array) -> mx.array:
        if not traditional or not name.endswith(("q_proj.weight", "k_proj.weight")):
            return value
        # Traditional rope rotates neighbours, transformers' rotates halves: the same rows in another order.
        heads = args.num_attention_heads if "q_proj" in name else args.num_key_value_heads
        return value.reshape(heads, -1, 2, value.shape[-1]).swapaxes(1, 2).reshape(value.shape)

    return [(name, arranged(name, value)) for name, value in tree_flatten(loaded.module.parameters())]
