"""How many rows a walk may have: predicted from the model's shapes, against the memory that is free.

A row of T tokens holds about 19 D + 1.2 I numbers a token while a block runs (D the residual's width, I the widest
inner layer), and V logits at the end. Both figures were measured on qwen3; the prediction is meant for deciding when
to walk twice, not to the megabyte.
"""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from harness.models.architectures import blocks_of
from harness.models.loaded import LoadedModel

USUAL_BUDGET = 1 << 30
"""Bytes that a walk's rows may take where nobody says otherwise: enough rows that more of them gain nothing."""

_LEAST = 8
"""Rows below which chunking costs more than it saves."""


def rows_within(model: LoadedModel, tokens: int, budget: int | None = None) -> int:
    """Return how many patched rows fit into `budget` bytes (default: 1 GiB, or half of what is free, if less)."""
    allowed = min(USUAL_BUDGET, free_bytes() // 2) if budget is None else budget
    return max(_LEAST, int(allowed // row_bytes(model, tokens)) - 2)


def row_bytes(model: LoadedModel, tokens: int) -> int:
    """Return the bytes one row is predicted to need at the widest moment of a walk."""
    widths = [
        value.shape[-2]
        for block in blocks_of(model.module)[:1]
        for name, value in tree_flatten(block.parameters())
        if value.ndim >= 2 and name.endswith("weight")
    ]
    width = _residual_width(model)
    size = 2 if model.card.dtype in ("float16", "bfloat16") else 4
    return int(tokens * (19 * width + 1.2 * max(widths, default=width)) * size + 2 * model.card.vocab * size)


def free_bytes() -> int:
    """Return the memory that may be used on this machine without pushing anything out, or a cautious 2 GB."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        # Only Linux keeps this file; elsewhere MLX knows what the device may use.
        most = int(mx.device_info().get("max_recommended_working_set_size", 0))
        return max(most - mx.get_active_memory(), 2 << 30)


def _residual_width(model: LoadedModel) -> int:
    norms = [value.shape[0] for block in blocks_of(model.module)[:1] for _, value in tree_flatten(block.parameters())
             if value.ndim == 1]  # fmt: skip
    return max(norms, default=model.card.vocab)
