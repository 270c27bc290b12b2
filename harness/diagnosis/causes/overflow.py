"""Rules about overflows: the value that float64 has, beyond the dtype of the run, by what was computed."""

from __future__ import annotations

import re

from harness.diagnosis.causes.arithmetic import (
    ADDS,
    MATMULS,
    MULTIPLIES,
    OVERFLOW,
    QUANTISED,
    QuantizedGroup,
    group_beyond,
    number,
    size_of,
)
from harness.diagnosis.causes.evidence import BLOCK, headroom_trail, headrooms, placed
from harness.diagnosis.causes.facts import Facts
from harness.diagnosis.outcome.nouns import PlacedFinding
from harness.diagnosis.trail.operations import Operation
from harness.metrics.layouts import LAYOUTS

_MLP = re.compile(r"(^|\.)(\w*mlp|feed_forward|ffn|moe|block_sparse_moe|experts|switch_mlp|shared_experts?|ff)(\.|$)")
_IS_ATTENTION = re.compile(r"(^|\.)\w*(attn|attention)\w*$")
_PROJECTIONS = (*MATMULS, *QUANTISED)
_PRODUCTS = (*MULTIPLIES, "square", "pow", "power")
_SCORES = ("matmul", "rmatmul", "einsum", "softmax", "scaled_dot_product_attention", "logsumexp")
_EXPONENTIALS = ("exp", "exp2", "expm1", "cosh", "sinh")


def in_a_group(facts: Facts) -> bool:
    """A group of quantised weights is out of range, or not finite, when it is dequantised."""
    return _group(facts) is not None


def in_the_residual(facts: Facts) -> bool:
    return _is(facts, ADDS) and bool(BLOCK.search(facts.suspect.module))


def in_an_mlp(facts: Facts) -> bool:
    return _is(facts, (*_PRODUCTS, *_PROJECTIONS)) and bool(_MLP.search(facts.suspect.module)) and not in_a_group(facts)


def in_scores(facts: Facts) -> bool:
    return _is(facts, _SCORES) and bool(_IS_ATTENTION.search(facts.suspect.module))


def elsewhere(facts: Facts) -> bool:
    """In a head, a router, a rotation, a norm, an embedding's scale."""
    other = (in_a_group, in_the_residual, in_an_mlp, in_scores)
    return facts.verdict.kind == OVERFLOW and not any(applies(facts) for applies in other)


def _is(facts: Facts, names: tuple[str, ...]) -> bool:
    return facts.verdict.kind == OVERFLOW and facts.guilty is not None and facts.guilty.name in names


def group(facts: Facts) -> PlacedFinding:
    found = _group(facts)
    assert found is not None
    limit = LAYOUTS[_dtype(facts)].limit
    overflow = found.weight == found.weight and found.weight != float("inf")
    said = f"overflow: dequantising takes {found}, beyond {_dtype(facts)}'s {number(limit)}" if overflow else (
        f"dequantising is not finite at {found}")  # fmt: skip
    return placed(
        facts, "DIA211", said, row=found.row, group=found.group, scale=found.scale, bias=found.bias,
        weight=found.weight, limit=limit,
        remedy="look at the scale and the bias of this group, and quantise the tensor again"
        + (f"; {wide}" if overflow and (wide := wider(_dtype(facts), found.weight)) else ""),
    )  # fmt: skip


def residual(facts: Facts) -> PlacedFinding:
    assert facts.guilty is not None
    limit = facts.verdict.limit
    return placed(
        facts, "DIA203",
        f"overflow: the residual stream leaves {facts.verdict.dtype}: {said(facts)}; before it the headroom of the "
        f"blocks was {headrooms(facts.trail, facts.suspect)}",
        remedy=_remedy(facts, "no module is wrong, their sum is"), limit=limit, value=facts.verdict.value,
        summands=[size_of(operand) for operand in facts.guilty.operands],
        headroom_trail=headroom_trail(facts.trail, facts.suspect),
    )  # fmt: skip


