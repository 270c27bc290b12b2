"""Logits on the host: one row `[vocab]` as float64, and what it is made of.

Widening happens here, by the bits and before any arithmetic. A device may flush subnormal numbers while it converts,
and in some builds its own `max` has dropped a NaN; so what is finite is decided by NumPy, on the widened values.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness.vocabulary import RowSummary
from harness.vocabulary.errors import HarnessError

Row = npt.NDArray[np.float64]


def host_row(logits: Any) -> Row:
    """Return the logits of one token as float64 `[vocab]`, each value exactly as it was.

    Takes an `mx.array` or a NumPy array `[vocab]` of any float dtype. Raises HarnessError for anything else.
    """
    values = _from_device(logits) if isinstance(logits, mx.array) else np.asarray(logits)
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.floating):
        dtype, shape = getattr(logits, "dtype", values.dtype), list(values.shape)
        raise HarnessError(f"logits of dtype {dtype} and shape {shape}; one row [vocab] of a float dtype is needed")
    return values.astype(np.float64)


def _from_device(logits: mx.array) -> npt.NDArray[Any]:
    """Return the array in its own dtype; bfloat16, which NumPy lacks, as the float32 whose upper half it is."""
    if logits.dtype != mx.bfloat16:
        return np.array(logits)
    upper = np.array(logits.view(mx.uint16)).astype(np.uint32)
    return (upper << 16).view(np.float32)


def summarize(row: Row) -> RowSummary:
    """Count what is not finite in a row `[vocab]`, with the first such id and the largest finite magnitude."""
    finite = np.isfinite(row)
    good = np.abs(row[finite])
    return RowSummary(
        nan=int(np.isnan(row).sum()),
        pos_inf=int(np.isposinf(row).sum()),
        neg_inf=int(np.isneginf(row).sum()),
        absmax=float(good.max()) if good.size else None,
        first=None if finite.all() else int(finite.argmin()),
    )


def suppressed(clean: Row, row: Row) -> tuple[int, ...]:
    """Return the ids that are -inf in both rows: tokens the model rules out, such as padding of the vocabulary."""
    return tuple(int(token) for token in np.flatnonzero(np.isneginf(clean) & np.isneginf(row)))


def finite_part(clean: Row, row: Row) -> tuple[Row, Row] | None:
    """Return both rows without the ids that are -inf in both, or None where another is not finite or none is left."""
    kept = ~(np.isneginf(clean) & np.isneginf(row))
    clean, row = clean[kept], row[kept]
    return (clean, row) if clean.size and np.isfinite(clean).all() and np.isfinite(row).all() else None
