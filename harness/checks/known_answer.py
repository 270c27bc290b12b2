"""Does the answer match what is known of it: a closed form of the model, or values stated in the case?"""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.evidence import Evidence
from harness.vocabulary import Curve, Finding, Reading, Site


def check(evidence: Evidence) -> Iterator[Finding]:
    for curve in evidence.answer.curves:
        yield from _closed_form(evidence, curve)
    yield from _stated_baselines(evidence)
    yield from _stated_recoveries(evidence)


def _closed_form(evidence: Evidence, curve: Curve) -> Iterator[Finding]:
    known = evidence.model.known
    if known is None:
        return
    points = known.tolerance(evidence.question, curve.metric)
    if evidence.engine.formula is not None:
        # How precise a formula is, is the oracle check's question; here it is only asked whether it is right.
        points = max(points, evidence.case.tolerance.oracle_points)
    for cell in curve.cells:
        wanted = known.recovery(evidence.question, curve.component, cell.layer, curve.metric)
        if wanted is not None and _apart(cell.recovery, wanted, points):
            site = Site(curve.component, cell.layer, cell.position)
            yield _finding(cell.recovery, wanted, points, "%", curve.metric, site)


def _stated_baselines(evidence: Evidence) -> Iterator[Finding]:
    curves = {curve.metric: curve for curve in evidence.answer.curves}
    for stated in evidence.case.expect.baselines:
        if _meant(evidence, stated) and stated.metric in curves:
            said, wanted = curves[stated.metric].baseline, Reading.of(stated.value)
            if _apart(said, wanted, stated.within):
                yield _finding(said, wanted, stated.within, curves[stated.metric].unit, stated.metric, None)


def _stated_recoveries(evidence: Evidence) -> Iterator[Finding]:
    cells = {
        (curve.component, curve.metric, cell.layer): cell for curve in evidence.answer.curves for cell in curve.cells
    }
    for stated in evidence.case.expect.recoveries:
        key = (stated.component, stated.metric, stated.layer % evidence.model.card.layers)
        if _meant(evidence, stated) and key in cells:
            cell, wanted = cells[key], Reading.of(stated.value)
            if _apart(cell.recovery, wanted, stated.within):
                site = Site(stated.component, cell.layer, cell.position)
                yield _finding(cell.recovery, wanted, stated.within, "%", stated.metric, site)


def _meant(evidence: Evidence, stated: object) -> bool:
    model, engine = getattr(stated, "model", None), getattr(stated, "engine", None)
    return model in (None, evidence.model.card.id) and engine in (None, evidence.engine.name)


def _apart(said: Reading, wanted: Reading, within: float) -> bool:
    if said.value is None or wanted.value is None:
        return said.state is not wanted.state
    return abs(said.value - wanted.value) > within


def _finding(said: Reading, wanted: Reading, within: float, unit: str, metric: str, site: Site | None) -> Finding:
    return Finding(
        "KNO001",
        f"{said.text('.6g')} {unit}, the known answer is {wanted.text('.6g')} within {within:g}",
        site,
        metric,
        {"reported": said.value, "known": wanted.value, "within": within},
    )
