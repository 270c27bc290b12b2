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
    prompts,
    reference,
    snapshots,
    values,
)
from harness.vocabulary.findings.kind import FindingKind, Severity, Subject

FAMILIES = (values, prompts, engines, reference, expectations, laws, snapshots, attribution, diagnosis)
FINDINGS: Mapping[str, FindingKind] = {kind.code: kind for family in FAMILIES for kind in family.KINDS}

__all__ = ["FINDINGS", "FindingKind", "Severity", "Subject"]
