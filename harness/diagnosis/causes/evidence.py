"""What is said of a suspect, whatever its cause: its place, its elements, and the headroom of the blocks before it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from harness.diagnosis.causes.arithmetic import size_of
from harness.diagnosis.outcome.nouns import Place
from harness.diagnosis.trail.flow import Suspect, Trail
from harness.diagnosis.trail.masks import arrays
from harness.diagnosis.trail.operations import Operation
from harness.diagnosis.trail.statistics import element, layout_of, non_finite_elements
from harness.intercept import Tap, tapped

BLOCK = re.compile(r"(^|\.)(layers|h|blocks|block)\.\d+$")
MOST_ELEMENTS = 8


def place_of(trail: Trail, suspect: Suspect) -> Place:
    """Return the place of a suspect: its module and the first element."""
    token, dimension = suspect.frame.first or (None, None)
    return Place.of_module("forward", trail.run, suspect.module, token, dimension)


def at(suspect: Suspect) -> str:
    name = suspect.module or "the model"
    return f"{name}, between {suspect.between[0]} and {suspect.between[1]}" if suspect.between else name


def elements_of(root: Any, trail: Trail, suspect: Suspect) -> list[tuple[int | None, int | None, str]]:
    """Return (token, dimension, value) of the first non-finite elements that a module returns in a repeated run."""
    kept: list[tuple[int | None, int | None, str]] = []

    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = call(*args, **kwargs)
        for _, array in arrays("", out):
            if layout_of(array) and not kept:
                kept.extend(
                    (*element(i, array.shape, len(trail.ids)), value)
                    for i, value in non_finite_elements(array, MOST_ELEMENTS)
                )
        return out

    with tapped(root, [*trail.inner(), Tap(dict(root.named_modules())[suspect.module], handler)]):
        root(mx.array([list(trail.ids)]))
    return kept


def evidence_of(trail: Trail, suspect: Suspect, guilty: Operation | None) -> dict[str, Any]:
    counts = suspect.counts
    found: dict[str, Any] = {
        "nan": counts.nan,
        "pos_inf": counts.pos_inf,
        "neg_inf": counts.neg_inf,
        "dtype": suspect.frame.dtype,
        "shape": list(suspect.frame.shape),
        "call": suspect.call,
        "kind": suspect.kind,
    }
    if suspect.between:
        found["between"] = list(suspect.between)
    if guilty:
        found |= {"operation": guilty.name, "source": guilty.source, "line": guilty.text}
        found["operand_absmax"] = [size_of(operand) for operand in guilty.operands]
    if trail.counts and not trail.counts.finite:
        found["logits"] = trail.counts.text()
    return found


def headroom_trail(trail: Trail, suspect: Suspect) -> list[dict[str, Any]]:
    blocks = [frame for frame in trail.frames[: suspect.frame.index] if BLOCK.search(frame.module) and not frame.flow]
    return [{"module": frame.module, "absmax": frame.absmax, "headroom": frame.headroom} for frame in blocks]


def headrooms(trail: Trail, suspect: Suspect) -> str:
    rooms = [each["headroom"] for each in headroom_trail(trail, suspect)]
    return ", ".join(f"{room:.3g}" for room in rooms[-4:] if room) or "not measured: it is the first"
