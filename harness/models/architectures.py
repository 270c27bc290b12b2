"""Where an architecture keeps its blocks, its attention and its MLP: one row for each shape of code.

`attn_out` and `mlp_out` mean what is added to the residual stream. That is the output of the attention or MLP module,
except where a norm follows the module; those architectures have a row that names the norm. Where a layer mixes tokens
by something else than attention (a state-space model, a convolution), `attn_out` is that mixer's output: it stands in
the same place. `self_attn` and `attn` stay what they say, the attention module, and such a layer has none.

A block computes `resid_post = gain x (resid_pre + scale x (attn_out + mlp_out + the outputs of beside))`, in sequence
or in parallel, and the matrix (`harness models architectures`) holds every row to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.vocabulary import PER_HEAD
from harness.vocabulary.errors import UsageError
from harness.vocabulary.words import number_of

_ATTENTION = ("self_attn", "attn", "attention")
_MIXER = ("linear_attn", "mamba", "conv", "local_mixer", "temporal_block", "mixer")
_MLP = ("mlp", "feed_forward", "block_sparse_moe", "ffn", "moe", "mlp_block")
_DOWN = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "proj_2", "w2", "mlp_resid")
"""Names of an MLP's last projection, whose output is the MLP's. A mixture of experts has none of its own."""


@dataclass(frozen=True)
class Architecture:
    """Attribute names of a block, tried in order; a dot leads into a child.

    `attn_out` and `mlp_out` default to the modules themselves, or to the mixer where there is no attention. `beside`
    names what else is added to the residual stream, and `scale` is what a block multiplies a branch by before adding
    it, `gain` what it multiplies the sum by. `by_block` gives the row of one block in models whose blocks differ under
    the same names.
    """

    attention: tuple[str, ...] = _ATTENTION
    mixer: tuple[str, ...] = _MIXER
    mlp: tuple[str, ...] = _MLP
    attn_out: str | None = None
    mlp_out: str | None = None
    beside: tuple[str, ...] = ()
    scale: Callable[[Any], float] = lambda block: 1.0
    gain: Callable[[Any], float] = lambda block: 1.0
    by_block: Callable[[Any], Architecture] | None = None

    def of(self, block: Any) -> Architecture:
        """Return the row of one block."""
        return self.by_block(block) if self.by_block else self

    def paths(self, component: str) -> tuple[str, ...]:
        """Return the paths in a block at which a component may be; any other component is itself a path."""
        known = {
            "attn_out": (self.attn_out,) if self.attn_out else self.attention + self.mixer,
            "mlp_out": (self.mlp_out,) if self.mlp_out else self.mlp,
            "self_attn": self.attention,
            "attn": self.attention,
            "mlp": self.mlp,
            "mlp_post": tuple(f"{mlp}.{down}" for mlp in self.mlp for down in _DOWN),
        }
        return known.get(component, (component,))


_PLAIN = Architecture()
_POST_NORM = Architecture(attn_out="post_attention_layernorm", mlp_out="post_feedforward_layernorm")
_MIXER_NORM = Architecture(attn_out="post_mixer_norm", mlp_out="post_mlp_norm")
_TWO_IN_ONE = Architecture(attention=("self_attn.0",), mlp=("mlp",), beside=("self_attn.1", "mlps.0", "mlps.1"))
_NOTHING = Architecture(attention=(), mixer=(), mlp=())


def _residual_multiplier(block: Any) -> float:
    return float(block.residual_multiplier)


def _layer_scalar(block: Any) -> float:
    return float(block.layer_scalar.item())


def _depth_scale(block: Any) -> float:
    return float(block.scale_depth / block.num_hidden_layers**0.5)


def _mamba2_or_attention(block: Any) -> Architecture:
    """A block is one mixer under one norm; its type says whether that mixes tokens or is an MLP."""
    kinds = {"M": replace(_NOTHING, mixer=("mixer",)), "*": replace(_NOTHING, attention=("mixer",))}
    return kinds.get(block.block_type, replace(_NOTHING, mlp=("mixer",)))


def _full_or_linear(block: Any) -> Architecture:
    """The names of a full-attention block's norms after its modules are, in a linear block, norms before them."""
    return _POST_NORM if hasattr(block, "self_attn") else _PLAIN


