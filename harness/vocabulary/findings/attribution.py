"""Findings about somebody else's engine: which part of it is wrong. Its metric has the codes ORC001 to ORC003."""

from harness.vocabulary.findings.kind import ENGINE, ERROR, WARNING, FindingKind

KINDS = (
    FindingKind(
        "ATR001",
        "attribution",
        ERROR,
        ENGINE,
        "the engine's own unpatched run differs from the bare run",
        "perturbation: its interception changes the forward pass, so every number is about another model",
    ),
    FindingKind(
        "ATR002",
        "attribution",
        ERROR,
        ENGINE,
        "the engine's patched logits are not those of the patch",
        "patching: another layer, position, value or moment was patched than was asked for, or none",
    ),
    FindingKind(
        "ATR003",
        "attribution",
        ERROR,
        ENGINE,
        "the engine ran other tokens than the prompts",
        "input: it tokenizes, pads or cuts the prompts its own way; compare its token ids with the case's",
    ),
    FindingKind(
        "ATR004",
        "attribution",
        ERROR,
        ENGINE,
        "cells are missing from the engine's result",
        "reporting: a layer that was asked for and left out looks like one that was never asked for",
    ),
    FindingKind(
        "ATR005",
        "attribution",
        WARNING,
        ENGINE,
        "the engine warned",
        "reporting: a printed warning reaches nobody who only reads the result",
    ),
    FindingKind(
        "ATR006",
        "attribution",
        ERROR,
        ENGINE,
        "a number is wrong, and what was seen does not show why",
        "the runs behind it could not be told apart; compare one layer at a time",
    ),
)
