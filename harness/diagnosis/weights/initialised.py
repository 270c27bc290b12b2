"""Does a tensor still hold what MLX starts it with?

Linear layers, those of experts (SwitchLinear) and of heads (MultiLinear) start uniform within 1/sqrt(inputs),
convolutions within 1/sqrt(inputs x kernel), embeddings normal with the deviation 1/sqrt(width), norms as ones. The
largest value and the mean squares and fourth powers are held against those of such a draw, in units of their own
standard errors. A fresh tensor is missed once in 3 million (ERRORS, two moments); a tensor of normal weights of any
deviation passes for a uniform one of 1,024 values in less than one of 10^12 cases, since its largest value lies beyond
3 deviations and a uniform's at 1.73; and for a new embedding only with its very deviation, to 2 % at a million values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod, sqrt
from typing import Any

from harness.diagnosis.weights.tensors import Tensor
from harness.metrics.host import widened
from harness.metrics.layouts import layout_named
from harness.vocabulary import RowSummary

ERRORS = 5.3
"""Standard errors: of normal deviates, one in 10 million is farther away."""
LEAST, SAMPLE = 1024, 1 << 20
"""Values below which a tensor is not judged, and of how many it is judged."""
ROUNDED, QUANTISED = 0.01, 0.08
"""By what share the largest value and the moments may be off: bfloat16 moves a value by 0.4 %, an NVFP4 scale by 6 %,
and 3 bits add 2 % to the mean square."""
EMBEDDING = re.compile(r"(embed|wte|wpe|word_emb)[^.]*\.weight$")
ADAPTER = re.compile(r"(^|\.)(lora_|adapter)")


def initial(tensor: Tensor, counts: RowSummary) -> str:
    """Return what MLX starts such a tensor with, if it is that; otherwise nothing."""
    layout = layout_named(tensor.dtype)
    if layout is None or not counts.finite or counts.absmax is None or not is_judged(tensor.name, tensor.shape):
        return ""
    values = widened(layout.floats(next(tensor.pieces())[1][:SAMPLE]))
    if len(tensor.shape) == 1:
        return "all 1" if values.size and (values == 1).all() else ""
    return start_of(tensor.name, tensor.shape, values, counts.absmax)


def is_judged(name: str, shape: Sequence[int]) -> bool:
    """Return whether a tensor is large enough to say what it was drawn from, or the vector of a norm. An adapter is
    meant to start as it does.
    """
    return name.endswith("weight") and not ADAPTER.search(name) and (len(shape) == 1 or prod(shape) >= LEAST)


def start_of(name: str, shape: Sequence[int], values: Any, absmax: float, slack: float = ROUNDED) -> str:
    """Return what MLX starts a matrix with, if its values (float64, flat) are that up to a share; otherwise nothing."""
    if EMBEDDING.search(name):
        deviation = shape[-1] ** -0.5
        if _moments(values / deviation, (1.0, 2.0), (3.0, 96.0), slack):
            return f"normal with the deviation 1/sqrt({shape[-1]})"
    # MLX 0.32.3 counted every channel as an input of each kernel of a depthwise convolution, 0.32.4 counts one.
    older = {prod(shape)} if len(shape) > 2 and shape[-1] == 1 else set()
    for inputs in {shape[-1], prod(shape[1:]), *older}:
        bound = inputs**-0.5
        low = 1 - slack - 16 / prod(shape)
        if low < absmax / bound <= 1 + slack and _moments(values / bound, (1 / 3, 4 / 45), (1 / 5, 16 / 225), slack):
            return f"uniform within 1/sqrt({inputs})"
    return ""


def _moments(x: Any, square: tuple[float, float], fourth: tuple[float, float], slack: float) -> bool:
    """Whether mean square and mean fourth power, each (mean, variance of one value), are those of independent draws."""
    return all(
        abs(float((x**power).mean()) - mean) <= ERRORS * sqrt(variance / x.size) + slack * mean
        for power, (mean, variance) in ((2, square), (4, fourth))
    )
