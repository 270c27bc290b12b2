"""Findings about the numbers of a job: baselines, recoveries and the logits behind them."""

from harness.vocabulary.findings.kind import ERROR, WARNING, FindingKind

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
    FindingKind(
        "HED001",
        "headroom",
        WARNING,
        "a sum of squares in the logits' dtype is near its limit or beyond it",
        "float64 holds it; code that sums in the logits' dtype does not: widen before subtracting and before reducing",
    ),
    FindingKind(
        "SHF001",
        "shift-share",
        WARNING,
        "most of a squared distance is a shift that softmax ignores",
        "kl_divergence or logit_diff see only what a probability can show; use one of them beside it",
    ),
    FindingKind(
        "PRC001",
        "precision",
        WARNING,
        "the dtype's rounding leaves the order of the top cells open",
        "do not read an order into them; run the case in float32, or report the error bars",
    ),
    FindingKind(
        "MET001",
        "metric-comparison",
        WARNING,
        "two metrics rank the cells differently",
        "decide what is to be restored, the logits or a probability, and name the metric beside every ranking",
    ),
)
