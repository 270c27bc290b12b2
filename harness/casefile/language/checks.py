"""The checks that a case may name, and the rule that whatever it states is looked at by one that is switched on."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from harness.casefile.language.expected import Expect, Expectation
from harness.casefile.language.fields import Refusal
from harness.vocabulary.findings import FINDINGS

ALWAYS_ON = ("engine", "expectation")
"""An engine that raises and an expectation that fails are findings whatever a case switches off."""

# What a diagnosis finds is nothing that a case asks for: its checks are steps, `diagnosis/weights` and so on.
CHECKS = tuple(
    dict.fromkeys(kind.check for kind in FINDINGS.values() if kind.check not in ALWAYS_ON and "/" not in kind.check)
)


def unchecked(expect: Expect, reference: str | None, checks: Collection[str]) -> Iterator[Refusal]:
    """Yield what must come out although the check that would look is switched off."""
    stated = (
        (("expect", "baselines"), expect.baselines, "known-answer", "are compared"),
        (("expect", "recoveries"), expect.recoveries, "known-answer", "are compared"),
        (("reference",), reference, "reference", "is asked"),
    )
    for path, value, check, asked in stated:
        if value and check not in checks:
            yield Refusal(path, f"{asked} by the check {check!r}, which `checks` leaves out", at_key=True)
    yield from _ended_before(("expect",), expect, expect, None)
    yield from _switched_off(("expect",), expect, checks)
    for engine, expectation in expect.engines.items():
        yield from _ended_before(("expect", "engines", engine), expectation, expect, engine)
        yield from _switched_off(("expect", "engines", engine), expectation, checks)


def _switched_off(path: tuple[str, ...], expectation: Expectation, checks: Collection[str]) -> Iterator[Refusal]:
    for index, code in enumerate(expectation.findings):
        check = FINDINGS[code].check
        if check not in (*checks, *ALWAYS_ON):
            message = f"{code} comes from the check {check!r}, which `checks` leaves out"
            yield Refusal((*path, "findings", index), message)


_NUMBERS = ("baselines", "recoveries", "baseline_range", "top_layers", "minimum_recovery", "rank_order")


def _ended_before(
    path: tuple[str, ...], expectation: Expectation, expect: Expect, engine: str | None
) -> Iterator[Refusal]:
    """Yield ALN001, with which a job ends before it has numbers, beside numbers that are stated of the same jobs."""
    stated = [
        key for key in _NUMBERS
        for entry in getattr(expect, key)
        if entry.model is None and entry.engine in (None, engine)
    ]  # fmt: skip
    for key in ("findings", "may_find") if stated else ():
        codes = getattr(expectation, key)
        if "ALN001" in codes:
            said = f"ALN001 ends a job before its numbers, and expect.{stated[0]} states some of the same jobs"
            yield Refusal((*path, key, codes.index("ALN001")), said)
