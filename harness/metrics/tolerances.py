"""When are two rows of logits the same, and when two recoveries? The one table of tolerances.

Two orders of work over the same numbers round differently, and a deep model carries that on. How far depends on what
the two pieces of work have in common, so a comparison names its `Work` and never writes a number. A wrong row, layer or
position is off by tens of percent.

Rows are compared by their largest difference as a share of the largest logit, recoveries in percentage points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from harness.metrics.host import host_row
from harness.vocabulary import ModelCard, Reading

if TYPE_CHECKING:
    from harness.casefile import Tolerance


class Work(Enum):
    """How the work behind two answers to one question differs: the reason why they may round apart."""

    SAME = "the same kernels on arrays of the same shape: bits are expected, a few roundings of the dtype let pass"
    OTHER_BATCH = "batches of another size, as one-pass and stepwise have them: each size may choose its own kernels"
    OTHER_KERNELS = "the same model compiled, or on another device"
    OTHER_CODE = "the same weights in another implementation, which computes in float64"
    IN_PIECES = "the same prompt read in pieces through a cache"
    OTHER_ORDER = "the same logits in another order, so that a metric sums them otherwise"
    STORED = "a snapshot of this backend, perhaps from another processor, BLAS or release"
    STORED_ELSEWHERE = "a snapshot of another backend: other kernels all the way"
    OTHER_FORMULA = "somebody else's arithmetic, or exact arithmetic: the cases' usual tolerance for the oracle"


SHARES: Mapping[Work, Mapping[str, float]] = {
    Work.SAME: {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2},
    # The halves by their unit roundoff (2^13 and 2^16 times larger), capped far below the effect of a wrong row.
    # Float32: a scan of Mamba moves by 1.3e-5 with an optimised BLAS, and by 1.9e-5 with every operation off by 4 ulp.
    Work.OTHER_BATCH: {"float32": 3e-5, "float16": 2e-2, "bfloat16": 1e-1},
    # One ulp in every operation of 16 layers moves a logit by up to 0.7 % in float16 and 4.4 % in bfloat16.
    Work.OTHER_KERNELS: {"float32": 1e-5, "float16": 1e-2, "bfloat16": 6e-2},
    # Two GELUs are 7e-5 apart on a small model, where its rounding is 1.5e-6.
    Work.OTHER_CODE: {"float32": 1e-5, "float16": 2e-2, "bfloat16": 1e-1},
    Work.IN_PIECES: {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-1},
}
"""Largest |difference| / largest |logit| of two rows that are the same, by dtype."""

AGAIN = 5
"""Times that a broken comparison of bits is asked again. One in six forms is broken every other time on a machine that
is off by an ulp once in a thousand operations."""

NEAR_ESTIMATE = 0.5
"""Points that an estimate of prompts at 1/256 of their distance may be off, however it came down: right ones are by
0.01 to 0.3 on most small models, and by up to 4.2 where experts change over or a scan bends."""

DEPTH = 16
"""Layers up to which the shares hold where the kernels may differ. A deeper model carries on the roundings of more
layers, which are independent: four times the layers give twice the difference, seen with every operation off by an ulp
on 4 to 64 layers, where it was less than that."""

BEYOND = 8.0
"""How many times a share is beyond any rounding: every operation off by 16 ulp makes 8 of them in the halves and 1.2 in
float32."""

QUANTIZED = "quantized"
"""The row of quantized weights with float32 activations: another order moved SmolLM2 in 4 bits by 0.016 points."""

POINTS: Mapping[Work, Mapping[str, float]] = {
    Work.SAME: {"float32": 0.01, "float16": 0.01, "bfloat16": 0.01},
    # The halves: what the bundled cases were seen to need on another machine.
    Work.OTHER_BATCH: {"float32": 0.05, "float16": 2.0, "bfloat16": 10.0},
    Work.OTHER_CODE: {"float32": 0.001},
    Work.OTHER_ORDER: {"float32": 0.05, "float16": 0.05, "bfloat16": 0.05},
    Work.OTHER_FORMULA: {"float32": 0.5, "float16": 0.5, "bfloat16": 0.5},
    # Measured (docs/tolerances.md): another order of summation moves float32 by up to 0.001, and products of 11 bits
    # (TF32) move all float32 sweeps but one by 0.012 or more. The halves of a case that needs more say so in the case.
    Work.STORED: {"float32": 0.01, QUANTIZED: 0.15, "float16": 0.05, "bfloat16": 0.05},
    Work.STORED_ELSEWHERE: {"float32": 0.01, QUANTIZED: 0.15, "float16": 10.0, "bfloat16": 10.0},
}
"""Percentage points between two recoveries that are the same, by the dtype the model computes in."""

BASELINES: Mapping[Work, Mapping[str, float]] = {
    # Another order of summation moves float32 by up to 4e-6, and on SmolLM2 by 8e-6; TF32 by 4e-5 or more.
    Work.STORED: {"float32": 2.5e-5, QUANTIZED: 4e-4, "float16": 1e-4, "bfloat16": 1e-4},
    Work.STORED_ELSEWHERE: {"float32": 2.5e-5, QUANTIZED: 4e-4, "float16": 0.05, "bfloat16": 0.05},
}
"""What two baselines that are the same may differ by as a share of the larger, by dtype."""

BASELINE_SHARE = 5e-3
"""Share of itself that a baseline of somebody else's arithmetic may be off by: the cases' usual tolerance."""

ROUNDINGS: Mapping[str, float] = {"float16": 1.0, "bfloat16": 1.0, "float32": 10.0, "float64": 10.0}
"""How many of its last digits the roundings of a forward pass move a logit by.

