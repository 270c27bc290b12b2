"""What is said of a suspect, whatever its cause: its place, its elements, and the headroom of the blocks before it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np

from harness.diagnosis.causes.arithmetic import size_of
from harness.diagnosis.causes.facts import Facts
from harness.diagnosis.outcome.nouns import PROVEN, Place, PlacedFinding
from harness.diagnosis.trail.flow import Suspect, Trail
from harness.diagnosis.trail.masks import arrays
from harness.diagnosis.trail.operations import Operation
from harness.diagnosis.trail.statistics import element
from harness.intercept import CALL, Tap, tapped
from harness.metrics.host import host_bits
from harness.metrics.layouts import layout_of

BLOCK = re.compile(r"(^|\.)(layers|h|blocks|block)\.\d+$")
MOST_ELEMENTS = 8


def place_of(trail: Trail, suspect: Suspect) -> Place:
    """Return the place of a suspect: its module and the first element."""
    token, dimension = suspect.frame.first or (None, None)
    return Place.of_module("forward", trail.run, suspect.module, token, dimension)


def at(suspect: Suspect) -> str:
    """Return a suspect's module, the method that is not its call, and which call of it where the ones before are
    finite."""
    name = suspect.module or "the model"
    name += "" if suspect.method == CALL else f".{suspect.method}"
    if suspect.between:
        name += f", between {suspect.between[0]} and {suspect.between[1]}"
    if suspect.call > 1:
        before = "the first call is" if suspect.call == 2 else f"the first {suspect.call - 1} calls are"
        name += f", call {suspect.call} of this forward ({before} finite, this one is not)"
    return name


def placed(
    facts: Facts, code: str, said: str, confidence: str = PROVEN, remedy: str | None = None, **evidence: Any
) -> PlacedFinding:
    """Return a finding about the suspect of some facts, at its place and with its counts as evidence."""
    evidence |= evidence_of(facts.trail, facts.suspect, facts.guilty)
    place = place_of(facts.trail, facts.suspect)
    evidence |= {"remedy": remedy} if remedy else {}
    return PlacedFinding.of(code, f"{at(facts.suspect)}: {said}", place, confidence, **evidence)


def elements_of(root: Any, trail: Trail, suspect: Suspect) -> list[tuple[int | None, int | None, str]]:
    """Return (token, dimension, value) of the first non-finite elements that a module returns in a repeated run."""
    kept: list[tuple[int | None, int | None, str]] = []

    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = call(*args, **kwargs)
        for _, array in arrays("", out):
            if not kept:
                kept.extend(_elements(array, len(trail.ids)))
        return out

    with tapped(root, [*trail.inner(), Tap(dict(root.named_modules())[suspect.module], handler)]):
        root(mx.array([list(trail.ids)]))
    return kept


def _elements(array: mx.array, tokens: int) -> Iterator[tuple[int | None, int | None, str]]:
    layout = layout_of(array)
    if layout is None:
        return
    bits = host_bits(array).reshape(-1)
    for index in np.flatnonzero(layout.not_finite(bits))[:MOST_ELEMENTS]:
        value = float(layout.floats(bits[index : index + 1])[0])
        yield *element(int(index), array.shape, tokens), "nan" if math.isnan(value) else f"{value:+}"


def evidence_of(trail: Trail, suspect: Suspect, guilty: Operation | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        **suspect.counts.evidence,
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
