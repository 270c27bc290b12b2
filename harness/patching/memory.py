"""How many rows a walk may have: predicted from the model's shapes, against a budget.

A row of T tokens holds about 19 D + 1.2 I numbers a token while a block runs (D the residual's width, I the widest
inner layer), and afterwards V logits, twice. Both figures were measured on qwen3; the prediction is meant for deciding
when to walk twice, not to the megabyte.

The budget is what the user says, or a quarter of the memory that is free (several sweeps may run at the same time) and
at most 1 GiB, because rows beyond some hundred read the weights no cheaper.
"""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from harness.models.architectures import blocks_of
from harness.models.loaded import LoadedModel
from harness.vocabulary import Memory, size_text
from harness.vocabulary.errors import UsageError

USUAL_BUDGET = 1 << 30
SHARE_OF_FREE = 4

_LEAST = 8
"""Rows below which chunking costs more than it saves; a budget that nobody stated gives way to it."""

BASE_ROWS = 2
"""The source and the target run."""


def plan_memory(model: LoadedModel, tokens: int, cells: int, budget: int | None) -> Memory:
    """Return how many walks, of how many rows, a sweep of `cells` cells takes within `budget` bytes.

    Raises UsageError for a stated budget that does not hold the two unpatched rows and a patched one.
    """
    row = row_bytes(model, tokens)
    allowed = budget or usual_budget()
    patched = allowed // row - BASE_ROWS
    if budget is None:
        patched = max(_LEAST, patched)
    elif patched < 1:
        least = size_text((BASE_ROWS + 1) * row)
        raise UsageError(f"a budget of {size_text(budget)} holds no walk of {tokens} tokens; it takes {least}")
    walks = max(1, -(-cells // patched))
    # Walks of equal size: the weights are read as often, and the largest walk is smaller.
    rows = BASE_ROWS + -(-cells // walks)
    return Memory(budget=allowed, predicted=rows * row, rows=rows, walks=walks)


def plan_stepwise(model: LoadedModel, tokens: int, cells: int, recorded: int, budget: int | None) -> Memory:
    """Return what one forward pass a cell takes: the logits of every token, and `recorded` activations beside them."""
    size = 2 if model.card.dtype in ("float16", "bfloat16") else 4
    kept = (tokens * model.card.vocab + recorded * tokens * _residual_width(model)) * size
    return Memory(budget or usual_budget(), row_bytes(model, tokens) + kept, rows=1, walks=2 + cells)


def usual_budget() -> int:
    """Return the bytes that a walk's rows may take where nobody says otherwise."""
    return min(USUAL_BUDGET, free_bytes() // SHARE_OF_FREE)


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
    inside = tokens * (19 * width + 1.2 * max(widths, default=width))
    return int(max(inside, 2 * model.card.vocab) * size)


def free_bytes() -> int:
    """Return the memory that may be used on this machine without pushing anything out, or a cautious 2 GB."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        # Only Linux keeps this file; elsewhere MLX knows what the device may use.
        most = int(mx.device_info().get("max_recommended_working_set_size", 0))
        return max(most - mx.get_active_memory(), 2 << 30)


class Meter:
    """Measures the peak of MLX's memory above what was held when it was made."""

    def __init__(self) -> None:
        mx.reset_peak_memory()
        self.held = mx.get_active_memory()

    def peak(self) -> int:
        return max(0, mx.get_peak_memory() - self.held)


def _residual_width(model: LoadedModel) -> int:
    norms = [value.shape[0] for block in blocks_of(model.module)[:1] for _, value in tree_flatten(block.parameters())
             if value.ndim == 1]  # fmt: skip
    return max(norms, default=model.card.vocab)
