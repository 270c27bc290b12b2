"""Numbers on the host, as float64.

Widening happens here, by the bits and before any arithmetic: a device may flush subnormal numbers while it converts.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness.metrics.layouts import Bits, layout_of
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
    return widened(values)


def host_values(array: mx.array) -> npt.NDArray[np.float64]:
    """Return an array of any shape as float64, each value exactly as it was."""
    return widened(_from_device(array))


def host_bits(array: mx.array) -> Bits:
    """Return the bits of a float array, in its shape and without a copy where none is needed."""
    return np.asarray(array.view(getattr(mx, f"uint{8 * array.dtype.size}")))


def widened(values: npt.NDArray[Any]) -> Row:
    """Return values as float64. A signalling NaN is a NaN: the processor's flag for it is no warning of NumPy's."""
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


def _from_device(array: mx.array) -> npt.NDArray[Any]:
    layout = layout_of(array)
    return layout.floats(host_bits(array)) if layout else np.asarray(array)


def suppressed(clean: Row, row: Row) -> tuple[int, ...]:
    """Return the ids that are -inf in both rows: tokens the model rules out, such as padding of the vocabulary."""
    return tuple(int(token) for token in np.flatnonzero(np.isneginf(clean) & np.isneginf(row)))


def finite_part(clean: Row, row: Row) -> tuple[Row, Row] | None:
    """Return both rows without the ids that are -inf in both, or None where another is not finite or none is left."""
    kept = ~(np.isneginf(clean) & np.isneginf(row))
    clean, row = clean[kept], row[kept]
    return (clean, row) if clean.size and np.isfinite(clean).all() and np.isfinite(row).all() else None
