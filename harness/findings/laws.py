"""Findings about the relations that every correct patcher obeys."""

from harness.findings.kind import ERROR, FindingKind

KINDS = (
    FindingKind(
        "LAW001",
        "laws",
        ERROR,
        "the traced run differs from the bare run",
        "recording activations changes the forward pass; the interception breaks something the model uses",
    ),
    FindingKind(
        "LAW002",
        "laws",
        ERROR,
        "a run patched with its own activations changed",
        "the patch writes something else than what was recorded: another site, dtype or position",
    ),
    FindingKind(
        "LAW003",
        "laws",
        ERROR,
        "patching the whole residual does not restore the other run",
        "state travels around the residual stream, or the patch does not reach the block's output",
    ),
    FindingKind(
        "LAW004",
        "laws",
        ERROR,
        "a tap did not fire as often as its recording",
        "the module is called another way, or was compiled before it was tapped",
    ),
    FindingKind(
        "LAW005",
        "laws",
        ERROR,
        "the model is not what it was before the job",
        "the engine leaves something behind: a wrapper, a replaced parameter or a changed value",
    ),
    FindingKind(
        "LAW006",
        "laws",
        ERROR,
        "recoveries change with the scale of the logits",
        "the metric overflows, underflows or adds a constant: widen before subtracting and before reducing",
    ),
    FindingKind(
        "LAW007",
        "laws",
        ERROR,
        "a recovery depends on which other layers are asked for",
        "patched runs are mixed up or leak into each other; the engine must start each from the same run",
    ),
    FindingKind(
        "LAW008",
        "laws",
        ERROR,
        "a recording changes when the model writes in place",
        "the engine keeps references: `x += y` changes the array that was recorded; keep mx.array(x) instead",
    ),
)
