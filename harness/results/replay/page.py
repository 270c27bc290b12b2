"""An audit for people, and as JSON: what cannot be true first, then every number with what its digits are worth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from harness.results.replay.audit import EVERY, NONE, SOME, Audit, Claim, judge, spelled
from harness.results.replay.numbers import Interval, StatedPart
from harness.vocabulary import Status
from harness.vocabulary.words import number_of

SCHEMA = "mlx-patch-harness/replay/1"
ROWS = 60
"""Numbers beyond which a file is summed up; `--json` always has every one."""
SHOWN = 20
_STYLE = {EVERY: "green", SOME: "yellow", NONE: "dim"}


def print_audits(audits: Sequence[Audit], console: Console, everything: bool = False) -> None:
    """Print the tables, what cannot be true, and the verdict as the last paragraph."""
    total = sum(len(each.claims) for each in audits)
    if everything or total <= ROWS:
        for each in audits:
            console.print(Text(each.table.title, style="bold"))
            if each.table.about:
                console.print(Text(each.table.about, style="dim"))
            console.print(_grid(each))
    faults = [fault for each in audits for fault in _faults(each, len(audits) > 1)]
    for fault in faults if everything else faults[:SHOWN]:
        console.print(Text(f"✗ {fault}", style="bold red"))
    if not everything and len(faults) > SHOWN:
        console.print(Text(f"✗ {len(faults) - SHOWN} more; --all shows them", style="bold red"))
    console.print(Text(verdict(audits)))


def verdict(audits: Sequence[Audit]) -> str:
    """Return one paragraph: what cannot be true, what the number of logits is, what the digits are worth."""
    claims = [claim for each in audits for claim in each.claims]
    return " ".join((_judgement(audits), *_size(audits), *_stateful(claims), _worth(claims)))


def _judgement(audits: Sequence[Audit]) -> str:
    faults, laws = sum(len(each.contradictions) for each in audits), sum(each.relations for each in audits)
    numbers = sum(len(each.claims) for each in audits)
    codes = [finding.code for each in audits for finding in each.findings]
    found = f"{number_of(len(codes), 'finding')} ({', '.join(dict.fromkeys(codes))})"
    if faults:
        more = f"; {found}" if codes else ""
        return (
            f"FAILED: {faults} of {number_of(laws + faults, 'statement')} about {numbers} numbers cannot be true{more}."
        )
    if codes:
        return f"FAILED: {found}."
    if judge(audits)[0] is not Status.PASSED:
        return f"NOTHING CHECKED: no relation holds for {number_of(numbers, 'number')}, so nothing could be wrong."
    return f"PASSED: {number_of(laws, 'relation')} between {number_of(numbers, 'number')} hold."


def _size(audits: Sequence[Audit]) -> Iterator[str]:
    if len(audits) == 1 and (found := audits[0].logits):
        yield f"l2² / mse puts the number of logits at {spelled(found)}{_meaning(found, audits[0].table.logits)}."


def _meaning(found: Interval, vocab: int | None) -> str:
    if not vocab:
        return "; give `vocab` to hold the baselines to it"
    if found.low <= vocab <= found.high:
        return f", which holds {vocab:,}: the logits of one token"
    rows = math.floor(found.high / vocab) if math.isfinite(found.high) else 0
    if rows > 1 and found.low <= rows * vocab:
        return f", which holds {rows} x {vocab:,}: the logits of {rows} tokens, where one token's are expected"
    return f", which does not hold {vocab:,}"


def _stateful(claims: Sequence[Claim]) -> Iterator[str]:
    counts = Counter(claim.number.state.value for claim in claims if not claim.number.finite)
    if counts:
        named = ", ".join(f"{count:,} x {state}" for state, count in counts.items())
        yield f"There is no number in {number_of(counts.total(), 'place')}: {named}."


def _worth(claims: Sequence[Claim]) -> str:
    finite = [claim for claim in claims if claim.number.finite]
    whole, part = sum(claim.complete for claim in finite), sum(claim.checkable for claim in finite)
    return (
        f"An altered digit would be noticed in {whole:,} of {number_of(len(finite), 'finite number')} whichever it is, "
        f"in {part - whole:,} for some digits; {len(finite) - part:,} cannot be checked."
    )


def _faults(audit: Audit, titled: bool) -> Iterator[str]:
    title = f"{audit.table.title}: " if titled else ""
    for each in audit.contradictions:
        yield f"{title}{each.message} ({each.law})"
    for finding in audit.findings:
        yield f"{title}{finding}"


def _grid(audit: Audit) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("metric", "number"):
        grid.add_column(name, overflow="fold")
    grid.add_column("printed", justify="right", overflow="fold")
    grid.add_column("digits", justify="right", overflow="fold")
    grid.add_column("an alteration is noticed", overflow="fold")
    for claim in audit.claims:
        number, fault = claim.number, claim.number in audit.accused
        printed = Text(f"{'✗ ' if fault else ''}{number.text}{number.unit}", style="bold red" if fault else "")
        where = number.site or number.part.value
        grid.add_row(Text(number.metric), Text(where), printed, _marks(claim.digits), Text(_said(claim)))
    return grid


def _marks(digits: str) -> Text:
    text = Text()
    for mark in digits:
        text.append(mark, style=_STYLE.get(mark, ""))
    return text


def _said(claim: Claim) -> str:
    span = claim.range
    if span.empty:
        return "always: nothing fits what stands beside it"
    if not claim.checkable:
        return f"not checkable: {claim.why}"
    if math.isinf(span.low) or (span.low <= 0 and claim.number.part is StatedPart.BASELINE):
        return f"above {span.high:.7g}"
    return f"below {span.low:.7g}" if math.isinf(span.high) else f"outside {spelled(span)}"


def plain(audits: Sequence[Audit]) -> dict[str, Any]:
    """Return the audits as JSON types; an open end of a range is null."""
    status, code = judge(audits)
    return {
        "schema": SCHEMA,
        "verdict": status.value,
        "exit_code": code,
        "text": verdict(audits),
        "tables": [_plain_audit(each) for each in audits],
    }


def _plain_audit(audit: Audit) -> dict[str, Any]:
    return {
        "title": audit.table.title,
        "about": audit.table.about,
        "vocab": audit.table.logits,
        "logits": _ends(audit.logits) if audit.logits else None,
        "relations": audit.relations,
        "contradictions": [
            {"law": each.law, "numbers": list(map(str, each.numbers)), "message": each.message}
            for each in audit.contradictions
        ],
        "findings": [{"code": each.code, "metric": each.metric, "message": each.message} for each in audit.findings],
        "numbers": [_plain_claim(each) for each in audit.claims],
    }


def _plain_claim(claim: Claim) -> dict[str, Any]:
    number = claim.number
    return {
        "metric": number.metric,
        "what": number.part.value,
        "site": number.site if number.part is StatedPart.RECOVERY else None,
        "printed": number.text,
        "state": number.state.value,
        "possible": None if claim.range.empty else _ends(claim.range),
        "digits": claim.digits,
        "checkable": claim.checkable,
        "why": claim.why,
    }


def _ends(interval: Interval) -> list[float | None]:
    return [end if math.isfinite(end) else None for end in (interval.low, interval.high)]
