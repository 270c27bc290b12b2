"""Findings about an engine: its metric against float64, its metrics against each other, its errors."""

from harness.vocabulary.findings.kind import CASE, ENGINE, ENVIRONMENT, ERROR, WARNING, FindingKind

KINDS = (
    FindingKind(
        "ORC001",
        "oracle",
        ERROR,
        ENGINE,
        "the baseline differs from float64 on the engine's own logits",
        "the metric is wrong, not the patch, by no rule that is known: hold it step by step against float64",
    ),
    FindingKind(
        "ORC002",
        "oracle",
        ERROR,
        ENGINE,
        "a recovery differs from float64 on the engine's own logits",
        "the metric is wrong, not the patch, by no rule that is known: hold it step by step against float64",
    ),
    FindingKind(
        "ORC003",
        "oracle",
        ERROR,
        ENGINE,
        "a number stands where the value is undefined",
        "a guard turns a zero or non-finite baseline into a number; report the state instead",
    ),
    FindingKind(
        "AGR001",
        "agreement",
        ERROR,
        ENGINE,
        "l2 and mse recoveries contradict each other",
        "recovery_l2 = 1 - sqrt(1 - recovery_mse) holds for any logits; one of the two is wrong",
    ),
    FindingKind(
        "AGR002",
        "agreement",
        ERROR,
        ENGINE,
        "l2 and mse baselines contradict each other",
        "l2² = vocabulary x mse holds for any logits; one of the two is wrong",
    ),
    FindingKind(
        "ENG001",
        "engine",
        ERROR,
        ENGINE,
        "the engine raised an error",
        "the engine could not answer; its message is the evidence",
    ),
    FindingKind(
        "ENG002",
        "engine",
        ERROR,
        ENGINE,
        "the job ran past its time limit",
        "its process was ended; give it more time with `timeout:` or --job-timeout, or less to do",
    ),
    FindingKind(
        "ENG003",
        "engine",
        ERROR,
        ENVIRONMENT,
        "the device failed",
        "neither engine nor model is at fault: give the sweep less memory with --memory, or ask for fewer tokens",
    ),
    FindingKind(
        "STR001",
        "strategy",
        WARNING,
        CASE,
        "the sweep did not go one-pass as the case asks",
        "the numbers are right and took longer; ask for `strategy: auto` or `stepwise` on this model",
    ),
)
