"""Findings about the numbers of a job: baselines, recoveries and the logits behind them."""

from harness.findings.kind import ERROR, FindingKind

KINDS = (
    FindingKind(
        "FIN001",
        "finiteness",
        ERROR,
        "clean logits are not finite",
        "the fault is in the weights or the clean forward pass, before any patching",
    ),
    FindingKind(
        "FIN002",
        "finiteness",
        ERROR,
        "corrupted logits are not finite",
        "the fault is in the weights or the corrupted forward pass, before any patching",
    ),
    FindingKind(
        "FIN003",
        "finiteness",
        ERROR,
        "patched logits are not finite",
        "both unpatched runs decide whether this is the patch; run this case in bfloat16 or float32",
    ),
    FindingKind(
        "FIN004",
        "finiteness",
        ERROR,
        "the engine's baseline is not finite",
        "if the logits are finite the metric overflowed: widen before subtracting and before reducing",
    ),
    FindingKind(
        "FIN005",
        "finiteness",
        ERROR,
        "the engine's recovery is not finite",
        "look at the baseline first: a non-finite baseline makes every recovery non-finite",
    ),
    FindingKind(
        "BAS001",
        "zero-baseline",
        ERROR,
        "clean and corrupted give the same value",
        "no recovery is defined; choose prompts or a metric that tell the two runs apart",
    ),
)
