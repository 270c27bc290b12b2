"""Findings about somebody else's engine: which part of it is wrong. Its metric has the codes ORC001 to ORC003."""

from harness.vocabulary.findings.kind import ENGINE, ERROR, NOTE, WARNING, FindingKind

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
    FindingKind(
        "ATR007",
        "attribution",
        NOTE,
        ENGINE,
        "the engine's baseline of a score is the gap between the unpatched runs",
        "both are usual; the results hold m(corrupted), and `baseline` in a declaration says which is meant",
    ),
    FindingKind(
        "ATR008",
        "attribution",
        ERROR,
        ENGINE,
        "the engine refuses what it declares, or what the case states",
        "narrow the declaration to what the engine does: metrics, components, positions, directions, architectures",
    ),
)
