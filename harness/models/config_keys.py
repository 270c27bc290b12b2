"""Keys of a config.json that mlx-lm's class ignores, where ignoring them changes the arithmetic.

mlx-lm drops every key that the class does not name, without a word: the model runs, and is another one. Only keys are
looked at whose loss nothing else shows. Sizes and biases are in the shapes of the weights, and loading refuses those; a
key counts as ignored only where its value differs from the one that the class computes with instead, and only where
transformers' code of the architecture reads it: elsewhere nobody computes with it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.models.sources.folder import read_config
from harness.models.sources.installed import architectures, code_of
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
    "scale_attn_weights": (None, True),
}  # fmt: skip
"""Key -> the values that say the same as leaving it out."""

_ACTIVATIONS: Mapping[str, str] = {
    "silu": r"silu|swi?glu|SwitchGLU",
    "swish": r"silu|swi?glu|SwitchGLU",
    "gelu": r"\bgelu\b|geglu",
    "gelu_pytorch_tanh": r"gelu_approx|geglu",
    "gelu_new": r"gelu_approx",
    "gelu_fast": r"gelu_approx",
    "quick_gelu": r"gelu_fast_approx",
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
_READ_AS = {
    "attn_logit_softcapping": r"softcap=self\.attn_logit_softcapping",
    "rope_scaling": "rope_scaling|ROPE_INIT_FUNCTIONS",
    "sliding_window": "create_sliding_window_causal_mask",
    **dict.fromkeys(_SHARES, "|".join(_SHARES)),
}
"""Key -> how transformers' code spells that it reads it, where that is not the key's own name."""
_MODEL, _SETTINGS = "modeling", "configuration"
"""Files of an architecture in transformers: that which computes, and that which reads older names of keys."""
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
        kind = getattr(code_of(inner), args)
    return [*_ignored(_without_idle_scaling(config, tokens), kind), *_ignored_window(config, kind, tokens)]


def _without_idle_scaling(config: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """Return a config without a scaling of the rotation that begins beyond the prompt."""
    if tokens > (config.get("max_position_embeddings") or 0):
        return dict(config)
    rotations = {key: config[key] for key in ("rope_scaling", "rope_parameters") if isinstance(config.get(key), dict)}
    idle = {key: {**each, "rope_type": "default"} for key, each in rotations.items() if _kind_of(each) == "dynamic"}
    return {**config, **idle}


def _ignored(config: Mapping[str, Any], kind: Any) -> Iterator[IgnoredKey]:
    code = re.sub(r"#.*", "", inspect.getsource(importlib.import_module(kind.__module__)))
    known = _read_by(kind, code)
    try:
        used = kind.from_dict(dict(config))
    except (TypeError, ValueError, KeyError, AttributeError):
        return  # such a folder does not load
    rope, model_type = config.get("rope_parameters"), str(config.get("model_type"))
    for key, neutral in NEUTRAL.items():
        stated = config.get(key)
        same = stated in neutral or _plain_scaling(stated) or (key in _CAPS and _CAPPED.search(code))
        if key in config and key not in known and not same and _matters(key, model_type):
            yield IgnoredKey(key, stated, "none")
    if isinstance(rope, dict) and "rope_parameters" not in known and _matters("rope_parameters", model_type):
        yield from _ignored_rope(rope, used)
    share = _share({**config, **rope} if isinstance(rope, dict) else config)
    if share and _matters(share[0], model_type) and _is_name(share[0], model_type):
        yield from _ignored_share(*share, known, used, code)
    yield from _other_activation(config, known, code)


def _is_name(share: str, model_type: str) -> bool:
    """Return whether the share of a head goes by this name: an older one where transformers translates it."""
    return share == _SHARES[0] or _matters(share, model_type, _SETTINGS)


def _read_by(kind: Any, code: str) -> Collection[str]:
    """Return the keys that a class of mlx-lm declares, without those that its code never reads; where code of another
    architecture computes, all."""
    declared = inspect.signature(kind).parameters
    if re.search(rf"^from \.({'|'.join(architectures())}) import", code, re.MULTILINE):
        return declared
    return [key for key in declared if re.search(rf"\.{key}\b|[\"']{key}[\"']", code)]


def _matters(key: str, model_type: str, part: str = _MODEL) -> bool:
    """Return whether transformers' code of an architecture reads a key, or is not known here."""
    code = _code_of_transformers(model_type, part)
    return not code or bool(re.search(rf"\b({_READ_AS.get(key, key) if part == _MODEL else key})\b", code))


@cache
def _code_of_transformers(model_type: str, part: str) -> str:
    """Return the code of an architecture in the installed transformers, or nothing; it is read and not imported."""
    found = importlib.util.find_spec("transformers")
    for package in found.submodule_search_locations or () if found else ():
        for folder in (model_type, model_type.removesuffix("_text")):
            files = sorted(Path(package, "models", folder).glob(f"{part}_*.py"))
            if files:
                return re.sub(r"#.*", "", "".join(file.read_text(encoding="utf-8") for file in files))
    return ""


def _ignored_window(config: Mapping[str, Any], kind: Any, tokens: int) -> Iterator[IgnoredKey]:
    window, model_type = config.get("sliding_window"), str(config.get("model_type"))
    kinds = config.get("layer_types") or ("sliding_attention",)
    switch = config.get("use_sliding_window", True) or not _matters("use_sliding_window", model_type, _SETTINGS)
    read = "sliding_window" in inspect.signature(kind).parameters
    if read or not (switch and "sliding_attention" in kinds and _matters("sliding_window", model_type)):
        return
    if window and tokens > window:
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
        yield IgnoredKey("rope_parameters.rope_type", _kind_of(rope), "no scaling")


def _ignored_share(name: str, stated: Any, known: Collection[str], used: Any, code: str) -> Iterator[IgnoredKey]:
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
    return isinstance(value, dict) and bool(_kind_of(value) == "default")


def _kind_of(rotation: Mapping[str, Any]) -> Any:
    return rotation.get("rope_type", rotation.get("type", "default"))


def _other_activation(config: Mapping[str, Any], known: Collection[str], code: str) -> Iterator[IgnoredKey]:
    """Yield an activation whose function the code of the class never names, though it names another."""
    key = next((name for name in _ACTIVATION_KEYS if config.get(name)), None)
    if key is None or config[key] not in _ACTIVATIONS or any(name in known for name in _ACTIVATION_KEYS):
        return
    named = [spelt for spelt, pattern in _ACTIVATIONS.items() if re.search(pattern, code)]
    if named and not re.search(_ACTIVATIONS[config[key]], code):
        yield IgnoredKey(key, config[key], named[0])
