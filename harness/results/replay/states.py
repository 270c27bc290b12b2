"""What must hold where a number is inf, NaN or undefined, and what is found of it.

No such number is a result: each baseline without a value is a finding, and so are the recoveries of a metric.
Finite logits have a finite distance by every metric, so that one inf among finite distances is an overflow of the
arithmetic and no property of the model. Without a finite baseline other than zero no recovery exists: a number in its
place is a guard that answered, often 0.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.results.replay.numbers import Number
from harness.results.replay.relations import SCORES
from harness.results.replay.table import Column, RecoveryTable
from harness.vocabulary import Finding, State
from harness.vocabulary.words import number_of

_BROKEN = (State.INF, State.NAN)
_ANGLE_OF_ZERO = ("cosine", State.NAN)
"""What a row of zeros honestly gives."""
_FOUNDED = "a recovery needs a baseline that is finite and not zero"
_ALL_FINITE = "finite logits have finite distances"


def impossible(table: RecoveryTable) -> Iterator[tuple[str, Number, str]]:
    """Yield the law, each number whose state, or whose having none, cannot be, and why."""
    for column in table.columns.values():
        for number in column.recoveries.values():
            if unfounded(column, number):
                yield _FOUNDED, number, f"its baseline is {_said(column.baseline)}"
    distances = [column for metric, column in table.columns.items() if metric not in SCORES]
    yield from _apart([column.baseline for column in distances])
    usable = [column for column in distances if not without_recoveries(column)]
    for site in dict.fromkeys(site for column in usable for site in column.recoveries):
        yield from _apart([column.recoveries[site] for column in usable if site in column.recoveries])


def without_number(table: RecoveryTable) -> Iterator[Finding]:
    """Yield a finding for each baseline that no recovery can be made of, and one for each metric's other states."""
    for metric, column in table.columns.items():
        baseline = column.baseline
        zero = without_recoveries(column) and _said(baseline) in ("zero", State.ZERO_BASELINE)
        rounding = baseline.state is State.ILL_CONDITIONED
        if zero:
            yield Finding("BAS001", f"the baseline is {baseline.text}", metric=metric)
        elif not baseline.finite and baseline.state is not State.UNKNOWN:
            code = "BAS002" if rounding else "FIN004"
            yield Finding(code, f"the baseline is {baseline.text}", metric=metric)
        # What follows from the baseline is not said again of each recovery.
        follows = State.ZERO_BASELINE if zero else State.ILL_CONDITIONED if rounding else State.FINITE
        allowed = (State.FINITE, follows)
        if broken := [number for number in column.recoveries.values() if number.state not in allowed]:
            states = " and ".join(dict.fromkeys(number.text for number in broken))
            where = (
                f"{len(broken)} of {number_of(len(column.recoveries), 'recovery', 'recoveries')}, "
                f"the first at {broken[0].site}"
            )
            yield Finding("FIN005", f"{states} in {where}", metric=metric)


def unfounded(column: Column, number: Number) -> bool:
    """Return whether a finite recovery stands where there can be none."""
    return number is not column.baseline and number.finite and without_recoveries(column)


def without_recoveries(column: Column) -> bool:
    """Return whether a baseline is not finite, or is a distance of exactly zero; one that nobody states is neither."""
    baseline = column.baseline
    if baseline.state is State.UNKNOWN:
        return False
    if baseline.metric in SCORES or not baseline.finite:
        return not baseline.finite
    return float(baseline.text) == 0 and not baseline.half


def _apart(numbers: Sequence[Number]) -> Iterator[tuple[str, Number, str]]:
    finite = next((number for number in numbers if number.finite), None)
    for number in numbers:
        if finite and number.state in _BROKEN and (number.metric, number.state) != _ANGLE_OF_ZERO:
            yield _ALL_FINITE, number, f"the logits are finite, since their {finite} is {finite.text}{finite.unit}"


def _said(baseline: Number) -> str:
    return "zero" if baseline.finite else baseline.state.value