def _mixer_is_attention(block: Any) -> Architecture:
    return _MIXER_NORM if getattr(block, "is_mamba", False) else replace(_MIXER_NORM, attention=("mixer",))


def _recurrent_or_attention(block: Any) -> Architecture:
    is_attention = hasattr(block.temporal_block, "q_proj")
    return replace(_PLAIN, attention=("temporal_block",)) if is_attention else _PLAIN


ARCHITECTURES: Mapping[str, Architecture] = {
    # A norm stands between each module and the residual add.
    "gemma2": _POST_NORM,
    "gemma3": _POST_NORM,
    "gemma3_text": _POST_NORM,
    "olmo2": _POST_NORM,
    "olmo3": _POST_NORM,
    "exaone4": _POST_NORM,
    "muse_glimmer": _POST_NORM,
    "gear": _POST_NORM,
    "glm4": Architecture(attn_out="post_self_attn_layernorm", mlp_out="post_mlp_layernorm"),
    "afmoe": Architecture(attn_out="post_attention_layernorm", mlp_out="post_mlp_layernorm"),
    "plamo2": Architecture(by_block=_mixer_is_attention),
    "plamo3": replace(_MIXER_NORM, attention=("mixer",)),
    "olmo_hybrid": Architecture(by_block=_full_or_linear),
    # After the MLP comes a third branch, from an embedding of the token at each layer; then all is scaled.
    "gemma4_text": replace(_POST_NORM, beside=("post_per_layer_input_norm",), gain=_layer_scalar),
    "gemma4": replace(_POST_NORM, beside=("post_per_layer_input_norm",), gain=_layer_scalar),
    "gemma3n": _POST_NORM,
    # A branch is multiplied before it is added.
    "granite": Architecture(scale=_residual_multiplier),
    "granitemoe": Architecture(scale=_residual_multiplier),
    "granitemoehybrid": Architecture(scale=_residual_multiplier, beside=("shared_mlp",)),
    "minicpm": Architecture(scale=_depth_scale),
    "minicpm3": Architecture(scale=_depth_scale),
    "talkie": Architecture(attn_out="attn_gain", mlp_out="mlp_gain", beside=("embed_skip",)),
    # Attention and a state-space model read the same norm and are both added.
    "falcon_h1": Architecture(beside=("mamba",)),
    # The module under the usual name is a holder that is never called, or the one inside it is meant.
    "exaone": Architecture(attention=("attn.attention",)),
    "dbrx": Architecture(attention=("norm_attn_norm.attn",)),
    "iquestloopcoder": Architecture(attn_out="self_attn.o_proj"),
    # Two attentions and two MLPs to a block, under names that are lists, and a mixture of experts across both.
    "longcat_flash": _TWO_IN_ONE,
    "longcat_flash_ngram": _TWO_IN_ONE,
    # Attention under a mixer's name.
    "phixtral": Architecture(attention=("mixer",)),
    "recurrent_gemma": Architecture(by_block=_recurrent_or_attention),
    "nemotron_h": Architecture(by_block=_mamba2_or_attention),
    # Attention without a module of its own; its last projection is one.
    "olmo": Architecture(attention=(), mlp=(), attn_out="attn_out", mlp_out="ff_out"),
}

_OTHER_NAMES: Mapping[str, str] = {"phi-msft": "phixtral", "gemma4_unified": "gemma4"}
"""Names in a config.json that mlx-lm runs with the code of a row above."""

_BLOCK_LISTS = (("layers",), ("model", "layers"), ("transformer", "h"), ("model", "h"), ("backbone", "layers"))


