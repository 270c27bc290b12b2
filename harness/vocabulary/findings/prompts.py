"""Findings about the prompts and the answers of a case."""

from harness.vocabulary.findings.kind import CASE, ERROR, NOTE, WARNING, FindingKind

KINDS = (
    FindingKind(
        "ALN001",
        "alignment",
        ERROR,
        CASE,
        "the prompts differ in token length",
        "positions do not correspond; choose prompts with the same number of tokens",
    ),
    FindingKind(
        "ANS001",
        "alignment",
        ERROR,
        CASE,
        "clean and corrupted runs prefer the same token",
        "give `prompts.answer` and `prompts.wrong` for logit_diff and log_prob",
    ),
    FindingKind(
        "TOK001",
        "tokens",
        WARNING,
        CASE,
        "a prompt begins with the BOS token twice",
        "take it out of the text, or say `special_tokens: false`; a model is trained on one",
    ),
    FindingKind(
        "TOK002",
        "tokens",
        WARNING,
        CASE,
        "the tokenizer ends a prompt with a special token",
        "the last logits are about what follows the end; say `special_tokens: false`, and write BOS into the text",
    ),
    FindingKind(
        "TOK003",
        "tokens",
        NOTE,
        CASE,
        "pad tokens in front of a prompt are attended to",
        "no mask hides them here, so they move every logit; choose prompts of equal length without padding",
    ),
)
