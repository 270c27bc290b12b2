"""Rules about arithmetic that has no value in float64 either: an empty row, an epsilon, a cancelled difference."""

from __future__ import annotations

import cmath
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from harness.diagnosis.causes.arithmetic import ADDS, DEEP, DIVIDES, INVALID, lost_scalar, size_of, unrounded
from harness.diagnosis.causes.evidence import placed
from harness.diagnosis.causes.facts import Facts
from harness.diagnosis.outcome.nouns import PROVEN, SUSPECTED, PlacedFinding
from harness.diagnosis.trail.operations import Operation
from harness.metrics.layouts import LAYOUTS

_SUBTRACTS = ("sub", "rsub", "isub", "subtract")


def of_an_empty_row(facts: Facts) -> bool:
    return bool(_rows(facts))


def of_an_epsilon(facts: Facts) -> bool:
    return _epsilon(facts) is not None


def of_a_difference(facts: Facts) -> bool:
    return _cancelled(facts) is not None and not of_an_epsilon(facts)


def otherwise(facts: Facts) -> bool:
    other = (of_an_empty_row, of_an_epsilon, of_a_difference)
    return facts.verdict.kind == INVALID and not any(applies(facts) for applies in other)


def empty_row(facts: Facts) -> PlacedFinding:
    rows, guilty = _rows(facts), facts.guilty
    found = placed(
        facts, "DIA205", f"{_named(rows)} may see no key, so the softmax is taken over nothing but -inf",
        PROVEN if guilty else SUSPECTED, rows=list(rows),
    )  # fmt: skip
    return replace(found, place=replace(found.place, token=int(rows[0])))


def epsilon(facts: Facts) -> PlacedFinding:
    lost, guilty = _epsilon(facts), facts.guilty
    assert lost is not None
    assert guilty is not None
    eps, dtype = lost
    return placed(
        facts, "DIA207",
        f"the epsilon {eps:g} is 0 in {dtype} (smallest number {LAYOUTS[dtype].smallest:.3g}), so "
        f"`{guilty.text or guilty.name}` divides by zero: {facts.verdict.text}",
        epsilon=eps, smallest=LAYOUTS[dtype].smallest,
    )  # fmt: skip


def difference(facts: Facts) -> PlacedFinding:
    operation, guilty = _cancelled(facts), facts.guilty
    assert operation is not None
    assert guilty is not None
    left, most = size_of(operation.result), max(map(size_of, operation.operands))
    return placed(
        facts, "DIA208",
        f"`{operation.text or operation.name}` subtracts {most:.5g} to get {left:.3g}, less than "
        f"{operation.result.dtype} resolves; its `{guilty.name}` is not a number: {facts.verdict.text}",
        subtracted=most, left=left,
    )  # fmt: skip


def no_value(facts: Facts) -> PlacedFinding:
    guilty = facts.guilty
    assert guilty is not None
    said = f"`{guilty.name}` in `{guilty.text}` ({guilty.source}) has no value: {facts.verdict.text}"
    remedy = None
    if _is_rounding(facts):
        said += f"; it has one where float64 computes the operands as well: {guilty.result.dtype} rounded one to 0"
        remedy = f"compute what `{guilty.name}` is given in float32"
    return placed(facts, "DIA215", said, remedy=remedy, arithmetic=facts.verdict.text)


def _rows(facts: Facts) -> Sequence[int]:
    guilty, empty = facts.guilty, facts.trail.empty_rows
    if guilty is None:
        return empty.rows if empty else ()
    if guilty.empty_rows and facts.verdict.kind == INVALID:
        return guilty.empty_rows
    # A softmax that is written out subtracts the maximum of the row, -inf, from -inf.
    written_out = guilty.name in _SUBTRACTS and facts.verdict.text == "inf - inf"
    return empty.rows if empty and (written_out or guilty.name == "scaled_dot_product_attention") else ()


def _epsilon(facts: Facts) -> tuple[float, str] | None:
    """Return the number that is added and lost, and the dtype that cannot hold it, where it is what was missing."""
    guilty = facts.guilty
    if facts.verdict.kind != INVALID or guilty is None or guilty.empty_rows:
        return None
    behind = list(_behind(facts, guilty))
    if _is_rounding(facts):
        return next(filter(None, map(lost_scalar, behind)), None)
    # An epsilon that was made an array of the dtype is 0 before it is added.
    eps = _attribute(facts.root, facts.suspect.module, ("eps", "epsilon", "variance_epsilon"))
    dtype = guilty.result.dtype
    added = any(each.name in ADDS and any(size_of(operand) == 0 for operand in each.operands) for each in behind)
    divides = guilty.name in (*DIVIDES, "log")
    if divides and added and isinstance(eps, float) and dtype in LAYOUTS and 0 < eps <= LAYOUTS[dtype].smallest / 2:
        return eps, dtype
    return None


def _cancelled(facts: Facts) -> Operation | None:
    """Return the subtraction before an operation that has a value when both are done in float64."""
    guilty = facts.guilty
    if facts.verdict.kind != INVALID or guilty is None or guilty.empty_rows or not _is_rounding(facts):
        return None
    for operation in _behind(facts, guilty):
        dtype, sizes = operation.result.dtype, [size_of(operand) for operand in operation.operands]
        if operation.name not in _SUBTRACTS or dtype not in LAYOUTS or not sizes or not max(sizes):
            continue
        if size_of(operation.result) < max(sizes) * 2.0 ** (5 - LAYOUTS[dtype].mantissa):
            return operation
    return None


def _is_rounding(facts: Facts) -> bool:
    """Whether the operation has a value where what it is given is computed in float64 as well."""
    assert facts.origin is not None
    try:
        value = unrounded(facts.replay, facts.origin.operation).reshape(-1)[facts.origin.element]
        return cmath.isfinite(value.item())
    except (ValueError, RuntimeError, TypeError, IndexError):
        return False


def _behind(facts: Facts, operation: Operation, depth: int = DEEP) -> Iterator[Operation]:
    """Yield the operations that an operation's operands come from, up to a depth."""
    for operand in operation.operands if depth else ():
        if operand.made_by is not None:
            before = facts.replay.operations[operand.made_by]
            yield before
            yield from _behind(facts, before, depth - 1)


def _attribute(root: Any, module: str, names: Sequence[str]) -> Any:
    owner = dict(root.named_modules()).get(module)
    return next((value for name in names if isinstance(value := getattr(owner, name, None), float)), None)


def _named(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:8])) + (" ..." if len(rows) > 8 else "")
    return f"query {shown}" if len(rows) == 1 else f"queries {shown}"
