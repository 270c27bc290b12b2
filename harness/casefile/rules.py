"""The rules between the fields of a case: nothing is expected of what the case does not run.

Each rule yields a `Refusal` for everything that breaks it, so that all of them are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.casefile.document import shown, with_article
from harness.casefile.fields import Refusal
from harness.errors import suggest
from harness.findings import FINDINGS

if TYPE_CHECKING:
    from harness.casefile.schema import CaseFile, Expectation, Known

# An engine that raises and an expectation that fails are findings whatever a case switches off.
ALWAYS_ON = ("engine", "expectation")


def broken_rules(case: CaseFile) -> list[Refusal]:
    """Return everything that a case expects of something it does not run."""
    return [*_unmeasured(case), *_foreign_engines(case), *_unchecked(case)]


def _unmeasured(case: CaseFile) -> Iterator[Refusal]:
    """Yield what known values ask of metrics, components, layers, engines and models that the case does not run."""
    for index, baseline in enumerate(case.expect.baselines):
        for field, message in _foreign_names(case, baseline):
            yield Refusal(("expect", "baselines", index, field), message)
    for index, recovery in enumerate(case.expect.recoveries):
        for field, message in _foreign_names(case, recovery):
            yield Refusal(("expect", "recoveries", index, field), message)
        if not _swept(recovery.layer, case.sweep.layers):
            message = f"layer {recovery.layer} is not in this case's sweep.layers"
            yield Refusal(("expect", "recoveries", index, "layer"), message)
        if (recovery.position is None) is (case.sweep.positions == "each"):
            wants = "needs" if recovery.position is None else "has no use for"
            message = f"a recovery of this sweep {wants} a position; only 'positions: each' gives one to every cell"
            yield Refusal(("expect", "recoveries", index), message)
        if (recovery.head is None) is (recovery.component == "z"):
            wants = "needs a head" if recovery.head is None else "has no heads; only 'z' has"
            yield Refusal(("expect", "recoveries", index, "component"), f"{recovery.component!r} {wants}")


def _foreign_names(case: CaseFile, known: Known) -> Iterator[tuple[str, str]]:
    own = {
        "metric": case.metrics,
        "component": case.sweep.components,
        "engine": case.engines,
        "model": case.models,
    }
    for field, names in own.items():
        name = getattr(known, field, None)
        if name is not None and name not in names:
            yield field, f"{shown(name)} is not {with_article(field)} of this case; {suggest(name, names)}"


def _swept(layer: int, layers: str | tuple[int, ...]) -> bool:
    """Return whether a sweep can hold a layer; only the model knows whether -1 and 23 are the same one."""
    return isinstance(layers, str) or layer in layers or any((other < 0) != (layer < 0) for other in layers)


def _foreign_engines(case: CaseFile) -> Iterator[Refusal]:
    for engine in case.expect.engines:
        if engine not in case.engines:
            message = f"{shown(engine)} is not an engine of this case; {suggest(engine, case.engines)}"
            yield Refusal(("expect", "engines", engine), message, at_key=True)


def _unchecked(case: CaseFile) -> Iterator[Refusal]:
    """Yield findings that must appear although their check is switched off."""
    yield from _switched_off(case, ("expect",), case.expect)
    for engine, expectation in case.expect.engines.items():
        yield from _switched_off(case, ("expect", "engines", engine), expectation)


def _switched_off(case: CaseFile, path: tuple[str, ...], expectation: Expectation) -> Iterator[Refusal]:
    for index, code in enumerate(expectation.findings):
        check = FINDINGS[code].check
        if check not in (*case.checks, *ALWAYS_ON):
            message = f"{code} comes from the check {check!r}, which `checks` leaves out"
            yield Refusal((*path, "findings", index), message)
