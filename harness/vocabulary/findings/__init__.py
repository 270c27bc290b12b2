"""The table of finding codes: one file a family, one row a code.

A code is for ever: people search for it, cases expect it. `docs/findings/CODE.md` explains each one.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.vocabulary.findings import (
    attribution,
    diagnosis,
    engines,
    expectations,
    laws,
    models,
    prompts,
    reference,
    snapshots,
    values,
)
from harness.vocabulary.findings.kind import ENGINE, ERROR, FindingKind, Severity, Subject

FAMILIES = (values, prompts, engines, reference, expectations, laws, models, snapshots, attribution, diagnosis)
FINDINGS: Mapping[str, FindingKind] = {kind.code: kind for family in FAMILIES for kind in family.KINDS}


def kind_of(code: str) -> FindingKind:
    """Return what a code means; one of another version's results is an error as far as this version can know."""
    return FINDINGS.get(code) or FindingKind(
        code=code,
        check="",
        severity=ERROR,
        subject=ENGINE,
        title="a finding that this version does not know",
        hint="the version that wrote the result has a page of it",
    )


__all__ = ["FINDINGS", "FindingKind", "Severity", "Subject", "kind_of"]
