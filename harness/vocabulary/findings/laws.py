"""Findings about the relations that every correct patcher obeys."""

from harness.vocabulary.findings.kind import ERROR, FindingKind

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
    FindingKind(
        "LAW009",
        "laws",
        ERROR,
        "a module and the child whose output it returns recover differently",
        "one of the two names leads to another place: an input instead of an output, or another layer",
    ),
    FindingKind(
        "LAW010",
        "laws",
        ERROR,
        "the same question gets another answer the second time",
        "the engine keeps state between answers, or uses a random number",
    ),
    FindingKind(
        "LAW011",
        "laws",
        ERROR,
        "an l2 recovery depends on the names or the number of tokens",
        "the metric looks at some ids only, or divides by their number in one place and not in another",
    ),
    FindingKind(
        "LAW012",
        "laws",
        ERROR,
        "prompts of unequal length are answered without a word",
        "positions do not correspond, so the numbers mean nothing; raise an error, or warn",
    ),
    FindingKind(
        "LAW013",
        "laws",
        ERROR,
        "a name that does not exist is answered",
        "a mistyped metric, component or layer looks like a result; raise an error that names it",
    ),
    FindingKind(
        "LAW014",
        "laws",
        ERROR,
        "the model is not what it was before, after an exception",
        "undo the interception in a `finally`, for every way out of the forward pass",
    ),
    FindingKind(
        "LAW015",
        "laws",
        ERROR,
        "the model is not what it was before, after Ctrl-C",
        "KeyboardInterrupt is no Exception: undo the interception in a `finally`, not in an `except Exception`",
    ),
    FindingKind(
        "LAW016",
        "laws",
        ERROR,
        "something that the engine declares is answered wrongly",
        "the message names the mistake that makes its numbers of the right ones; what it does not do, it should not "
        "declare",
    ),
)
