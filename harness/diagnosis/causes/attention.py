"""A value that is not finite, in a slot that a mask hides: 0 x NaN is NaN, so it reaches who must not see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness.diagnosis.trail.masks import blocked, fused_attention
from harness.metrics.host import host_values


@dataclass(frozen=True)
class Leak:
    """Slots of keys or values that are not finite and that a mask blocks for all later queries."""

    what: str
    value: str
    slots: tuple[int, ...]
    blocked: int
    queries: int
    reached: int


def leak_of(root: Any, ids: Sequence[int]) -> Leak | None:
    """Repeat a run and return the leak at its first fused attention that is handed such a slot, or None.

    A causal mask hides a slot from the queries before it only; those leak as well, but the slot is read by rights
    later, so that its value and not the mask is the fault.
    """
    found: list[Leak | None] = []

    def look(out: mx.array, queries: mx.array, keys: mx.array, values: mx.array, mask: Any = None, **_: Any) -> None:
        if not found and isinstance(mask, mx.array) and mask.ndim >= 2:
            for what, array in (("value", values), ("key", keys)):
                bad = _slots(array)
                if bad.size:
                    found.append(_leak(what, array, bad, mask, out))
                    break

    with fused_attention(look):
        root(mx.array([list(ids)]))
    return found[0] if found else None


def leak_through(mask: mx.array, slots: Sequence[int], what: str, value: str) -> Leak | None:
    """Return the leak of slots that a mask hides from all later queries, judged by the mask alone."""
    hidden = _hidden(mask)
    found = [slot for slot in slots if slot < hidden.shape[1] and _is_hidden(hidden, slot)]
    if not found:
        return None
    columns = hidden[:, found].all(axis=1)
    return Leak(what, value, tuple(found), int(columns.sum()), hidden.shape[0], int(columns.sum()))


def _hidden(mask: mx.array) -> npt.NDArray[np.bool_]:
    """Return `[queries, slots]`: what a mask hides for every batch row and head."""
    hidden: npt.NDArray[np.bool_] = host_values(blocked(mask).astype(mx.float32)) > 0
    everywhere: npt.NDArray[np.bool_] = np.all(hidden.reshape(-1, *hidden.shape[-2:]), axis=0)
    return everywhere


def _is_hidden(hidden: npt.NDArray[np.bool_], slot: int) -> bool:
    queries = hidden.shape[0]
    return bool(hidden[_after(slot - (hidden.shape[1] - queries), queries), slot].all())


def _slots(array: mx.array) -> npt.NDArray[np.int64]:
    """Return the slots of `[batch, heads, slots, width]` that hold something not finite."""
    values = host_values(array)
    return np.flatnonzero(~np.isfinite(values).all(axis=(0, 1, 3)))


def _leak(what: str, array: mx.array, bad: npt.NDArray[np.int64], mask: mx.array, out: mx.array) -> Leak | None:
    hidden = _hidden(mask)
    queries = hidden.shape[0]
    slots = [int(slot) for slot in bad if _is_hidden(hidden, int(slot))]
    if not slots:
        return None
    columns = hidden[:, slots].all(axis=1)
    broken = ~np.isfinite(host_values(out)).all(axis=(0, 1, 3))
    value = "NaN" if np.isnan(host_values(array)[:, :, slots]).any() else "inf"
    return Leak(what, value, tuple(slots), int(columns.sum()), queries, int((columns & broken).sum()))


def _after(slot: int, queries: int) -> slice:
    """The queries that a causal mask lets see the slot: those after it, or itself where it is the last."""
    return slice(max(slot + 1, 0), queries) if slot + 1 < queries else slice(max(slot, 0), queries)
