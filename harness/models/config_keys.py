"""Keys of a config.json that mlx-lm's class ignores, where ignoring them changes the arithmetic.

mlx-lm drops every key that the class does not name, without a word: the model runs, and is another one. Only keys are
looked at whose loss nothing else shows. Sizes and biases are in the shapes of the weights, and loading refuses those; a
key counts as ignored only where its value differs from the one that the class computes with instead.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.models.sources.folder import read_config
from harness.models.sources.miniatures.overrides import TEXT

_CAPS = ("final_logit_softcapping", "attn_logit_softcapping", "logits_soft_cap")
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    # A factor left out is 1.
    **dict.fromkeys(
        ("logit_scale", "logits_scaling", "embedding_multiplier", "residual_multiplier", "lm_head_multiplier",
         "key_multiplier", "scale_emb", "routed_scaling_factor", "output_multiplier"),
        (None, 1, 1.0),
    ),
    # A cap left out is none.
    **dict.fromkeys(_CAPS, (None, 0, 0.0)),
    "clip_qkv": (None,),
    "rope_scaling": (None,),
    "use_qk_norm": (None, False),
    "scale_attn_by_inverse_layer_idx": (None, False),
}  # fmt: skip
"""Key -> the values that say the same as leaving it out."""

_ACTIVATIONS: Mapping[str, str] = {
    "silu": r"silu|swi?glu",
    "swish": r"silu|swi?glu",
    "gelu": r"\bgelu\b|geglu",
    "gelu_pytorch_tanh": r"gelu_approx|geglu",
    "gelu_new": r"gelu_approx",
    "gelu_fast": r"gelu_approx",
    "relu": r"\brelu\b",
    "relu2": r"relu2|relu_squared|square\(nn\.relu|relu\(.*\)\s*\*\*\s*2",
}
"""What a config.json calls an activation -> how code of mlx-lm spells it."""
_ACTIVATION_KEYS = ("hidden_activation", "hidden_act", "activation_function")
_BASES = ("rope_theta", "rotary_emb_base", "rope_base", "rope_local_base_freq", "rope_local_theta", "swa_rope_theta")
_SHARES = ("partial_rotary_factor", "rotary_pct", "rope_pct")
_OTHER_SHARES = ("rotary_dim", "qk_rope_head_dim", "rope_parameters")
"""Other names by which a class may know how much of a head is rotated."""
_PART_ROTATED = re.compile(r"(RoPE|initialize_rope)\(\s*(dims=)?[^,]*(//|\*)")
"""Code that rotates a fixed share of a head, as recurrent_gemma's does."""
_CAPPED = re.compile(r"softcap|soft_cap|tanh")
"""Code that caps logits at a number of its own, as nanochat's does."""


@dataclass(frozen=True)
class IgnoredKey:
    """A key, what config.json says, and what is computed instead."""

    key: str
    stated: Any
    instead: str

    def __str__(self) -> str:
        return f"{self.key} is {self.stated!r}, and mlx-lm computes with {self.instead}"


def ignored_keys(folder: Path, tokens: int = 0) -> list[IgnoredKey]:
    """Return the keys of a folder's config.json that mlx-lm's class drops and that would change what it computes, on a
    prompt of so many tokens: a window that is longer changes nothing.

    Empty where the class is not known here: a folder's own code, or a class that is none of mlx-lm's.
    """
    from mlx_lm.utils import _get_classes

    config = read_config(folder, folder.name)
    try:
        kind = _get_classes(config)[1]
    except Exception:  # noqa: BLE001  loading the folder says so in its own words
        return []
    name = kind.__module__.rpartition(".")[2]
    if "text_config" in config:
        if name not in TEXT or not isinstance(config["text_config"], dict):
            return []
        inner, args = TEXT[name]
        config = {**config["text_config"], "model_type": inner}
        kind = getattr(importlib.import_module(f"mlx_lm.models.{inner}"), args)
    return [*_ignored(config, kind), *_ignored_window(config, kind, tokens)]


