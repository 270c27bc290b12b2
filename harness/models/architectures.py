"""Where an architecture keeps its blocks, its attention and its MLP: one row for each shape of code.

`attn_out` and `mlp_out` mean what is added to the residual stream. That is the output of the attention or MLP module,
except where a norm follows the module; those architectures have a row that names the norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import UsageError


@dataclass(frozen=True)
class Architecture:
    """Attribute names of a block, tried in order; `attn_out` and `mlp_out` default to the modules themselves."""

    attention: tuple[str, ...] = ("self_attn", "attn", "attention")
    mlp: tuple[str, ...] = ("mlp", "feed_forward", "block_sparse_moe")
    attn_out: str | None = None
    mlp_out: str | None = None


_POST_NORM = Architecture(attn_out="post_attention_layernorm", mlp_out="post_feedforward_layernorm")

ARCHITECTURES: Mapping[str, Architecture] = {
    "gemma2": _POST_NORM,  # a norm stands between each module and the residual add
    "gemma3_text": _POST_NORM,
    "gemma3": _POST_NORM,
    "olmo2": _POST_NORM,
}

_BLOCK_LISTS = (("layers",), ("model", "layers"), ("transformer", "h"), ("model", "h"), ("backbone", "layers"))


def architecture_of(name: str) -> Architecture:
    """Return the row of a `model_type`, or the common shape where it has none."""
    return ARCHITECTURES.get(name, Architecture())


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
