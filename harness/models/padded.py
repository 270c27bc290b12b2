"""Rows of zeros in a head: a vocabulary that is padded to a round number has them, and their logit is 0 whatever the
prompt. It wins where all others are negative."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from harness.models.dequantised import unpacked
from harness.models.sources.weights import EMBEDDING, HEAD


def zero_row(module: Any, token: int) -> str | None:
    """Return the name of the matrix that makes the logits, if its row for a token holds nothing but zeros."""
    layers = [(f"{name}.weight", layer) for name, layer in module.named_modules() if "weight" in layer]
    heads = [each for each in layers if HEAD.search(each[0])] or [each for each in layers if EMBEDDING.search(each[0])]
    for name, layer in heads[:1]:
        if (
            layer.weight.ndim == 2
            and token < layer.weight.shape[0]
            and not np.array(unpacked(layer, slice(token, token + 1)).astype(mx.float32)).any()
        ):
            return name
    return None


def said_of(module: Any, token: int) -> str:
    """Return what to say of a token that wins by its row of zeros, after a semicolon; otherwise nothing."""
    name = zero_row(module, token)
    return f"; row {token} of {name} is zero, a row of a padded vocabulary: its logit of 0 wins" if name else ""
