"""Adapters as mlx-lm trains them, for models that are asked about theirs."""

from __future__ import annotations

from typing import Any

import mlx.core as mx


def with_lora(module: Any, dropout: float = 0.0, rank: int = 4, layers: int = -1) -> None:
    """Put mlx-lm's LoRA layers into the last `layers` blocks of a model, as `mlx_lm.lora` does; of new ones, B is zero.

    An adapter with a B of zero changes nothing: B gets small numbers here.
    """
    from mlx_lm.tuner.utils import linear_to_lora_layers

    count = len(module.layers) if layers < 0 else layers
    linear_to_lora_layers(module, count, {"rank": rank, "scale": 10.0, "dropout": dropout})
    for _, each in module.named_modules():
        if "lora_b" in each:
            each.lora_b = 0.05 * mx.sin(mx.arange(each.lora_b.size).reshape(each.lora_b.shape)).astype(
                each.lora_b.dtype
            )
