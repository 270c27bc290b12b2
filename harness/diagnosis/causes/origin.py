"""The operation that a value which is not finite goes back to, and what makes such a value disappear.

The value is followed from the output of the module back, element by element: not the first infinity of the run is the
cause, for a `where` or a cap may throw it away, but the one that reaches the output. Which element of an operand
reaches which element of a result is found by experiment: the operation is called again with some elements replaced by
1, and those matter without which the result is finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness.diagnosis.trail.operations import Operation, Replay
from harness.metrics.host import host_values
from harness.metrics.layouts import layout_of

Elements = npt.NDArray[np.int64]
"""Flat indices."""

_LOOKS = (
    "isnan", "isinf", "isfinite", "isneginf", "isposinf", "any", "all", "equal", "not_equal", "greater", "less",
    "greater_equal", "less_equal", "array_equal", "allclose", "stop_gradient", "zeros_like", "ones_like", "full_like",
    "eq", "ne", "gt", "ge", "lt", "le",
)  # fmt: skip
"""Operations that look at a value, and mostly leave it to others to do something about it."""


@dataclass(frozen=True)
class FaultOrigin:
    """Where a value that is not finite comes from: the operation, an element of its result, and whether it is made
    there or only brought in, by a constant or an array that no operation returned."""

    operation: Operation
    element: int
    brought_in: bool


def origin_of(replay: Replay) -> FaultOrigin | None:
    """Return where the first value that is not finite in a module's output comes from.

    An output that is finite hid something: then it is the first operation that makes a NaN or +inf of operands without
    one, else the first -inf.
    """
    for hard in (True, False):
        for array in replay.returned:
            element = _first(array, hard)
            if element is not None and (maker := replay.maker_of(array)) is not None:
                return _back(replay, maker, element)
    return _earliest(replay)


def hiders(replay: Replay) -> list[Operation]:
    """Return the operations that are given what is not finite and return finite numbers, integers or truth values."""
    found = [each for each in replay.operations if each.result.finite and any(not o.finite for o in each.arrays)]
    return [each for each in found if each.name not in _LOOKS] or found


def _earliest(replay: Replay) -> FaultOrigin | None:
    bad = [i for i, each in enumerate(replay.operations) if not each.result.finite]
    for found in ([i for i in bad if replay.operations[i].result.hard], bad):
        if found:
            maker = next((i for i in found if replay.operations[i].made_here), found[0])
            made = replay.operations[maker]
            return _back(replay, maker, _first(made.kept.result, made.result.hard))
    return None


def _back(replay: Replay, maker: int, element: int | None) -> FaultOrigin:
    """Follow an element back; a NaN that is made of an -inf which is only brought in, as by a mask, is made there."""
    operation, element, of_a_mask = replay.operations[maker], element or 0, None
    while True:
        if operation.name in ("softmax", "scaled_dot_product_attention") and operation.empty_rows:
            return _behind_the_row(replay, operation, element)
        fed = _feeding(operation, element)
        if fed is None:
            brought = not operation.made_here and any(o.number is not None and not o.finite for o in operation.operands)
            return _or(of_a_mask, FaultOrigin(operation, element, brought))
        number, other = fed
        if (
            _value(operation.kept.result, element) != -np.inf
            and _value(operation.kept.arrays()[number], other) == -np.inf
        ):
            of_a_mask = FaultOrigin(operation, element, False)
        made_by = operation.arrays[number].made_by
        if made_by is None:
            return _or(of_a_mask, FaultOrigin(operation, element, True))
        operation, element = replay.operations[made_by], other


def _or(of_a_mask: FaultOrigin | None, origin: FaultOrigin) -> FaultOrigin:
    return of_a_mask if of_a_mask and origin.brought_in else origin


def _behind_the_row(replay: Replay, operation: Operation, element: int) -> FaultOrigin:
    """An empty row is the mask's, unless a score of it left the range."""
    here = FaultOrigin(operation, element, False)
    scores = operation.arrays[0]
    if operation.name != "softmax" or scores.made_by is None:
        return here
    values = host_values(operation.kept.arrays()[0])
    row = np.flatnonzero(np.isneginf(values).reshape(-1, values.shape[-1])[element // values.shape[-1]])
    for column in row[:64]:
        at = element // values.shape[-1] * values.shape[-1] + int(column)
        origin = _back(replay, scores.made_by, at)
        if not origin.brought_in and origin.operation.made_here:
            return origin
    return here


def _feeding(operation: Operation, element: int) -> tuple[int, int] | None:
    """Return the array and the element of it that alone keep an element of the result from being finite, or None."""
    arrays = operation.kept.arrays()
    bad = {i: found for i, array in enumerate(arrays) if (found := _bad(array)).size}
    if not bad or not _finite(operation, element, bad, {}):
        return None
    for number in sorted(bad, key=lambda i: _age(operation, i)):
        if not _finite(operation, element, bad, {number: bad[number]}):
            return number, _one(operation, element, bad, number)
    number = min(bad)
    return number, int(bad[number][0])


def _one(operation: Operation, element: int, bad: dict[int, Elements], number: int) -> int:
    """Halve the elements of one array until one is left that does it alone."""
    left = bad[number]
    while left.size > 1:
        half = left[: left.size // 2]
        if not _finite(operation, element, bad, {number: half}):
            left = half
        elif not _finite(operation, element, bad, {number: left[half.size :]}):
            left = left[half.size :]
        else:
            break
    return int(left[0])


def _finite(operation: Operation, element: int, bad: dict[int, Elements], left: dict[int, Elements]) -> bool:
    """Return whether an element of the result is finite where all bad elements but those of `left` are 1."""

    def change(number: int, array: mx.array) -> mx.array:
        if number not in bad:
            return array
        healed = np.setdiff1d(bad[number], left.get(number, np.empty(0, np.int64)))
        if not healed.size:
            return array
        flat = mx.array(array).reshape(-1)
        flat[mx.array(healed)] = 1
        return flat.reshape(array.shape)

    return bool(np.isfinite(_value(operation.kept.again(change), element)))


def _age(operation: Operation, number: int) -> int:
    made_by = operation.arrays[number].made_by
    return -1 if made_by is None else made_by


def _bad(array: mx.array) -> Elements:
    if layout_of(array) is None:
        return np.empty(0, np.int64)
    return np.flatnonzero(~np.isfinite(host_values(array)))


def _first(array: mx.array, hard: bool) -> int | None:
    if layout_of(array) is None:
        return None
    values = host_values(array).reshape(-1)
    found = np.flatnonzero(np.isnan(values) | (values == np.inf) if hard else ~np.isfinite(values))
    return int(found[0]) if found.size else None


def _value(array: mx.array, element: int) -> float:
    return float(host_values(array.reshape(-1)[element : element + 1])[0])