@dataclass(frozen=True)
class Heads:
    """How an attention module names its projections and its numbers of heads.

    The output projection's input, and the output of every other, hold the heads side by side, head 0 first, each as
    wide as the others.
    """

    projection: str = "o_proj"
    count: str = "n_heads"
    kv_count: str = "n_kv_heads"
    """The number of heads that keys and values have."""
    fused: str = ""
    """The one projection that gives queries, keys and values; nothing where each has its own."""
    by_head: bool = False
    """A fused projection gives query, key and value of head 0, then those of head 1. Otherwise it gives all heads of
    the queries, then those of the keys, then those of the values."""

    def projections(self, component: str) -> tuple[str, ...]:
        """Return the attributes of an attention module that it needs to have a component, the component's own first.

        Keys of a module without a projection for values would be its values as well (gemma4's `attention_k_eq_v`).
        """
        if component == "z":
            return (self.projection,)
        return (self.fused,) if self.fused else ("k_proj", "v_proj") if component == "k" else (f"{component}_proj",)

    def slots(self, attention: Any, component: str) -> tuple[range, int]:
        """Return which slices of an activation's width the heads of a component are, and of how many equal ones."""
        queries, keys = int(getattr(attention, self.count)), int(getattr(attention, self.kv_count))
        own = keys if component in ("k", "v") else queries
        if component == "z" or not self.fused:
            return range(own), own
        if self.by_head:
            return range("qkv".index(component), 3 * own, 3), 3 * own
        start = {"q": 0, "k": queries, "v": queries + keys}[component]
        return range(start, start + own), queries + 2 * keys


HEADS: Mapping[str, Heads] = {
    **dict.fromkeys(
        ("llama", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "olmo2",
         "olmoe", "smollm3", "starcoder2", "granite", "cohere", "exaone4", "glm4", "seed_oss", "ministral3", "helium",
         "afmoe", "cohere2", "dots1", "ernie4_5", "ernie4_5_moe", "exaone_moe", "gemma3", "gemma4", "gemma4_text",
         "glm4_moe", "granitemoe", "hunyuan", "hunyuan_v1_dense", "internlm3", "laguna", "llama4", "llama4_text",
         "mellum", "mimo", "mimo_v2_flash", "mistral3", "muse_glimmer", "nemotron", "nemotron-nas", "phimoe", "pixtral",
         "qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "solar_open"),
        Heads(),
    ),
    **dict.fromkeys(("mixtral", "stablelm", "minicpm"), Heads(count="num_heads", kv_count="num_key_value_heads")),
    "step3p5": Heads(count="num_heads", kv_count="num_kv_heads"),
    **dict.fromkeys(
        ("Klear", "apertus", "glm", "gpt_oss", "olmo3", "telechat3"),
        Heads(count="num_attention_heads", kv_count="num_key_value_heads"),
    ),
    "phi": Heads("dense", "num_heads", "num_key_value_heads"),
    "exaone": Heads("out_proj"),
    "gptj": Heads("out_proj", "num_attention_heads", "num_attention_heads"),
    # One projection gives queries, keys and values.
    "phi3": Heads(fused="qkv_proj"),
    "openelm": Heads("out_proj", fused="qkv_proj"),
    "lille-130m": Heads("out_proj", "n_head", fused="qkv_proj"),
    "gpt2": Heads("c_proj", "n_head", "n_head", fused="c_attn"),
    "gpt_bigcode": Heads("c_proj", fused="c_attn"),
    "qwen": Heads("c_proj", "num_attention_heads", "num_attention_heads", fused="c_attn"),
    "gpt_neox": Heads("dense", "num_attention_heads", "num_attention_heads", "query_key_value", by_head=True),
}  # fmt: skip
"""Architectures whose heads are seen, by the tests, to lie as stated: changing a head's slice of the queries, keys or
values changes this head where attention is computed, and changing one head's values changes its slice of `z`."""


def heads_of(name: str) -> Heads:
    """Return how an architecture's heads lie. Raises UsageError where nobody has looked."""
    own = _OTHER_NAMES.get(name, name)
    if own not in HEADS:
        raise UsageError(
            f"how the heads of {name} lie is not known here: {', '.join(PER_HEAD)} are known of "
            f"{number_of(len(HEADS), 'architecture')}, such as {', '.join(sorted(HEADS)[:3])}"
        )
    return HEADS[own]


def architecture_of(name: str) -> Architecture:
    """Return the row of a `model_type`, or the common shape where it has none."""
    return ARCHITECTURES.get(_OTHER_NAMES.get(name, name), _PLAIN)


def blocks_of(module: Any) -> list[Any]:
    """Return the blocks of a model in order, wherever its code keeps them.

    Raises UsageError when the module has no list of blocks.
    """
    for path in _BLOCK_LISTS:
        found: Any = module
        for name in path:
            found = getattr(found, name, None)
        if isinstance(found, list | tuple) and found:
            return list(found)
    raise UsageError(f"{type(module).__name__} has no list of blocks; a model needs `.layers` (or `.model.layers`)")
