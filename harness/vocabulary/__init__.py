"""The nouns of the harness. Read this file first.

Activation patching runs a *clean* and a *corrupted* prompt, puts an activation of one run into the other, and asks how
far the output comes back: the *recovery*, in percent. Everything the harness does is a function over the nouns here:

    Case x model x engine  = a job
    Question               what a job asks an engine: two prompts, a sweep, some metrics
    Answer                 what the engine says , beside what float64 says of the same logits (oracle)
    Finding                what a check found in an answer, with a code, a severity and a hint
    JobResult, RunResult   the spine: reports, snapshots, comparison and replay read these and nothing else

This module imports neither mlx nor numpy: a result can be read, compared and drawn where MLX is absent.
"""

from harness.vocabulary.answers import Answer, Cell, Concordance, Curve, Finding, Mistake, RowSummary, Unanswered
from harness.vocabulary.dequantised import AUTO, DEQUANTISE, NEVER, Dequantised
from harness.vocabulary.memory import LARGE, Memory, bytes_of, prediction, size_text
from harness.vocabulary.questions import (
    COMPONENTS,
    METRICS,
    PER_HEAD,
    STRATEGIES,
    VALUES,
    AnswerTokens,
    AskedPair,
    Direction,
    Metric,
    Positions,
    Question,
    Site,
    Sweep,
    Tokens,
    code_refusal,
    is_code,
    metric_named,
    positions_text,
    site_position,
)
from harness.vocabulary.readings import Denominator, Reading, Spread, State
from harness.vocabulary.results import (
    RESULT_SCHEMA,
    Drift,
    Environment,
    JobResult,
    MachineReport,
    ModelCard,
    RunResult,
    SelfTest,
    Speed,
    Status,
)

__all__ = [
    "AUTO",
    "COMPONENTS",
    "DEQUANTISE",
    "LARGE",
    "METRICS",
    "NEVER",
    "PER_HEAD",
    "RESULT_SCHEMA",
    "STRATEGIES",
    "VALUES",
    "Answer",
    "AnswerTokens",
    "AskedPair",
    "Cell",
    "Concordance",
    "Curve",
    "Denominator",
    "Dequantised",
    "Direction",
    "Drift",
    "Environment",
    "Finding",
    "JobResult",
    "MachineReport",
    "Memory",
    "Metric",
    "Mistake",
    "ModelCard",
    "Positions",
    "Question",
    "Reading",
    "RowSummary",
    "RunResult",
    "SelfTest",
    "Site",
    "Speed",
    "Spread",
    "State",
    "Status",
    "Sweep",
    "Tokens",
    "Unanswered",
    "bytes_of",
    "code_refusal",
    "is_code",
    "metric_named",
    "positions_text",
    "prediction",
    "site_position",
    "size_text",
]
