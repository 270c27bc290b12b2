"""Whether an operation's operands explain its result: can sums and products of this size leave the dtype?"""

from __future__ import annotations

import math

from harness.diagnosis.trail.operations import Operand, Operation
from harness.metrics.layouts import LAYOUTS

ADDS = ("add", "radd", "iadd", "subtract", "sub", "isub", "addmm", "clip_residual")


def overflows(operation: Operation) -> bool:
    """Whether finite operands give an infinity that float64 would place beyond the dtype: an overflow, not a fault."""
    result = operation.result
    if result.counts is None or result.dtype not in LAYOUTS:
        return False
    if any(operand.counts and not operand.counts.finite for operand in operation.operands):
        return False
    return bool(result.counts.pos_inf or result.counts.neg_inf) and _could_reach(operation, LAYOUTS[result.dtype].limit)


def lost_scalar(operation: Operation) -> tuple[float, str] | None:
    """Return an added number that its dtype cannot hold, and the dtype."""
    dtype = operation.result.dtype
    if operation.name not in ("add", "radd", "maximum") or dtype not in LAYOUTS:
        return None
    half = LAYOUTS[dtype].smallest / 2
    for operand in operation.operands:
        if operand.number and abs(operand.number) <= half:
            return operand.number, dtype
    return None


def _could_reach(operation: Operation, limit: float) -> bool:
    """Whether operands of these sizes can leave the range at all."""
    sizes = [size_of(operand) for operand in operation.operands]
    sizes = [size for size in sizes if size]
    if operation.name in ADDS and operation.name != "addmm":
        return sum(sizes) >= limit
    if operation.name in ("quantized_matmul", "gather_qmm"):
        return True
    width = max((o.shape[-1] for o in operation.operands if o.shape), default=1)
    terms = width if "mm" in operation.name or "matmul" in operation.name else 1
    if operation.name in ("square", "pow", "power"):
        return sizes[0] ** 2 >= limit if sizes else False
    return terms * math.prod(sizes[:2]) >= limit


def size_of(operand: Operand) -> float:
    if operand.number is not None:
        return abs(operand.number)
    return operand.counts.absmax or 0.0 if operand.counts else 0.0
