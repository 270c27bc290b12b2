"""Findings about two engines that should agree."""

from harness.vocabulary.findings.kind import ENGINE, ERROR, FindingKind

KINDS = (
    FindingKind(
        "REF001",
        "reference",
        ERROR,
        ENGINE,
        "the engine patches differently from the reference engine",
        "float64 on the logits of both differs: another site, position, direction or forward pass, not the metric",
    ),
    FindingKind(
        "REF002",
        "reference",
        ERROR,
        ENGINE,
        "the engine measures differently from the reference engine",
        "float64 on the logits of both agrees: the patches are the same and one of the two metrics is wrong",
    ),
    FindingKind(
        "REF003",
        "reference",
        ERROR,
        ENGINE,
        "the estimate does not follow the reference engine",
        "the model bends too much between the runs: sweep exactly, or see whether `attribution-ig` follows the bend",
    ),
)
