"""An mlx-lm architecture from a tiny configuration with seeded weights: the real code, at any vocabulary, in a second.

The values themselves are in `weights.py`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from harness.models.loaded import LoadedModel, Tokenizer
from harness.models.sources.folder import card_of, cast, one_line
from harness.models.sources.installed import architectures, code_of
from harness.models.sources.miniatures.overrides import OVERRIDES
from harness.models.sources.miniatures.rules import SIZES
from harness.models.sources.qwen_tokenizer import QWEN, RANKS, QwenTokenizer
from harness.models.sources.weights import fill
from harness.models.sources.wheel import locate
from harness.models.sources.words import WordTokenizer
from harness.models.spec import SyntheticRow
from harness.vocabulary.errors import HarnessError, UnknownName, UsageError, suggest

GROUP = 32
BITS = 4
HIDDEN = 64

# What most architectures call their dimensions; a key an architecture does not have is left out.
COMMON: Mapping[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": HIDDEN // 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}

# One row for an architecture that needs more, or other, keys.
EXTRA: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {
        "n_embd": HIDDEN,
        "n_head": 4,
        "num_key_value_heads": 4,
        "n_ctx": 1024,
        "n_positions": 1024,
        "layer_norm_epsilon": 1e-5,
    },
    "qwen3_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": HIDDEN,
        "norm_topk_prob": True,
    },
}
PLAIN = frozenset({"llama", "qwen2", "qwen3", *EXTRA})
"""Architectures that COMMON and EXTRA describe in full."""
VOCAB_KEYS = ("vocab_size",)
MOST_MODULES, MOST_NUMBER, MOST_PARAMETERS = 1_000, 10**8, 2 * 10**9
"""What a table may ask for: modules of one kind, any other number of a configuration, parameters (8 GB of float32)."""
_COUNTED = re.compile(r"layers?$|experts$|groups$|blocks$")
LAYER_KEYS = ("num_hidden_layers", "n_layer")


def load(row: SyntheticRow, *, download: bool = False) -> LoadedModel:
    """Build the row's model.

    Raises UnknownName for an architecture mlx-lm lacks, UsageError for a configuration that does not fit it, and
    ModelUnavailable when Qwen's tokenizer is wanted, not cached and not allowed to be fetched.
    """
    tokenizer = _tokenizer(row, download=download)
    module, config = build(row)
    return LoadedModel(card_of(module, config, row.id, "synthetic"), module, tokenizer)


def build(row: SyntheticRow) -> tuple[Any, dict[str, Any]]:
    """Return the module with its weights, cast and quantized, and the configuration it was built from."""
    if row.architecture not in architectures():
        raise UnknownName("model architecture", row.architecture, architectures())
    code = code_of(row.architecture)
    config = configuration(row, tuple(inspect.signature(code.ModelArgs).parameters))
    _refuse_numbers(row.id, row.config)
    try:
        module = code.Model(code.ModelArgs.from_dict(config))
        _refuse_size(row.id, module)
    except (HarnessError, KeyboardInterrupt):
        raise
    except BaseException as error:  # an architecture may end the process where a package of its own is absent
        raise UsageError(
            f"{row.id}: {row.architecture} cannot be built from {config}: {one_line(error)}; set it in `config`"
        ) from error
    fill(module, row.seed, row.logit_scale)
    cast(module, row.dtype)
    if row.quantize:
        quantize(module)
    return module, config


def _refuse_numbers(name: str, value: Any, path: str = "config") -> None:
    """Raise UsageError for a count by which a module would be made for each of too many numbers."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        _refuse_numbers(name, inner, f"{path}.{key}")
        if isinstance(inner, int) and inner > (MOST_MODULES if _COUNTED.search(key) else MOST_NUMBER):
            raise UsageError(f"{name}: {path}.{key}: {str(inner)[:20]} is more than any model has")


def _refuse_size(name: str, module: Any) -> None:
    from mlx.utils import tree_flatten

    # Nothing has been evaluated: only shapes are there.
    count = sum(array.size for _, array in tree_flatten(module.parameters()))
    if count > MOST_PARAMETERS:
        raise UsageError(f"{name}: {count:,} parameters; at most {MOST_PARAMETERS:,} are made here")


def configuration(row: SyntheticRow, known: tuple[str, ...]) -> dict[str, Any]:
    """Return the configuration: common keys, the architecture's, the row's own; only keys in `known` appear."""
    for key in row.config:
        if key not in known:
            raise UsageError(f"{row.id}: config.{key} is not a key of {row.architecture}; {suggest(key, known)}")
    sizes = dict.fromkeys(VOCAB_KEYS, row.vocab) | dict.fromkeys(LAYER_KEYS, row.layers)
    merged = {**_zoo(row.architecture), **COMMON, **EXTRA.get(row.architecture, {}), **sizes, **row.config}
    return {"model_type": row.architecture} | {key: value for key, value in merged.items() if key in known}


def _zoo(architecture: str) -> Mapping[str, Any]:
    """Return what the miniatures know of an architecture that has no row here: the keys that are its own."""
    return {} if architecture in PLAIN else {**SIZES, **OVERRIDES.get(architecture, {})}


def quantize(module: Any) -> None:
    """Quantize in place as mlx-lm converts a model: what the architecture's own rule says, where groups fit."""
    import mlx.core as mx
    import mlx.nn as nn

    rule = getattr(module, "quant_predicate", None) or (lambda path, child: True)

    def wanted(path: str, child: Any) -> Any:
        fits = hasattr(child, "to_quantized") and child.weight.shape[-1] % GROUP == 0
        return rule(path, child) if fits else False

    nn.quantize(module, group_size=GROUP, bits=BITS, class_predicate=wanted)
    mx.eval(module.parameters())


def _tokenizer(row: SyntheticRow, *, download: bool) -> Tokenizer:
    if row.tokenizer == "words":
        return WordTokenizer(row.vocab)
    if row.vocab < QwenTokenizer.SIZE:
        raise UsageError(
            f"{row.id}: Qwen's tokenizer has {QwenTokenizer.SIZE:,} ids, the vocabulary {row.vocab:,}; "
            "use `tokenizer: words` or a larger `vocab`"
        )
    return QwenTokenizer(locate(QWEN, row.id, download=download) / RANKS)
