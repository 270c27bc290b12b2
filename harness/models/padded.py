"""Rows of zeros in a head: a vocabulary that is padded to a round number has them, and their logit is 0 whatever the
prompt. It wins where all others are negative."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from harness.models.sources.weights import EMBEDDING, HEAD


def zero_row(module: Any, token: int) -> str | None:
    """Return the name of the matrix that makes the logits, if its row for a token holds nothing but zeros."""
    layers = [(f"{name}.weight", layer) for name, layer in module.named_modules() if "weight" in layer]
    heads = [each for each in layers if HEAD.search(each[0])] or [each for each in layers if EMBEDDING.search(each[0])]
    for name, layer in heads[:1]:
        if (
            layer.weight.ndim == 2
            and token < layer.weight.shape[0]
            and not np.array(_row(layer, token).astype(mx.float32)).any()
        ):
            return name
    return None


def said_of(module: Any, token: int) -> str:
    """Return what to say of a token that wins by its row of zeros, after a semicolon; otherwise nothing."""
    name = zero_row(module, token)
    return f"; row {token} of {name} is zero, a row of a padded vocabulary: its logit of 0 wins" if name else ""


def _row(layer: Any, token: int) -> mx.array:
    parts = [layer[part][token : token + 1] for part in ("weight", "scales", "biases") if part in layer]
    if len(parts) == 1:
        return mx.array(parts[0])
    more = parts[2] if len(parts) > 2 else None
    mode = getattr(layer, "mode", "affine")
    return mx.array(mx.dequantize(parts[0], parts[1], more, layer.group_size, layer.bits, mode))