def _ignored(config: Mapping[str, Any], kind: Any) -> Iterator[IgnoredKey]:
    known = inspect.signature(kind).parameters
    code = re.sub(r"#.*", "", inspect.getsource(importlib.import_module(kind.__module__)))
    try:
        used = kind.from_dict(dict(config))
    except (TypeError, ValueError, KeyError, AttributeError):
        return  # such a folder does not load
    rope = config.get("rope_parameters")
    for key, neutral in NEUTRAL.items():
        stated = config.get(key)
        same = stated in neutral or _plain_scaling(stated) or (key in _CAPS and _CAPPED.search(code))
        if key in config and key not in known and not same:
            yield IgnoredKey(key, stated, "none")
    if isinstance(rope, dict) and "rope_parameters" not in known:
        yield from _ignored_rope(rope, used)
    if share := _share({**config, **rope} if isinstance(rope, dict) else config):
        yield from _ignored_share(*share, known, used, code)
    yield from _other_activation(config, known, code)


def _ignored_window(config: Mapping[str, Any], kind: Any, tokens: int) -> Iterator[IgnoredKey]:
    window, known = config.get("sliding_window"), inspect.signature(kind).parameters
    used = config.get("use_sliding_window", True) and "sliding_attention" in config.get(
        "layer_types", "sliding_attention"
    )
    if "sliding_window" not in known and used and window and tokens > window:
        yield IgnoredKey("sliding_window", window, f"all {tokens} tokens")


def _ignored_rope(rope: Mapping[str, Any], used: Any) -> Iterator[IgnoredKey]:
    """Yield what `rope_parameters` says and the class, which does not read it, has otherwise."""
    ours = {getattr(used, name) for name in _BASES if isinstance(getattr(used, name, None), int | float)}
    by_kind: dict[str, Mapping[str, Any]] = {f".{kind}": each for kind, each in rope.items() if isinstance(each, dict)}
    kinds = by_kind or {"": rope}
    for kind, value in kinds.items():
        stated = value.get("rope_theta")
        if stated is not None and ours and stated not in ours:
            yield IgnoredKey(f"rope_parameters{kind}.rope_theta", stated, " and ".join(f"{each:g}" for each in ours))
    if not all(map(_plain_scaling, kinds.values())) and not getattr(used, "rope_scaling", None):
        yield IgnoredKey("rope_parameters.rope_type", rope.get("rope_type", rope.get("type")), "no scaling")


def _ignored_share(name: str, stated: Any, known: Mapping[str, Any], used: Any, code: str) -> Iterator[IgnoredKey]:
    """Yield the share of a head that is rotated, where the class has another one or none."""
    ours = next((getattr(used, each) for each in _SHARES if each in known), None)
    if ours is not None and ours != stated:
        yield IgnoredKey(name, stated, f"{ours:g}")
    if ours is None and not any(each in known for each in _OTHER_SHARES) and not _PART_ROTATED.search(code):
        yield IgnoredKey(name, stated, "the whole head rotated")


def _share(keys: Mapping[str, Any]) -> tuple[str, float] | None:
    return next(((name, keys[name]) for name in _SHARES if keys.get(name) not in (None, 1, 1.0)), None)


def _plain_scaling(value: Any) -> bool:
    """Return whether rotary parameters say that nothing is scaled; of layers of several kinds nothing is known here."""
    if not isinstance(value, dict):
        return False
    return value.get("rope_type", value.get("type", "default")) == "default"


def _other_activation(config: Mapping[str, Any], known: Mapping[str, Any], code: str) -> Iterator[IgnoredKey]:
    """Yield an activation whose function the code of the class never names, though it names another."""
    key = next((name for name in _ACTIVATION_KEYS if config.get(name)), None)
    if key is None or config[key] not in _ACTIVATIONS or any(name in known for name in _ACTIVATION_KEYS):
        return
    named = [spelt for spelt, pattern in _ACTIVATIONS.items() if re.search(pattern, code)]
    if named and not re.search(_ACTIVATIONS[config[key]], code):
        yield IgnoredKey(key, config[key], named[0])
