"""Does the engine agree with the case's reference engine on the same question?

Beside what an engine reports stands float64 on its own logits. Where those differ too, the two patch differently
(REF001); where only the reported numbers differ, they patch alike and measure differently (REF002). An estimate
need not be equal, but must rise and fall with the reference (REF003).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from harness.checks.evidence import Evidence
from harness.engines import Engine, answer, engine_named
from harness.metrics.mistakes import Pairs, mistake_in
from harness.results.ranks import correlation, tau_b
from harness.vocabulary import Answer, Cell, Curve, Finding, Reading, State
from harness.vocabulary.errors import HarnessError, TapError, described_at
from harness.vocabulary.raised import DeviceFailed, FindingError, refuse_device_failure
from harness.vocabulary.words import number_of


def check(evidence: Evidence) -> Iterator[Finding]:
    name = evidence.case.reference
    if name is None or name == evidence.engine.name:
        return
    reference = engine_named(name, evidence.allow_code)
    metrics = tuple(metric for metric in evidence.question.metrics if reference.knows(metric))
    if not metrics:
        return
    other = _asked(evidence, reference, metrics)
    if isinstance(other, Finding):
        yield other
        return
    theirs = {(curve.component, curve.metric): curve for curve in other.curves}
    seen: set[str] = set()
    for curve in evidence.answer.curves:
        if reference_curve := theirs.get((curve.component, curve.metric)):
            if curve.metric not in seen:
                yield from _baselines(evidence, curve, reference_curve)
                seen.add(curve.metric)
            compared = _followed if evidence.engine.is_estimate else _recoveries
            yield from compared(evidence, curve, reference_curve)


def _asked(evidence: Evidence, reference: Engine, metrics: tuple[str, ...]) -> Answer | Finding:
    """Return the reference's answer, or the finding that it could not give one."""
    # The answers are those of this engine's runs, so that both read the logits of the same tokens.
    question = replace(evidence.question, metrics=metrics, answers=evidence.answer.answers)
    try:
        return answer(reference, evidence.model, question)
    except DeviceFailed:
        raise
    except (FindingError, TapError) as error:
        return Finding("ENG001", f"as the reference, {reference.name} could not answer: {error}")
    except HarnessError:
        raise
    except Exception as error:  # noqa: BLE001  whatever somebody's engine raises is a finding about that engine
        refuse_device_failure(error)
        said = described_at(error)
        return Finding("ENG001", f"as the reference, {reference.name} could not answer: {said}")


def _baselines(evidence: Evidence, ours: Curve, theirs: Curve) -> Iterator[Finding]:
    relative = evidence.case.tolerance.reference_relative
    # Where nobody saw the runs behind a number, it cannot be said that other runs were made.
    seen = State.UNKNOWN not in (ours.oracle_baseline.state, theirs.oracle_baseline.state)
    patched = seen and _relative(ours.oracle_baseline, theirs.oracle_baseline) > relative
    if patched or _relative(ours.baseline, theirs.baseline) > relative:
        said = f"baseline {ours.baseline.text('.6g')}, {evidence.case.reference} gives {theirs.baseline.text('.6g')}"
        numbers = {"reported": ours.baseline.value, "reference": theirs.baseline.value}
        yield Finding("REF001" if patched else "REF002", said, metric=ours.metric, evidence=numbers)


def _recoveries(evidence: Evidence, ours: Curve, theirs: Curve) -> Iterator[Finding]:
    points = evidence.case.tolerance.reference_points
    both = ours.paired(theirs)
    seen = [pair for pair in both if all(cell.oracle.state is not State.UNKNOWN for cell in pair)]
    patched = [pair for pair in seen if _points(*map(_by_logits, pair)) > points]
    measured = [pair for pair in both if pair not in patched and _points(*map(_as_reported, pair)) > points]
    for code, apart, read in (("REF001", patched, _by_logits), ("REF002", measured, _as_reported)):
        if apart:
            cell, other = max(apart, key=lambda pair: _points(*map(read, pair)))
            pairs: Pairs = [(one, read(one), read(two)) for one, two in (both if code == "REF002" else seen)]
            mistake = mistake_in(pairs, points)
            yield Finding(
                code,
                f"{_percent(read(cell))}, {evidence.case.reference} gives {_percent(read(other))}; "
                f"{len(apart)} of {number_of(len(ours.cells), 'cell')}{f': {mistake.said}' if mistake else ''}",
                ours.site(cell),
                ours.metric,
                {"layers": [each.layer for each, _ in apart], **(mistake.evidence if mistake else {"mistake": None})},
            )


def _followed(evidence: Evidence, ours: Curve, theirs: Curve) -> Iterator[Finding]:
    """Yield that an estimate does not rise and fall with the reference over the cells that both have a number for."""
    both = [pair for pair in ours.paired(theirs) if all(cell.recovery.finite for cell in pair)]
    if not both:
        return
    said, right = ([cell.recovery.value or 0.0 for cell in cells] for cells in zip(*both, strict=True))
    least, found = evidence.case.tolerance.reference_correlation, correlation(said, right)
    if found is not None and found >= least:
        return
    cell, other = max(both, key=lambda pair: _points(*map(_as_reported, pair)))
    tau, name = tau_b(said, right, evidence.points), evidence.case.reference
    told = "no correlation" if found is None else f"a correlation of {found:.2f}"
    yield Finding(
        "REF003",
        f"{told} with {name} over {len(both)} of {number_of(len(ours.cells), 'cell')}, {least:g} is asked for; "
        f"Kendall's tau {'is undefined' if tau is None else f'{tau:.2f}'}; the worst cell: "
        f"{_percent(cell.recovery)}, {name} gives {_percent(other.recovery)}",
        ours.site(cell),
        ours.metric,
        {"correlation": found, "tau": tau, "least": least},
    )


def _by_logits(cell: Cell) -> Reading:
    return cell.oracle


def _as_reported(cell: Cell) -> Reading:
    return cell.recovery


def _points(a: Reading, b: Reading) -> float:
    if a.value is None or b.value is None:
        return 0.0 if a.state is b.state else math.inf
    return abs(a.value - b.value)


def _relative(a: Reading, b: Reading) -> float:
    apart = _points(a, b)
    return apart / max(abs(a.value or 0.0), abs(b.value or 0.0)) if 0.0 < apart < math.inf else apart


def _percent(reading: Reading) -> str:
    return f"{reading.text('.2f')}{' %' if reading.finite else ''}"