Measured as a root mean square against float64 on the same weights (llama, gpt2, qwen2 with vocabularies of 2,048 to
50,257, SmolLM2): 1 to 5 digits in the halves, whose products are summed in float32, and 20 on SmolLM2 in bfloat16; 3
to 10 in float32, whose sums have nothing wider, and 120 on SmolLM2. Summed in another order, as a GPU does, the gap of
one pair moved by 20 of these digits in float32 and by 3 in float16. What the table refuses is rounding on most models.
"""


def row_tolerance(work: Work, dtype: mx.Dtype | str, card: ModelCard | None = None) -> float:
    """Return what two rows may differ by, as a share of the largest logit. A dtype of no row counts as float32.

    The card tells how many layers round before, and in what: some models widen their logits, which are no more exact
    for it.
    """
    share = _of_dtype(SHARES[work], dtype)
    if card is None:
        return share
    return max(share, _of_dtype(SHARES[work], card.dtype)) * math.sqrt(max(1.0, card.layers / DEPTH))


def recovery_tolerance(work: Work, dtype: mx.Dtype | str) -> float:
    """Return what two recoveries may differ by, in percentage points. A dtype of no row counts as float32."""
    return _of_dtype(POINTS[work], dtype)


def baseline_tolerance(work: Work, dtype: str) -> float:
    """Return what two baselines may differ by, as a share of the larger. A dtype of no row counts as float32."""
    return _of_dtype(BASELINES[work], dtype)


def stored_tolerance(
    stated: Tolerance, dtype: str, work: Work = Work.STORED, quantized: bool = False
) -> tuple[float, float]:
    """Return what a case lets stored recoveries (points) and baselines (share) move by on a model of this dtype.

    That is what the case states, else what was measured; between two backends never less than on one.
    """
    measured = QUANTIZED if quantized and dtype == "float32" else dtype
    points = stated.stated("recovery_points", dtype, recovery_tolerance(Work.STORED, measured))
    relative = stated.stated("baseline_relative", dtype, baseline_tolerance(Work.STORED, measured))
    if work is Work.STORED:
        return points, relative
    far_points = stated.stated("cross_backend_points", dtype, recovery_tolerance(work, measured))
    far_relative = stated.stated("cross_backend_relative", dtype, baseline_tolerance(work, measured))
    return max(points, far_points), max(relative, far_relative)


def _of_dtype(row: Mapping[str, float], dtype: mx.Dtype | str) -> float:
    return row.get(str(dtype).removeprefix("mlx.core."), row["float32"])


def work_between(strategy: str, other: str) -> Work:
    """Return how the work behind two answers to one question differs. A sweep in one pass is a batch, and another one
    when what the prompts share is run once; every other strategy makes the same runs again.
    """
    return Work.SAME if strategy == other != "one-pass" else Work.OTHER_BATCH


def same_bits(a: mx.array, b: mx.array) -> bool:
    """Return whether two rows agree in shape, dtype and every bit; NaN equals itself here."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    word = {2: mx.uint16, 4: mx.uint32, 8: mx.uint64}[a.dtype.size]
    return bool(mx.array_equal(a.view(word), b.view(word)))


def relative_difference(a: mx.array, b: mx.array, equal_nan: bool = False) -> float:
    """Return the largest difference as a share of the largest logit of `a`, on the host, where no build drops a NaN.

    Infinities of the same sign at the same ids do not differ, and NaN at the same ids does not where `equal_nan` says
    so; any other value that is not finite makes it inf, and so does another length.
    """
    if a.shape != b.shape:
        return math.inf
    rows = host_row(a), host_row(b)
    equal = rows[0] == rows[1]
    if equal_nan:
        equal |= np.isnan(rows[0]) & np.isnan(rows[1])
    with np.errstate(invalid="ignore"):
        apart = np.where(equal, 0.0, np.abs(rows[0] - rows[1]))
    if not np.isfinite(apart).all():
        return math.inf
    largest = float(np.max(np.abs(rows[0]), where=np.isfinite(rows[0]), initial=0.0))
    return float(apart.max()) / largest if largest else float(apart.max() > 0)


def equal(
    a: mx.array,
    b: mx.array,
    work: Work,
    most: float = math.inf,
    equal_nan: bool = False,
    card: ModelCard | None = None,
) -> bool:
    """Return whether two rows are the same up to the rounding of this work in the dtype of `a`, or in the model whose
    card is given, and up to `most` of the largest logit.
    """
    return same_bits(a, b) or relative_difference(a, b, equal_nan) <= min(row_tolerance(work, a.dtype, card), most)


def equal_readings(a: Reading | None, b: Reading | None, work: Work, dtype: str, least: float = 0.0) -> bool:
    """Return whether two recoveries are the same up to the rounding of this work, or up to `least` points if that is
    more. Where one has no value, both must have the same state, and a missing one equals only a missing one.
    """
    if a is None or b is None or a.value is None or b.value is None:
        return a == b
    return abs(a.value - b.value) <= max(recovery_tolerance(work, dtype), least)
