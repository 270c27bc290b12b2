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
    yield from _switched_off(("expect",), expect, checks)
    for engine, expectation in expect.engines.items():
        yield from _switched_off(("expect", "engines", engine), expectation, checks)


def _switched_off(path: tuple[str, ...], expectation: Expectation, checks: Collection[str]) -> Iterator[Refusal]:
    for index, code in enumerate(expectation.findings):
        check = FINDINGS[code].check
        if check not in (*checks, *ALWAYS_ON):
            message = f"{code} comes from the check {check!r}, which `checks` leaves out"
            yield Refusal((*path, "findings", index), message)
