"""Findings about a model that is no function of its input, and about a machine that is none."""

from harness.vocabulary.findings.kind import ENVIRONMENT, ERROR, MODEL, WARNING, FindingKind

KINDS = (
    FindingKind(
        "MOD001",
        "constancy",
        ERROR,
        MODEL,
        "the model answers one prompt in two ways",
        "no number of it means anything: call `model.eval()`, or take out what draws at random or keeps state",
    ),
    FindingKind(
        "MOD002",
        "constancy",
        WARNING,
        ENVIRONMENT,
        "the device is not deterministic",
        "two runs of one prompt differ by a few roundings: do not compare bits on this machine",
    ),
)
