"""Seeded weights that are the same on every machine and make patching visible.

They come from the raw output of a PCG64 generator, whose bits are fixed for all NumPy releases and platforms: integers
scaled to a uniform. (Normal deviates differ between chips in MLX and may change between NumPy releases.) Every
parameter has a stream of its own, seeded by the seed and the parameter's name, so neither the order of parameters nor
the dtype changes a value before it is rounded.

The sizes: the residual stream starts at 1, a block adds a comparable amount, and logits have the standard deviation
`logit_scale`.
"""

from __future__ import annotations

import math
import re
from typing import Any
from zlib import crc32

import numpy as np

# Parameters of a block carry its index; all others (embeddings, the last norm, the head) are outside.
IN_BLOCK = re.compile(r"\.\d+\.")
EMBEDDING = re.compile(r"(embed_tokens|wte|wpe|embeddings?|embed)\.weight$")
HEAD = re.compile(r"^(lm_head|.*\.lm_head|output)\.weight$")
BIAS_SIZE = 0.02
# The measure of how much a block matters: at 1.5, patching one MLP moves the l2 recovery by 1 to 50 points.
BLOCK_GAIN = 1.5


def fill(module: Any, seed: int, logit_scale: float) -> None:
    """Give every parameter its value, a function of the seed, the parameter's name and its shape (float32)."""
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_unflatten

    parameters = tree_flatten(module.parameters())
    tied = not any(HEAD.search(name) for name, _ in parameters)
    values = [(name, mx.array(value(name, array.shape, seed, logit_scale, tied))) for name, array in parameters]
    module.update(tree_unflatten(values))


def uniform(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return float32 values in [-1, 1), 24 bits each, from the raw bits of the stream (seed, name)."""
    count = math.prod(shape)
    words = np.random.PCG64([seed, crc32(name.encode())]).random_raw((count + 1) // 2)
    halves = words.astype("<u8").view("<u4")[:count] >> 8
    return (halves.astype(np.float32) * np.float32(2.0**-23) - np.float32(1)).reshape(shape)


def value(name: str, shape: tuple[int, ...], seed: int, logit_scale: float, tied: bool) -> Any:
    if len(shape) >= 2:
        # A uniform on [-1, 1) has the standard deviation 1 / sqrt(3).
        return uniform(name, shape, seed) * np.float32(math.sqrt(3) * _deviation(name, shape, logit_scale))
    if not name.endswith("weight"):
        return uniform(name, shape, seed) * np.float32(BIAS_SIZE)
    # A tied head is the embedding, of size 1; what scales its logits is the norm before it.
    last_norm = tied and not IN_BLOCK.search(name)
    return np.full(shape, logit_scale / math.sqrt(shape[0]) if last_norm else 1.0, np.float32)


def _deviation(name: str, shape: tuple[int, ...], logit_scale: float) -> float:
    """Return the standard deviation of a matrix's values; dividing by the root of its inputs keeps outputs near 1."""
    if EMBEDDING.search(name) and not IN_BLOCK.search(name):
        return 1.0
    return (logit_scale if HEAD.search(name) else BLOCK_GAIN) / math.sqrt(shape[-1])
