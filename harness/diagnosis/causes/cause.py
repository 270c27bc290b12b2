"""From the first suspect of a trail to the cause: what the guilty operation is, and which known fault looks so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.diagnosis.causes.arithmetic import ADDS, lost_scalar, overflows, size_of
from harness.diagnosis.causes.attention import Leak, leak_of, leak_through
from harness.diagnosis.causes.evidence import BLOCK, at, elements_of, evidence_of, headroom_trail, headrooms, place_of
from harness.diagnosis.outcome.nouns import PROVEN, SUSPECTED, PlacedFinding
from harness.diagnosis.trail.flow import Suspect, Trail
from harness.diagnosis.trail.operations import Replay, replay
from harness.metrics.layouts import LAYOUTS
from harness.vocabulary.errors import described

_EMBEDDING = re.compile(r"(^|\.)(embed\w*|wte|wpe|tok_embeddings|word_embeddings|\w*embeddings?)$")
_MLP = re.compile(r"(^|\.)(\w*mlp|feed_forward|ffn|moe|block_sparse_moe|experts|switch_mlp|shared_experts?|ff)(\.|$)")
_ATTENTION = re.compile(r"(^|\.)(self_attn|attn|attention|\w*attn\w*)(\.|$)")
_IS_ATTENTION = re.compile(r"(^|\.)\w*(attn|attention)\w*$")
_DIVIDES = ("rsqrt", "truediv", "rtruediv", "divide", "reciprocal", "pow", "power", "itruediv", "log")
_PRODUCTS = ("mul", "rmul", "imul", "multiply", "square", "matmul", "addmm", "pow", "power")


def cause_of(root: Any, trail: Trail) -> PlacedFinding:
    """Return what the first suspect of a trail is. Repeats the run to look inside it."""
    suspect = trail.suspect
    assert suspect is not None
    try:
        seen = replay(root, trail.ids, suspect.module, suspect.call, trail.inner())
    except Exception as error:  # noqa: BLE001  the place is proven already; a look inside must not cost it
        seen = Replay()
        note = f"the operation inside could not be replayed ({described(error)})"
    else:
        note = ""
    for look in (_embedding, _masked_row, _leak, _epsilon, _cancelled, _residual, _product, _quantised, _scores):
        found = look(root, trail, suspect, seen)
        if found:
            return found
    return _anything(trail, suspect, seen, note)


def _embedding(root: Any, trail: Trail, suspect: Suspect, seen: Replay) -> PlacedFinding | None:
    if not (suspect.is_leaf or suspect.reads_ids) or not _EMBEDDING.search(suspect.module):
        return None
    elements = elements_of(root, trail, suspect)
    count = suspect.counts.nan + suspect.counts.pos_inf + suspect.counts.neg_inf
    listed = ", ".join(f"(token {token}, dimension {dim}) {value}" for token, dim, value in elements)
    more = f" and {count - len(elements)} more" if count > len(elements) else ""
    return PlacedFinding.of(
        "DIA202",
        f"{suspect.module} returns {suspect.counts.text()}: {listed}{more}; what follows comes from them",
        place_of(trail, suspect),
        PROVEN,
        count=count,
        elements=[list(each) for each in elements],
        token_ids=sorted(
            {trail.ids[token] for token, _, _ in elements if token is not None and token < len(trail.ids)}
        ),
        **evidence_of(trail, suspect, None),
    )


def _masked_row(root: Any, trail: Trail, suspect: Suspect, seen: Replay) -> PlacedFinding | None:
    guilty = seen.guilty
    rows: Sequence[int] = guilty.empty_rows if guilty else ()
    empty = trail.empty_rows
    if not rows and empty and (guilty is None or guilty.name in ("softmax", "scaled_dot_product_attention")):
        rows = empty.rows
    if not rows:
        return None
    return PlacedFinding.of(
        "DIA205",
        f"{at(suspect)}: {_rows(rows)} may see no key, so the softmax is taken over nothing but -inf",
        replace(place_of(trail, suspect), token=int(rows[0])),
        PROVEN if guilty else SUSPECTED,
        rows=list(rows),
        **evidence_of(trail, suspect, guilty),
    )


def _leak(root: Any, trail: Trail, suspect: Suspect, seen: Replay) -> PlacedFinding | None:
    if not _ATTENTION.search(suspect.module):
        return None
    leak = leak_of(root, trail.ids) or _leak_by_mask(root, trail, suspect)
    if leak is None:
        return None
    slot = leak.slots[0]
    return PlacedFinding.of(
        "DIA206",
        f"{at(suspect)}: slot {slot} holds a non-finite {leak.what}; it is masked for {leak.blocked} of "
        f"{leak.queries} queries, and reaches {leak.reached} of those as 0 x {leak.value}",
        replace(place_of(trail, suspect), token=slot),
        PROVEN,
        slots=list(leak.slots),
        masked=True,
        what=leak.what,
        **evidence_of(trail, suspect, seen.guilty),
    )


def _leak_by_mask(root: Any, trail: Trail, suspect: Suspect) -> Leak | None:
    """Attention that is written out, as with a soft cap, is judged by the mask that its module was handed."""
    mask = trail.masks.of(suspect.module)
    if mask is None or not suspect.is_leaf:
        return None
    elements = elements_of(root, trail, suspect)
    slots = sorted({token for token, _, _ in elements if token is not None})
    return leak_through(mask, slots, suspect.module.rsplit(".", 1)[-1], elements[0][2]) if elements else None


def _epsilon(root: Any, trail: Trail, suspect: Suspect, seen: Replay) -> PlacedFinding | None:
    guilty = seen.guilty
    if guilty is None or guilty.name not in _DIVIDES:
        return None
    lost = next(filter(None, map(lost_scalar, seen.operations)), None)
    if lost is None:
        eps = _attribute(root, suspect.module, ("eps", "epsilon", "variance_epsilon"))
        dtype = guilty.result.dtype
        if not isinstance(eps, float) or dtype not in LAYOUTS or eps > LAYOUTS[dtype].smallest / 2:
            return None
        lost = (eps, dtype)
    eps, dtype = lost
    return PlacedFinding.of(
        "DIA207",
        f"{at(suspect)}: the epsilon {eps:g} is 0 in {dtype} (smallest number {LAYOUTS[dtype].smallest:.3g}), so "
        f"`{guilty.text or guilty.name}` divides by zero",
        place_of(trail, suspect),
        PROVEN,
        epsilon=eps,
        smallest=LAYOUTS[dtype].smallest,
        **evidence_of(trail, suspect, guilty),
    )


def _cancelled(root: Any, trail: Trail, suspect: Suspect, seen: Replay) -> PlacedFinding | None:
    """A variance that cancels may come out negative, and then has no root."""
    guilty = seen.guilty
    if guilty is None or guilty.name not in ("sqrt", "rsqrt", "pow", "power", *_DIVIDES):
        return None
    for operation in seen.operations:
        sizes = [size_of(operand) for operand in operation.operands]
        left = operation.result.counts.absmax if operation.result.counts else None
        if (
            operation.name not in ("sub", "rsub", "isub", "subtract")
            or operation.result.dtype not in LAYOUTS
            or not sizes
        ):
            continue
        mantissa = LAYOUTS[operation.result.dtype].mantissa
        if left is not None and max(sizes) > 0 and left < max(sizes) * 2.0 ** (5 - mantissa):
            return PlacedFinding.of(
                "DIA208",
                f"{at(suspect)}: `{operation.text or operation.name}` subtracts {max(sizes):.5g} to get "
                f"{left:.3g}, less than {operation.result.dtype} resolves; its `{guilty.name}` is not a number",
                place_of(trail, suspect),
                PROVEN,
                subtracted=max(sizes),
                left=left,
                **evidence_of(trail, suspect, guilty),
            )
    return None


def _residual(root: Any, trail: Trail, suspect: Suspect, seen: Replay) -> PlacedFinding | None:
    guilty = seen.guilty
    if guilty is None or not BLOCK.search(suspect.module) or guilty.name not in ADDS or not overflows(guilty):
        return None
    sizes = [o.counts.absmax for o in guilty.operands if o.counts and o.counts.absmax is not None]
    limit = LAYOUTS[guilty.result.dtype].limit
    summands = " and ".join(f"{size:.6g}" for size in sizes)
    return PlacedFinding.of(
        "DIA203",
        f"{at(suspect)}: the residual stream leaves {guilty.result.dtype} (limit {limit:,.6g}); the summands reach "
        f"{summands}; before it the headroom of the blocks was {headrooms(trail, suspect)}",
        place_of(trail, suspect),
        PROVEN,
        limit=limit,
        summands=sizes,
        headroom_trail=headroom_trail(trail, suspect),
        **evidence_of(trail, suspect, guilty),
    )


def _product(root: Any, trail: Trail, suspect: Suspect, seen: Replay) -> PlacedFinding | None:
    guilty = seen.guilty
    if guilty is None or not _MLP.search(suspect.module) or not overflows(guilty):
        return None
    multiplied = guilty.name in _PRODUCTS
    projected = guilty.name in ("matmul", "addmm", "quantized_matmul", "gather_mm", "gather_qmm")
    if not (multiplied or projected):
        return None
    sizes = [o.counts.absmax for o in guilty.operands if o.counts and o.counts.absmax is not None]
    which = f"the operands reach {' and '.join(f'{size:.5g}' for size in sizes)}"
    step = "in a projection, where the product is finite before it" if projected else "in the product itself"
    where = "its projections before the product are finite" if multiplied and not projected else _stage(suspect)
    return PlacedFinding.of(
        "DIA204",
        f"{at(suspect)}: overflow {step} (`{guilty.text or guilty.name}`, {guilty.source}); {which}; {where}",
        place_of(trail, suspect),
        PROVEN,
        stage="projection" if projected else "product",
        operands=sizes,
        **evidence_of(trail, suspect, guilty),
    )


def _quantised(root: Any, trail: Trail, suspect: Suspect, seen: Replay) -> PlacedFinding | None:
    guilty = seen.guilty
    if guilty is None or guilty.name not in ("quantized_matmul", "gather_qmm", "dequantize") or overflows(guilty):
        return None
    return PlacedFinding.of(
        "DIA211",
        f"{at(suspect)}: a quantised product of finite inputs gives {suspect.counts.text()}",
        place_of(trail, suspect),
        PROVEN,
        **evidence_of(trail, suspect, guilty),
    )


def _scores(root: Any, trail: Trail, suspect: Suspect, seen: Replay) -> PlacedFinding | None:
    guilty = seen.guilty
    if guilty is None:
        return None
    written_out = bool(_IS_ATTENTION.search(suspect.module)) and overflows(guilty)
    if guilty.name not in ("softmax", "scaled_dot_product_attention", "logsumexp") and not written_out:
        return None
    sizes = [o.counts.absmax for o in guilty.operands if o.counts and o.counts.absmax is not None]
    return PlacedFinding.of(
        "DIA212",
        f"{at(suspect)}: `{guilty.name}` of operands up to {', '.join(f'{size:.5g}' for size in sizes)} gives "
        f"{suspect.counts.text()}",
        place_of(trail, suspect),
        PROVEN,
        operands=sizes,
        **evidence_of(trail, suspect, guilty),
    )


def _anything(trail: Trail, suspect: Suspect, seen: Replay, note: str) -> PlacedFinding:
    guilty = seen.guilty
    inputs = "its inputs are finite" if not suspect.between else f"everything up to {suspect.between[0]} is finite"
    parts = [f"{at(suspect)} returns {suspect.counts.text()}; {inputs}"]
    if guilty and seen.brought_in:
        parts.append(
            f"`{guilty.text or guilty.name}` ({guilty.source}) brings in a value that nothing in the run computed"
        )
    elif guilty:
        parts.append(f"the operation is `{guilty.name}` in `{guilty.text}` ({guilty.source})")
    elif not note:
        note = "a repeated run shows no operation that makes it"
    confidence = PROVEN if guilty and not seen.brought_in else SUSPECTED
    return PlacedFinding.of(
        "DIA201",
        "; ".join([*parts, *([note] if note else [])]),
        place_of(trail, suspect),
        confidence,
        **evidence_of(trail, suspect, guilty),
    )


def _attribute(root: Any, module: str, names: Sequence[str]) -> Any:
    owner = dict(root.named_modules()).get(module)
    return next((value for name in names if isinstance(value := getattr(owner, name, None), float)), None)


def _stage(suspect: Suspect) -> str:
    last = suspect.module.rsplit(".", 1)[-1]
    return "after the product" if re.search(r"down|c_proj|w2|out|fc2|wo|dense_4h", last) else "before the product"


def _rows(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:8])) + (" ..." if len(rows) > 8 else "")
    return f"query {shown}" if len(rows) == 1 else f"queries {shown}"
