"""Does the answer match what is known of it: a closed form of the model, or values stated in the case?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.casefile import OfJobs
from harness.checks.evidence import Evidence
from harness.vocabulary import Cell, Curve, Finding, Question, Reading, Site, State, site_position
from harness.vocabulary.words import number_of


def check(evidence: Evidence) -> Iterator[Finding]:
    for curve in evidence.answer.curves:
        yield from _closed_form(evidence, curve)
    yield from _stated_baselines(evidence)
    yield from _stated_recoveries(evidence)


def _closed_form(evidence: Evidence, curve: Curve) -> Iterator[Finding]:
    known = evidence.model.known
    if known is None or evidence.engine.is_estimate or curve.pairs is not None:
        return  # of several pairs, each has its closed form, and is held to it by itself
    if curve.oracle_baseline.state is State.ILL_CONDITIONED:
        return  # exact logits have a recovery here, those of a dtype have none
    points = known.tolerance(evidence.question, curve.metric)
    if not evidence.engine.is_native:
        # How precise a formula is, is the oracle check's question; here it is only asked whether it is right.
        points = max(points, evidence.case.tolerance.oracle_points)
    pairs = [
        (cell, known.recovery(_at(evidence.question, cell), curve.component, cell.layer, curve.metric, cell.head))
        for cell in curve.cells
    ]
    wrong = [(cell, wanted) for cell, wanted in pairs if wanted and _apart(cell.recovery, wanted, points)]
    if wrong:
        cell, wanted = max(wrong, key=lambda pair: _distance(pair[0].recovery, pair[1]))
        site = curve.site(cell)
        yield _finding(cell.recovery, wanted, points, "%", curve.metric, site, [cell.layer for cell, _ in wrong])


def _at(question: Question, cell: Cell) -> Question:
    """Return the question as if its grid were this one cell: closed forms know positions, not grids."""
    if question.sweep.positions != "each":
        return question
    return replace(question, sweep=replace(question.sweep, positions=(int(cell.position),)))


def _stated_baselines(evidence: Evidence) -> Iterator[Finding]:
    curves = {curve.metric: curve for curve in evidence.answer.curves}
    for at, stated in enumerate(evidence.case.expect.baselines):
        if _meant(evidence, stated) and stated.metric in curves:
            said, wanted = curves[stated.metric].baseline, Reading.of(stated.value)
            if _apart(said, wanted, stated.within):
                found = _finding(said, wanted, stated.within, curves[stated.metric].unit, stated.metric, None)
                yield _stated_at(found, evidence, "baselines", at)


def _stated_recoveries(evidence: Evidence) -> Iterator[Finding]:
    cells = {
        (curve.component, curve.metric, cell.layer, cell.position, cell.head): cell
        for curve in evidence.answer.curves
        for cell in curve.cells
    }
    shared = site_position(evidence.question.sweep.positions)
    for at, stated in enumerate(evidence.case.expect.recoveries):
        if not _meant(evidence, stated) or stated.metric not in evidence.question.metrics:
            continue
        layer = stated.layer + evidence.model.card.layers if stated.layer < 0 else stated.layer
        position = shared if stated.position is None else str(stated.position)
        key = (stated.component, stated.metric, layer, position, stated.head)
        cell, wanted = cells.get(key), Reading.of(stated.value)
        if cell is None and _unanswered(evidence, stated.component, stated.metric):
            continue  # the job says so, and fails where the engine's adapter refused what the case states
        if cell is None:
            # A value that nothing is compared with would be a test that cannot fail.
            text = f"the case states {wanted.text('.6g')} % for a cell that was not swept"
            site = Site(stated.component, stated.layer)
            yield Finding("KNO001", text, site, stated.metric, evidence.line("recoveries", at))
        elif _apart(cell.recovery, wanted, stated.within):
            site = Site(stated.component, cell.layer, cell.position, cell.head)
            found = _finding(cell.recovery, wanted, stated.within, "%", stated.metric, site)
            yield _stated_at(found, evidence, "recoveries", at)


def _stated_at(found: Finding, evidence: Evidence, name: str, at: int) -> Finding:
    return replace(found, evidence={**found.evidence, **evidence.line(name, at)})


def _unanswered(evidence: Evidence, component: str, metric: str) -> bool:
    return any(each.component == component and each.metric in (None, metric) for each in evidence.answer.unanswered)


def _meant(evidence: Evidence, stated: OfJobs) -> bool:
    return stated.meant(evidence.engine.name, evidence.model.card.id)


def _apart(said: Reading, wanted: Reading, within: float) -> bool:
    return _distance(said, wanted) > within


def _distance(said: Reading, wanted: Reading) -> float:
    if said.value is None or wanted.value is None:
        return 0.0 if said.state is wanted.state else math.inf
    return abs(said.value - wanted.value)


def _finding(
    said: Reading, wanted: Reading, within: float, unit: str, metric: str, site: Site | None, layers: Sequence[int] = ()
) -> Finding:
    more = f"; {number_of(len(layers), 'layer')} in all" if len(layers) > 1 else ""
    right = f"{wanted.text('.6g')} within {within:g}" if wanted.finite else wanted.text()
    return Finding(
        "KNO001",
        f"{said.text('.6g')}{f' {unit}' if said.finite else ''}, the known answer is {right}{more}",
        site,
        metric,
        {"reported": said.value, "known": wanted.value, "within": within, "layers": list(layers)},
    )
