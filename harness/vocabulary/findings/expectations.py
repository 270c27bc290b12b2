"""Findings about what a case, or a closed form, knows beforehand."""

from harness.vocabulary.findings.kind import CASE, ENGINE, ERROR, FindingKind

KINDS = (
    FindingKind(
        "KNO001",
        "known-answer",
        ERROR,
        ENGINE,
        "a value differs from the known answer",
        "it is a closed form of the model or stated in the case; the engine is wrong, or the case",
    ),
    FindingKind(
        "EXP001",
        "expectation",
        ERROR,
        CASE,
        "an expected finding did not appear",
        "the fault this case exists for is no longer seen: repaired, or no longer detected",
    ),
    FindingKind(
        "EXP002",
        "expectation",
        ERROR,
        ENGINE,
        "a value that the case expects to be finite is not",
        "look at the state: nan and inf have findings of their own, zero-baseline leaves nothing to recover",
    ),
    FindingKind(
        "EXP003",
        "expectation",
        ERROR,
        CASE,
        "a baseline is outside the range that the case states",
        "other prompts, weights or numbers than the case was written for; or widen expect.baseline_range",
    ),
    FindingKind(
        "EXP004",
        "expectation",
        ERROR,
        ENGINE,
        "the layers that recover most are not those the case states",
        "the mechanism moved, or two layers are too close to tell apart; widen `among` in expect.top_layers",
    ),
    FindingKind(
        "EXP005",
        "expectation",
        ERROR,
        ENGINE,
        "a recovery stays below the minimum that the case states",
        "the patch does less than it did, or reaches another site",
    ),
    FindingKind(
        "EXP006",
        "expectation",
        ERROR,
        ENGINE,
        "the layers do not recover in the order that the case states",
        "the mechanism moved, or two layers are too close to tell apart; name fewer in expect.rank_order",
    ),
    FindingKind(
        "XFL001",
        "expectation",
        ERROR,
        CASE,
        "a job that is expected to fail passed",
        "the fault is repaired, or no longer detected: remove the xfail from the case",
    ),
)
