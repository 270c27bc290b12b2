"""What is wrong with the weights: every tensor, scales and biases of quantised ones too.

What is looked for: NaN and infinities; tensors that are all zero; values that the run's dtype cannot hold, because they
are over its range or become zero in it; quantisation groups whose scale is zero or not finite; weights that look as MLX
starts a layer, where the same weight of other layers does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.diagnosis.outcome.nouns import SUSPECTED, PlacedFinding
from harness.diagnosis.weights.census import Census, not_finite
from harness.diagnosis.weights.naming import MOST_NAMED, listed, place_of, role_of
from harness.metrics.layouts import layout_named
from harness.vocabulary.words import number_of


def about_the_tensors(found: Sequence[Census], dtype: str | None) -> list[PlacedFinding]:
    """Return what is wrong with the tensors, the most telling first."""
    by_name = {each.tensor.name: each for each in found}
    return [
        *_scales(found, by_name),
        *_not_finite(found),
        *_too_wide(found, dtype),
        *_zero(found),
    ]


def swallowed(before: Sequence[Census], after: Mapping[str, Census]) -> Iterator[PlacedFinding]:
    """Yield the tensors that were not finite before quantising and look sound after it."""
    for each in before:
        now = after.get(each.tensor.name)
        if each.counts.finite or now is None or now.tensor.dtype == each.tensor.dtype or not now.counts.finite:
            continue
        scales = after.get(each.tensor.name.removesuffix("weight") + "scales")
        if scales is not None and not scales.counts.finite:
            continue
        row, column = row_and_column(each.counts.first, each.tensor.shape)
        yield PlacedFinding.of(
            "DIA103",
            f"{each.tensor.name} holds {each.counts.text()} before quantising, and only finite numbers after it",
            place_of(each.tensor.name, row, column),
            **each.counts.evidence,
            first=[row, column],
            quantised_dtype=now.tensor.dtype,
        )


def row_and_column(index: int | None, shape: Sequence[int]) -> tuple[int | None, int | None]:
    """Return (row, column) of a flat index, all axes but the last taken as one; a vector has no rows."""
    if index is None or len(shape) < 2:
        return None, index
    return divmod(index, shape[-1])


def _element(row: int | None, column: int | None) -> str:
    """Name an element of a tensor; a vector has no rows, and a number has no columns either."""
    named = [f"{name} {value}" for name, value in (("row", row), ("column", column)) if value is not None]
    return ", ".join(named) or "and only value"


def _others(each: Census) -> str:
    """Name the elements after the first, where they are few."""
    count = sum(each.counts.evidence.values())
    if not 1 < count <= MOST_NAMED:
        return ""
    rest = [_element(*row_and_column(index, each.tensor.shape)) for index in not_finite(each.tensor)][1:]
    return f", then {'; '.join(rest)}"


def _not_finite(found: Sequence[Census]) -> Iterator[PlacedFinding]:
    for each in found:
        if each.counts.finite or _is_scale(each.tensor.name, {other.tensor.name for other in found}):
            continue
        row, column = row_and_column(each.counts.first, each.tensor.shape)
        if _rules_out(each):
            continue
        cast = each.tensor.dtype == "float16" and not each.counts.nan
        message = f"{each.tensor.name} ({each.tensor.dtype}) holds {each.counts.text()}; first {_element(row, column)}"
        message += _others(each)
        evidence: dict[str, Any] = {
            **each.counts.evidence,
            "first": [row, column],
            "absmax": each.counts.absmax,
            "shape": list(each.tensor.shape),
        }
        if cast:
            message += "; infinities without a NaN are what a cast from a wider dtype makes"
            yield PlacedFinding.of("DIA104", message, place_of(each.tensor.name, row, column), SUSPECTED, **evidence)
        else:
            yield _as_swallowable(
                PlacedFinding.of("DIA101", message, place_of(each.tensor.name, row, column), **evidence), each
            )


def _rules_out(each: Census) -> bool:
    """Whether the only thing in a matrix that is not finite are columns of -inf, which rule ids out."""
    layout = layout_named(each.tensor.dtype)
    if layout is None or not each.counts.only_neg_inf or len(each.tensor.shape) != 2:
        return False
    columns = (each.tensor.flat().reshape(each.tensor.shape) == (layout.infinity | layout.sign)).all(axis=0)
    return bool(0 < columns.sum() < columns.size and columns.sum() * each.tensor.shape[0] == each.counts.neg_inf)


def _as_swallowable(seen: PlacedFinding, each: Census) -> PlacedFinding:
    """A NaN in a matrix that can be quantised is the fault that quantising would hide."""
    if not each.counts.nan or len(each.tensor.shape) < 2 or not each.tensor.name.endswith("weight"):
        return seen
    return replace(seen, message=f"{seen.message}; quantising this tensor would swallow it", fault="F15")


def _too_wide(found: Sequence[Census], dtype: str | None) -> Iterator[PlacedFinding]:
    over = [each for each in found if each.over]
    flushed = [each for each in found if each.flushed]
    lost = sum(each.flushed for each in flushed)
    if over:
        first = max(over, key=lambda each: each.over)
        row, column = row_and_column(first.first_over or 0, first.tensor.shape)
        yield PlacedFinding.of(
            "DIA104",
            f"over the range of {dtype}: {number_of(sum(each.over for each in over), 'weight')}; "
            f"zero in it: {number_of(lost, 'weight')}; over the range in {listed([each.tensor.name for each in over])}",
            place_of(first.tensor.name, row, column),
            over=sum(each.over for each in over),
            flushed=lost,
            tensors=[each.tensor.name for each in over],
            flushed_tensors=[each.tensor.name for each in flushed],
            absmax=first.counts.absmax,
            dtype=dtype,
        )
    elif whole := [each for each in flushed if each.flushed == each.counts.size]:
        yield PlacedFinding.of(
            "DIA104",
            f"all of {listed([each.tensor.name for each in whole])} becomes zero in {dtype}",
            place_of(whole[0].tensor.name),
            over=0,
            flushed=lost,
            tensors=[each.tensor.name for each in whole],
            dtype=dtype,
        )
    elif flushed:
        yield PlacedFinding.of(
            "DIA108",
            f"{lost:,} weights become zero in {dtype}, in {listed([each.tensor.name for each in flushed])}",
            place_of(flushed[0].tensor.name),
            flushed=lost,
            tensors=[each.tensor.name for each in flushed],
        )


def _zero(found: Sequence[Census]) -> Iterator[PlacedFinding]:
    zero = [each for each in found if each.all_zero and _must_not_be_zero(each) and _is_rare(each, found, "all_zero")]
    if zero:
        yield PlacedFinding.of(
            "DIA105",
            f"{listed([each.tensor.name for each in zero])}: every value is 0",
            place_of(zero[0].tensor.name),
            tensors=[each.tensor.name for each in zero],
            shapes=[list(each.tensor.shape) for each in zero],
        )


def _must_not_be_zero(each: Census) -> bool:
    """A bias may well be zero, and so may a vector that is added to something; a matrix may not."""
    return len(each.tensor.shape) >= 2 and min(each.tensor.shape[-2:]) > 1 and each.tensor.name.endswith("weight")


def _scales(found: Sequence[Census], by_name: Mapping[str, Census]) -> Iterator[PlacedFinding]:
    for each in found:
        name = each.tensor.name
        if not _is_scale(name, by_name):
            continue
        bad = _bad_groups(each, by_name[_packed(name)])
        if bad.size:
            row, group = row_and_column(int(bad[0]), each.tensor.shape)
            kind = "zero" if each.counts.finite else each.counts.text()
            yield PlacedFinding.of(
                "DIA102",
                f"{name}: {bad.size:,} of {each.counts.size:,} groups are {kind}; first row {row}, group {group}",
                place_of(name, row, group),
                groups=int(bad.size),
                row=row,
                group=group,
            )


def _bad_groups(each: Census, packed: Census) -> npt.NDArray[np.int64]:
    """Return the flat groups of a scale tensor that are not finite or, under weights that are not, zero."""
    if not each.counts.finite or each.tensor.name.endswith("biases"):
        return np.fromiter(() if each.counts.finite else not_finite(each.tensor), np.int64)
    bits = each.tensor.flat()
    layout = layout_named(each.tensor.dtype)
    if layout is None:
        return np.flatnonzero(bits == 0xFF)  # the NaN of a shared exponent; its zero is a small number
    zero = np.flatnonzero(layout.magnitudes(bits) == 0)
    if not zero.size:
        return zero
    words = packed.tensor.flat().reshape(bits.size, -1)
    return zero[words[zero].any(axis=1)]


def _is_scale(name: str, names: Any) -> bool:
    # An ordinary layer has a `bias`, never `biases`.
    return name.endswith((".scales", ".biases")) and _packed(name) in names


def _packed(name: str) -> str:
    return re.sub(r"(scales|biases)$", "weight", name)


def _is_rare(each: Census, found: Sequence[Census], what: str) -> bool:
    """Whether at most half of the tensors of a name share a property: what most have, somebody means."""
    siblings = _siblings(each, found)
    return len(siblings) == 1 or 2 * sum(getattr(other, what) for other in siblings) <= len(siblings)


def _siblings(each: Census, found: Sequence[Census]) -> list[Census]:
    """Return the tensors of the same name in all layers, this one among them."""
    return [other for other in found if role_of(other.tensor.name) == role_of(each.tensor.name)]
