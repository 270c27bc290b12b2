"""A table held against everything that must be true of it; and for every number, which altered digit would be noticed.

A digit is *noticed* when the table with that digit altered contradicts itself at that number. This is computed, not
tried: the relations leave every number a range, and whatever is printed outside of it is a contradiction. A number
that nothing ties down has a range that holds every other digit too, and is called not checkable, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.results.replay.numbers import ANY, NOTHING, Interval, Number, StatedPart
from harness.results.replay.relations import SCORES, Relation, bound, relations, sound, squared
from harness.results.replay.states import impossible, unfounded, without_number
from harness.results.replay.table import RecoveryTable
from harness.vocabulary import Finding, Status
from harness.vocabulary.verdict import of_run

EVERY, SOME, NONE = "✓", "~", "·"
_PLAIN = 1e15
"""From here on a float has no digit behind the point, and is written with an exponent."""
_PARTNER = {"l2": "mse", "mse": "l2"}


@dataclass(frozen=True)
class Contradiction:
    """Numbers that cannot all be true, the law between them, and what would be possible."""

    law: str
    numbers: tuple[Number, ...]
    message: str


@dataclass(frozen=True)
class Claim:
    """What an alteration of one number would come to: noticed outside of `range`.

    `digits` is the printed text with each digit replaced by ✓ where every other digit would be noticed, ~ where some
    would, · where none would. `why` is the reason where none would anywhere.
    """

    number: Number
    range: Interval
    digits: str
    why: str = ""

    def notices(self, value: float) -> bool:
        """Return whether this value in place of the number would be noticed."""
        return not self.range.low <= value <= self.range.high

    @property
    def checkable(self) -> bool:
        return EVERY in self.digits or SOME in self.digits

    @property
    def complete(self) -> bool:
        """Whether any alteration of any digit would be noticed."""
        return self.checkable and SOME not in self.digits and NONE not in self.digits


@dataclass(frozen=True)
class Audit:
    """Everything there is to say of one table."""

    table: RecoveryTable
    contradictions: tuple[Contradiction, ...]
    findings: tuple[Finding, ...]
    """The baselines and recoveries that are no finite numbers, by the codes that a run gives them."""
    claims: tuple[Claim, ...]
    relations: int
    logits: Interval | None
    """The numbers of logits N that l2² = N x mse allows; None where a baseline is missing."""

    @cached_property
    def accused(self) -> frozenset[Number]:
        return frozenset(number for each in self.contradictions for number in each.numbers)

    @property
    def status(self) -> Status:
        """Skipped where nothing could be checked: no finding, and no relation."""
        if self.contradictions or self.findings:
            return Status.FAILED
        return Status.PASSED if self.relations else Status.SKIPPED


def judge(audits: Sequence[Audit]) -> tuple[Status, int]:
    """Return the verdict over all tables and its exit code."""
    return of_run((), *(each.status for each in audits))


def audit(table: RecoveryTable) -> Audit:
    """Return what cannot be true of a table, and what an altered digit of each number would come to."""
    ties = tuple(relations(table))
    return Audit(
        table=table,
        contradictions=tuple(contradictions(table)),
        findings=tuple(without_number(table)),
        claims=tuple(_claim(table, number, ties) for number in table),
        relations=len(ties) + sum(number.finite and bound(number) != ANY for number in table),
        logits=_logits(table),
    )


def contradictions(table: RecoveryTable) -> Iterator[Contradiction]:
    """Yield what cannot be true of a table."""
    for number in table:
        if number.finite and not sound(number):
            yield Contradiction(_bound_law(number), (number,), f"{number} is {number.text}{number.unit}")
    for law, number, reason in impossible(table):
        yield Contradiction(law, (number,), f"{number} is {number.text}{number.unit}; {reason}")
    for tie in relations(table):
        if all(map(sound, tie.pair)) and not tie.holds:
            yield Contradiction(tie.law, tie.pair, _apart(tie))


def _bound_law(number: Number) -> str:
    if number.known is not None:
        percent = 100 if number.known.low <= 0 else 0
        return f"the last layer's resid_post is all that the logits are made of: its recovery is {percent} %"
    if number.part is StatedPart.RECOVERY:
        return "a distance is not negative: its recovery is at most 100 %"
    most = bound(number).high
    return f"a {number.metric} distance is not negative" + (f" and at most {most:g}" if math.isfinite(most) else "")


def _apart(tie: Relation) -> str:
    one, other = tie.pair
    needed = one.printable(tie.allowed(one))
    return f"{other} of {other.text}{other.unit} asks for {one} of {spelled(needed)}{one.unit}; printed {one.text}"


def spelled(interval: Interval) -> str:
    """Return an interval with as many digits as tell its ends apart."""
    low, high = interval.low, interval.high
    if math.isinf(low) or math.isinf(high):
        return f"at most {high:.7g}" if math.isinf(low) else f"at least {low:.7g}"
    width = high - low
    if max(abs(low), abs(high)) >= _PLAIN:
        return f"{low:.7g} to {high:.7g}"
    places = max(0, 2 - math.floor(math.log10(width))) if width > 0 else 12
    return f"{low:,.{places}f} to {high:,.{places}f}"


def _logits(table: RecoveryTable) -> Interval | None:
    found = [table.columns[metric].baseline for metric in ("l2", "mse") if metric in table.columns]
    if len(found) < 2 or not all(map(sound, found)):
        return None
    l2, mse = (number.quantity & Interval(0, math.inf) for number in found)
    size = squared(l2)
    return Interval(size.low / mse.high if mse.high else 0.0, size.high / mse.low if mse.low else math.inf)


def _claim(table: RecoveryTable, number: Number, ties: tuple[Relation, ...]) -> Claim:
    if not number.finite:
        return Claim(number, ANY, "", f"{number.state} has no digits")
    own = [tie for tie in ties if number in tie.pair and sound(tie.other(number))]
    span = NOTHING if unfounded(table.columns[number.metric], number) else _range(number, own)
    claim = Claim(number, span, _digits(number.text, span))
    return claim if claim.checkable else Claim(number, span, claim.digits, _why(table, number))


def _range(number: Number, ties: list[Relation]) -> Interval:
    allowed = bound(number)
    for tie in ties:
        allowed &= tie.allowed(number)
    return number.printable(allowed)


def _digits(text: str, span: Interval) -> str:
    """Return the text with a mark for each digit of the mantissa."""
    mantissa = text.lower().partition("e")[0]
    marks = [_mark(text, index, span) if char.isdigit() else char for index, char in enumerate(mantissa)]
    return "".join(marks) + text[len(mantissa) :]


def _mark(text: str, index: int, span: Interval) -> str:
    noticed = [not span.low <= value <= span.high for value in map(float, alterations(text, index))]
    return EVERY if all(noticed) else SOME if any(noticed) else NONE


def alterations(text: str, index: int) -> Iterator[str]:
    """Yield the text with another digit at an index, for all nine of them."""
    for digit in "0123456789":
        if digit != text[index]:
            yield f"{text[:index]}{digit}{text[index + 1 :]}"


def _why(table: RecoveryTable, number: Number) -> str:
    partner = _PARTNER.get(number.metric)
    if partner is None:
        follows = "is a score, which may go anywhere" if number.metric in SCORES else "follows from no other number"
        return f"{number.metric} {follows}"
    beside = table.columns.get(partner)
    if beside is None or (number.site and number.site not in beside.recoveries):
        return f"no {partner} {number.part} beside it"
    if number.part is StatedPart.BASELINE and table.logits is None:
        return "needs the number of logits: `vocab`"
    other = beside.recoveries[number.site] if number.site else beside.baseline
    return f"the {other} is {'not precise enough' if sound(other) else other.text}"