def mlp(facts: Facts) -> PlacedFinding:
    assert facts.guilty is not None
    projected = facts.guilty.name in _PROJECTIONS
    step = f"in the projection {_stage(facts.suspect.module)}" if projected else "in the product itself"
    return placed(
        facts, "DIA204", f"overflow {step} ({_line(facts.guilty)}): {said(facts)}",
        remedy=_remedy(facts), stage="projection" if projected else "product", value=facts.verdict.value,
        limit=facts.verdict.limit, operands=[size_of(operand) for operand in facts.guilty.operands],
    )  # fmt: skip


def scores(facts: Facts) -> PlacedFinding:
    assert facts.guilty is not None
    remedy, scaled = _remedy(facts), _scaled(facts)
    if scaled is not None:
        remedy = f"scale before the product: {number(scaled)} fits {facts.verdict.dtype}; or {remedy}"
    return placed(
        facts, "DIA212", f"overflow of the scores ({_line(facts.guilty)}): {said(facts)}", remedy=remedy,
        value=facts.verdict.value, limit=facts.verdict.limit, scaled=scaled,
        operands=[size_of(operand) for operand in facts.guilty.operands],
    )  # fmt: skip


def other(facts: Facts) -> PlacedFinding:
    assert facts.guilty is not None
    remedy = _remedy(facts)
    if facts.guilty.name in _EXPONENTIALS:
        remedy = f"subtract the maximum before `{facts.guilty.name}`" + ("; or " + remedy if _wider(facts) else "")
    return placed(
        facts, "DIA214", f"overflow in {_line(facts.guilty)}: {said(facts)}", remedy=remedy,
        value=facts.verdict.value, limit=facts.verdict.limit,
    )  # fmt: skip


def said(facts: Facts) -> str:
    """Return the arithmetic and the limit that it passes."""
    return f"{facts.verdict.text}, {facts.verdict.beyond()}"


def wider(dtype: str, value: float) -> str:
    """Return what run has room for a value, or nothing: the range of float32 is that of bfloat16."""
    room = [each for each in ("bfloat16", "float32") if LAYOUTS[each].limit > max(1.1 * LAYOUTS[dtype].limit, value)]
    return f"run it in {' or '.join(room)}" if room else ""


def _wider(facts: Facts) -> str:
    return wider(facts.verdict.dtype, abs(facts.verdict.value or 0.0))


def _remedy(facts: Facts, because: str = "") -> str:
    wide = _wider(facts) or "no wider dtype of a run holds it: make what goes in smaller, as by scaling before it"
    return f"{because}: {wide}" if because else wide


def _line(operation: Operation) -> str:
    return f"`{operation.name}`, `{operation.text}`, {operation.source}" if operation.text else f"`{operation.name}`"


def _stage(module: str) -> str:
    last = module.rsplit(".", 1)[-1]
    return "after the product" if re.search(r"down|c_proj|w2|out|fc2|wo|dense_4h", last) else "before the product"


def _dtype(facts: Facts) -> str:
    return facts.guilty.result.dtype if facts.guilty else ""


def _group(facts: Facts) -> QuantizedGroup | None:
    guilty = facts.guilty
    if guilty is None or guilty.name not in (*QUANTISED, "dequantize") or guilty.result.dtype not in LAYOUTS:
        return None
    return group_beyond(guilty, LAYOUTS[guilty.result.dtype].overflow)


def _scaled(facts: Facts) -> float | None:
    """Return the score as it is after it is scaled, if it overflows before and would fit after."""
    if facts.guilty is None or facts.guilty.name not in ("matmul", "rmatmul", "einsum") or facts.verdict.value is None:
        return None
    scale = _applied(facts) or getattr(dict(facts.root.named_modules())[facts.suspect.module], "scale", None)
    if not isinstance(scale, float):
        width = facts.guilty.operands[0].shape[-1]
        scale = width**-0.5
    value = abs(facts.verdict.value * scale)
    return value if value < facts.verdict.limit else None


def _applied(facts: Facts) -> float | None:
    """Return the number that the scores are multiplied with, or divided by, once they are made."""
    operations = facts.replay.operations
    made = next(i for i, each in enumerate(operations) if each is facts.guilty)
    for each in operations[made + 1 :]:
        numbers = [operand.number for operand in each.operands if operand.number]
        if numbers and any(operand.made_by == made for operand in each.operands):
            if each.name in MULTIPLIES:
                return abs(numbers[0])
            if each.name in ("truediv", "itruediv", "divide"):
                return 1 / abs(numbers[0])
    return None
