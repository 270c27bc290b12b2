"""Findings about the prompts and the answers of a case."""

from harness.vocabulary.findings.kind import ERROR, FindingKind

KINDS = (
    FindingKind(
        "ALN001",
        "alignment",
        ERROR,
        "the prompts differ in token length",
        "positions do not correspond; choose prompts with the same number of tokens",
    ),
    FindingKind(
        "ANS001",
        "alignment",
        ERROR,
        "clean and corrupted runs prefer the same token",
        "give `prompts.answer` and `prompts.wrong` for logit_diff and log_prob",
    ),
)
