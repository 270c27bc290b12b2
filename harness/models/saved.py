"""Small models that transformers builds and saves: a folder that both implementations read.

The folder goes the way of every published one: transformers writes it, mlx-lm's `sanitize` renames and reshapes its
weights while loading. Sizes are those of the miniatures. Vectors keep what transformers starts them with, moved by up
to `VECTOR_SIZE`, so that a norm whose weight is forgotten shows.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from harness.models.sources.folder import one_line, read_config
from harness.models.sources.installed import code_of
from harness.models.sources.miniatures import architectures, small_config
from harness.models.sources.miniatures.rules import HEADS, HIDDEN, LAYERS, SIZES
from harness.models.sources.weights import uniform, value
from harness.vocabulary.errors import UsageError

VECTOR_SIZE = 0.25
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
"""Special tokens in the small vocabulary; the classes' own defaults lie outside it."""

_SLIDING = {"layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2)}
CHANGES: Mapping[str, Mapping[str, Any]] = {
    # mlx-lm counts the period, transformers lists the layers.
    "gemma3_text": _SLIDING,
    "gemma3": _SLIDING,
    "cohere2": _SLIDING,
    "gpt_neox": {"intermediate_size": 4 * HIDDEN},  # mlx-lm takes that for granted
    "ministral3": {"sliding_window": None},  # as released; mlx-lm has windows where `layer_types` says so
    "phimoe": {"lm_head_bias": True, "attention_bias": True},  # as released, and taken for granted
    "exaone4": {"sliding_window_pattern": 2},  # a number here, text in mlx-lm
}
"""Keys that only transformers' class of an architecture needs, with the reason beside each."""

_OLD_NAMES = {
    "rope_theta": ("rope_theta", "rotary_emb_base"),
    "partial_rotary_factor": ("partial_rotary_factor", "rotary_pct"),
}
"""Key of `rope_parameters` -> what published folders call it."""

_PREFIX = "transformer."
"""Of every weight's name in the folders of one architecture since transformers 4; those as published lack it."""
_WITHOUT_PREFIX = ("gpt2",)

_NOT_DEFAULT = ("head_dim", "vocab_size", "sliding_window_pattern", "conv1d_width")
"""Sizes that mlx-lm's classes know the released model's value of, where a published folder may leave them out."""


def shared() -> tuple[list[str], list[str]]:
    """Return the architectures of mlx-lm that transformers has as well, and those that it lacks."""
    import transformers

    ours = architectures()
    both = [name for name in ours if name in transformers.CONFIG_MAPPING]
    return both, [name for name in ours if name not in both]


def save(architecture: str, folder: Path, seed: int = 0) -> None:
    """Write an architecture's small model into an empty folder, its weights a function of the seed.

    Raises UsageError with the reason where transformers does not build it.
    """
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        config = _config(architecture, transformers.CONFIG_MAPPING[architecture])
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        _fill(net, seed)
        net.save_pretrained(folder)
    except (Exception, SystemExit) as error:  # olmo ends the process where a package of its own is absent
        raise UsageError(f"transformers does not build it: {type(error).__name__}: {one_line(error)}") from error


def publish(folder: Path) -> bool:
    """Write into config.json the keys that folders were published with before transformers 5, those of
    `rope_parameters` beside it among them; return whether that is a change."""
    config = read_config(folder, folder.name)
    before = copy.deepcopy(config)
    text = config.get("text_config", config)
    rope = text.get("rope_parameters") or {}
    kinds = [value for value in rope.values() if isinstance(value, dict)]
    if kinds and kinds.count(kinds[0]) == len(kinds):  # by kind of layer, and alike for each
        rope = kinds[0]
    flat = {old: rope[key] for key, names in _OLD_NAMES.items() if key in rope for old in names}
    if rope.get("rope_type", "default") != "default":
        flat["rope_scaling"] = {key: value for key, value in rope.items() if key not in _OLD_NAMES}
    changed = CHANGES.get(str(config["model_type"]), {})
    if text is not config:
        flat |= {key: value for key, value in _language_model(config).items() if key in _NOT_DEFAULT}
    text |= {key: value for key, value in flat.items() if key not in text}
    config |= {key: value for key, value in _required(config).items() if key not in config or key in changed}
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    renamed = config["model_type"] in _WITHOUT_PREFIX
    if renamed:
        file = str(folder / "model.safetensors")
        weights = {name.removeprefix(_PREFIX): weight for name, weight in mx.load(file).items()}  # type: ignore[union-attr]
        mx.eval(weights)
        mx.save_safetensors(file, weights, {"format": "pt"})
    return renamed or config != before


def _language_model(config: Mapping[str, Any]) -> dict[str, Any]:
    name = str(config["model_type"])
    return dict(small_config(name).get("text_config", {})) if name in architectures() else {}


def _required(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys without which mlx-lm's class cannot be made, as the miniature has them: published folders have
    them, and transformers 5 leaves them out."""
    name = str(config["model_type"])
    if name not in architectures():
        return {}
    known = inspect.signature(code_of(name).ModelArgs).parameters
    needed = [key for key, parameter in known.items() if parameter.default is parameter.empty or key in _NOT_DEFAULT]
    return {key: value for key, value in small_config(name).items() if key in needed and key != "text_config"}


def _config(architecture: str, kind: Any) -> Any:
    """Return transformers' configuration: the miniature's keys, and the small size of every other one it has."""
    ours = small_config(architecture)
    known = kind()
    if "text_config" in ours and hasattr(known, "text_config"):
        inner = type(known.text_config)
        text = _sized(known.text_config) | _known(ours["text_config"], known.text_config)
        return kind(text_config=inner(**(text | dict(CHANGES.get(architecture, {})))).to_dict())
    return kind(**(_sized(known) | _known(ours, known) | dict(CHANGES.get(architecture, {}))))


def _sized(known: Any) -> dict[str, Any]:
    used = {name for name, default in known.to_dict().items() if default is not None}
    return {name: size for name, size in SIZES.items() if name in used and not _is_choice(name)} | _TOKENS


def _known(ours: Mapping[str, Any], known: Any) -> dict[str, Any]:
    names = known.to_dict()
    found = {name: value for name, value in ours.items() if name in names and not _is_choice(name)}
    if {"head_dim", "qk_rope_head_dim"} <= names.keys():
        # Latent attention: the width that is rotated, and keys for every head.
        found |= {"head_dim": SIZES["qk_rope_head_dim"], "num_key_value_heads": HEADS}
    return found


def _is_choice(name: str) -> bool:
    """Return whether a key is the architecture's own choice: whether embeddings are tied, and which layers have biases,
    each of the two implementations may take for granted."""
    return name == "model_type" or isinstance(SIZES.get(name), bool)


def _fill(net: Any, seed: int) -> None:
    import torch

    tied = bool(net.config.get_text_config().tie_word_embeddings)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            shape = tuple(parameter.shape)
            if len(shape) >= 2:
                parameter.copy_(torch.from_numpy(value(name, shape, seed, 1.0, tied)))
            else:
                parameter.add_(torch.from_numpy(VECTOR_SIZE * uniform(name, shape, seed)))
