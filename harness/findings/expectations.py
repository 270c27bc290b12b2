"""Findings about what a case, or a closed form, knows beforehand."""

from harness.findings.kind import ERROR, FindingKind

KINDS = (
    FindingKind(
        "KNO001",
        "known-answer",
        ERROR,
        "a value differs from the known answer",
        "it is a closed form of the model or stated in the case; the engine is wrong, or the case",
    ),
    FindingKind(
        "EXP001",
        "expectation",
        ERROR,
        "an expected finding did not appear",
        "the fault this case exists for is no longer seen: repaired, or no longer detected",
    ),
)
