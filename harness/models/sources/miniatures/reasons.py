"""Why a cell of the matrix of architectures is not a pass: a text, and how the failure shows.

The check behind a cell runs all the same. Its failure must look as stated here, and a cell that is listed here and
passes is an error, so that no reason outlives its cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """A text for people, and a regular expression that what the check saw must match."""

    text: str
    seen: str


_METAL = Reason("a kernel that exists only for Metal; the CPU has none", "No Metal back-end")
_PER_LAYER = "every layer also adds an embedding of the tokens themselves, which no patch of the stream carries"
_NOT_CALLED = Reason(
    "the model calls the parts of its blocks, never a block, so that no residual stream can be tapped; "
    "attn_out and mlp_out can be patched",
    "layer 0 resid_(pre|post): the module was never called",
)
_SECOND_ARGUMENT = "the residual stream is the block's second argument, and resid_pre taps the first"
_FOUR_STREAMS = "hyper-connections: a residual of four streams [batch, tokens, 4, width], which parts only mix into"
_NO_POSITIONS = Reason(f"{_FOUR_STREAMS}; a patch by position has no rule for it", "no axis of 6 tokens")
_STREAMS_FIRST = (
    "AltUp: a residual of four streams [4, batch, tokens, width], whose axes are not those of an activation"
)
_MIXED_BLOCKS = "a block reads a learned mixture of all earlier blocks' residuals, held in an object beside the stream"
_SHARED_AND_PER_LAYER = Reason(
    f"the later half of the layers reuses the keys and values of the earlier half, and {_PER_LAYER}",
    r"layers \[0, 1, 2\]$",
)

REASONS: Mapping[str, Mapping[str, Reason]] = {
    "afm7": {
        "residual": Reason(
            "the later half of the layers reuses the keys and values of layer 1, which do not pass through the stream",
            r"after layers \[1, 2\]$",
        )
    },
    "bitnet": {"builds": _METAL},
    "deepseek_v41": {
        "self-patch": Reason(
            f"{_FOUR_STREAMS}; a patch by position has no rule for the extra axis", "no axis of 6 tokens"
        ),
        "residual": Reason("a block hands its mixing weights to the next one beside the stream", r"after layers \[0"),
        "parts": Reason(_FOUR_STREAMS, "broadcast"),
        "stepwise": Reason(
            f"{_FOUR_STREAMS}; a patch by position has no rule for the extra axis", "no axis of 6 tokens"
        ),
        "one-pass": Reason(_FOUR_STREAMS, r"\(\d+, 6, 4, 64\) has no axis"),
    },
    "gemma3n": {
        "self-patch": Reason(_STREAMS_FIRST, "no axis of 6 tokens"),
        "residual": Reason(_PER_LAYER, r"layers \[0, 1\]$"),
        "parts": Reason(_STREAMS_FIRST, "broadcast"),
        "stepwise": Reason(_STREAMS_FIRST, "no axis of 6 tokens"),
        "one-pass": Reason(_STREAMS_FIRST, r"\(4, \d+, 6, 64\) came to layer 0"),
    },
    "gemma4": {"residual": _SHARED_AND_PER_LAYER},
    "gemma4_text": {"residual": _SHARED_AND_PER_LAYER},
    "hunyuan": {
        "residual": Reason(
            "every second layer reuses the keys and values of the one before it, which do not pass through the stream",
            r"layers \[0, 2\]$",
        )
    },
    "iquestloopcoder": dict.fromkeys(
        ("traced", "self-patch", "residual", "parts", "stepwise", "one-pass"), _NOT_CALLED
    ),
    "kimi_k3": {
        "residual": Reason(_MIXED_BLOCKS, r"layers \[0, 1, 2, 3\]$"),
        "parts": Reason(f"{_MIXED_BLOCKS}, and a block may start its sum anew", "layer 0 differs"),
        "one-pass": Reason(f"{_MIXED_BLOCKS}; its rows cannot be added to", "array dimensions must match"),
    },
    "muse_spark": {"builds": _METAL},
    "nanbeige": {"one-pass": Reason("the model runs through its blocks twice", r"order \[0, 1, 2, 3, 0, 1, 2, 3\]")},
    "olmo": {
        "builds": Reason("mlx-lm ends the process here unless the package ai2-olmo is installed", "SystemExit|: 1$")
    },
    "phi3small": {
        "stepwise": Reason(
            "its block-sparse layers are not causal: mlx-lm adds a boolean mask to the scores, so that earlier tokens "
            "see later ones and a patch of position 0 changes the logits",
            "position 0, up to which the prompts agree, changes",
        )
    },
    "prism_hadamard_qwen35": {
        "builds": Reason(
            "wants the manifest of one released 2-bit pack, which no small configuration has", "Hadamard pack"
        )
    },
    "rwkv7": {
        "residual": Reason("all layers read the values of layer 0 beside the stream", r"layers \[0, 1, 2\]$"),
        "parts": Reason("layer 0 normalises its input before it adds to it", "layer 0 differs"),
    },
    "talkie": {
        "residual": Reason(_PER_LAYER, r"layers \[0, 1\]$"),
        "parts": Reason(_SECOND_ARGUMENT, "layer 1 differs"),
        "stepwise": Reason(_SECOND_ARGUMENT, "resid_pre, positions last"),
        "one-pass": Reason(_SECOND_ARGUMENT, r"came to layer 1, where a walk has"),
    },
}
