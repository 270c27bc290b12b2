"""Is what the case expects of its numbers so? Finite values, ranges, and which layers matter how much.

Layers are compared by their recoveries, whatever the direction. A layer that has several cells, heads or positions,
counts with its highest. A layer whose recovery has no value ranks below every layer that has one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from harness.casefile import OfCurves
from harness.checks.evidence import Evidence
from harness.vocabulary import Curve, Finding, Site
from harness.vocabulary.words import number_of

_SHOWN = 6


def check(evidence: Evidence) -> Iterator[Finding]:
    yield from _finite(evidence)
    yield from _ranges(evidence)
    yield from _top_layers(evidence)
    yield from _minima(evidence)
    yield from _orders(evidence)


def _finite(evidence: Evidence) -> Iterator[Finding]:
    stated = enumerate(evidence.case.expect.must_be_finite())
    # Whoever states it first is named where two entries mean one curve.
    curves = {curve: at for at, entry in reversed([*stated]) for curve in _curves(evidence, entry)}
    for curve in evidence.answer.curves:
        if curve not in curves:
            continue
        broken = [cell for cell in curve.cells if not cell.recovery.finite]
        if broken or not curve.baseline.finite:
            states = sorted({cell.recovery.state.value for cell in broken})
            every = number_of(len(curve.cells), "recovery", "recoveries")
            seen = f"{len(broken)} of {every} not finite ({', '.join(states)})" if broken else f"{every}, all finite"
            evidence_of = {"layers": [cell.layer for cell in broken], "states": states}
            evidence_of |= evidence.line("finite", curves[curve])
            site = curve.site(broken[0]) if broken else None
            message = f"baseline {curve.baseline.text('.6g')}; {seen}"
            yield Finding("EXP002", message, site, curve.metric, evidence_of)


def _ranges(evidence: Evidence) -> Iterator[Finding]:
    curves = {curve.metric: curve for curve in evidence.answer.curves}
    for at, entry in enumerate(evidence.case.expect.baseline_range):
        curve = curves.get(entry.metric)
        if curve is None or not entry.meant(evidence.engine.name, evidence.model.card.id):
            continue
        low = -math.inf if entry.at_least is None else entry.at_least
        high = math.inf if entry.at_most is None else entry.at_most
        said = curve.baseline
        if said.value is None or not low <= said.value <= high:
            text = f"{said.text('.6g')} {curve.unit}, the case states {low:g} to {high:g}"
            line = evidence.line("baseline_range", at)
            yield Finding("EXP003", text, metric=entry.metric, evidence={"reported": said.value, **line})


def _top_layers(evidence: Evidence) -> Iterator[Finding]:
    for at, entry in enumerate(evidence.case.expect.top_layers):
        line = evidence.line("top_layers", at)
        for curve in _curves(evidence, entry):
            best = _by_layer(curve)
            if entry.among is not None and entry.among >= len(best):
                said = f"among {entry.among} of the {number_of(len(best), 'layer')} that are swept, any would do"
                yield Finding("EXP004", said, metric=curve.metric, evidence=line)
                continue
            wanted, among = _resolved(evidence, entry.layers), entry.among or len(entry.layers)
            lowest = min(_of(best, layer) for layer in wanted)
            above = sum(value > lowest for layer, value in best.items() if layer not in wanted)
            # Equal recoveries stand in any order, so only what is strictly higher takes a place away.
            if not math.isfinite(lowest) or above > among - len(wanted):
                order = "any order" if among == len(wanted) else f"among {among}"
                yield _order_finding("EXP004", curve, best, f"the case states {_listed(wanted)}, in {order}", line)


def _minima(evidence: Evidence) -> Iterator[Finding]:
    for at, entry in enumerate(evidence.case.expect.minimum_recovery):
        for curve in _curves(evidence, entry):
            best = _by_layer(curve)
            asked = _resolved(evidence, [entry.layer]) if entry.layer is not None else list(best)
            layer = max(asked, key=lambda each: _of(best, each), default=None)
            reached = -math.inf if layer is None else _of(best, layer)
            if reached < entry.at_least:
                said = f"{reached:.2f} %" if math.isfinite(reached) else "no finite recovery"
                which = "" if entry.layer is not None else " at best"
                site = None if layer is None else Site(curve.component, layer)
                text = f"{said}{which}, the case states at least {entry.at_least:g} %"
                line = evidence.line("minimum_recovery", at)
                yield Finding("EXP005", text, site, curve.metric, {"at_least": entry.at_least, **line})


def _orders(evidence: Evidence) -> Iterator[Finding]:
    for at, entry in enumerate(evidence.case.expect.rank_order):
        line = evidence.line("rank_order", at)
        for curve in _curves(evidence, entry):
            best = _by_layer(curve)
            wanted = _resolved(evidence, entry.layers)
            values = [_of(best, layer) for layer in wanted]
            # A layer that was not swept has no place in the order, the last one neither.
            if not (best.keys() >= {*wanted} and all(a > b for a, b in itertools.pairwise(values))):
                said = f"the case states {_listed(wanted)}, in this order"
                yield _order_finding("EXP006", curve, best, said, line, wanted)


def _curves(evidence: Evidence, entry: OfCurves) -> Iterator[Curve]:
    if not entry.meant(evidence.engine.name, evidence.model.card.id):
        return
    for curve in evidence.answer.curves:
        if entry.component in (None, curve.component) and entry.metric in (None, curve.metric):
            yield curve


def _by_layer(curve: Curve) -> dict[int, float]:
    """Return layer -> its highest recovery (percent), -inf where none has a value."""
    best: dict[int, float] = {}
    for cell in curve.cells:
        value = -math.inf if cell.recovery.value is None else cell.recovery.value
        best[cell.layer] = max(best.get(cell.layer, -math.inf), value)
    return best


def _resolved(evidence: Evidence, layers: Sequence[int]) -> list[int]:
    count = evidence.model.card.layers
    return [layer + count if layer < 0 else layer for layer in layers]


def _of(best: dict[int, float], layer: int) -> float:
    # A layer that was not swept, or does not exist, recovers nothing: an expectation of it fails.
    return best.get(layer, -math.inf)


def _order_finding(
    code: str, curve: Curve, best: dict[int, float], wanted: str, line: dict[str, int],
    about: Sequence[int] | None = None,
) -> Finding:  # fmt: skip
    """Say how the layers rank: the best ones, or those that the case is about."""
    ranked = sorted(best if about is None else about, key=lambda layer: -_of(best, layer))
    shown = ", ".join(f"{layer} ({_of(best, layer):.2f} %)" for layer in ranked[:_SHOWN])
    text = f"the highest are {shown or 'none'}; {wanted}" if about is None else f"found {shown}; {wanted}"
    site = Site(curve.component, ranked[0]) if ranked else None
    return Finding(code, text, site, curve.metric, {"layers": ranked, **line})


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))
