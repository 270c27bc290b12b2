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

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.vocabulary.errors import UnknownName
from harness.vocabulary.findings import FINDINGS, FindingKind, Severity

RESULT_SCHEMA = "mlx-patch-harness/result/1"


class State(StrEnum):
    """What a baseline or a recovery is. Only a finite one has a value; nothing else ever becomes 0.0.

    Unknown: a number that float64 could not check, because nobody saw the run it comes from.
    """

    FINITE = "finite"
    INF = "inf"
    NAN = "nan"
    ZERO_BASELINE = "zero-baseline"
    UNDEFINED = "undefined"
    UNKNOWN = "unknown"


class Direction(StrEnum):
    """Denoising puts the clean value into the corrupted run; noising the corrupted value into the clean run.

    Recovery has the same formula in both: 100 is the clean output, 0 the corrupted output.
    """

    DENOISING = "denoising"
    NOISING = "noising"


class Status(StrEnum):
    """How a job, or a run, ended.

    Refused: the case cannot be carried out as written on this model. Crashed: the harness itself is at fault.
    Interrupted: Ctrl-C ended the run; the jobs that ended before it are kept.
    """

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    REFUSED = "refused"
    CRASHED = "crashed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Reading:
    """A number that may not exist: `value` is None exactly when `state` is not finite."""

    value: float | None
    state: State

    def __post_init__(self) -> None:
        finite = self.value is not None and math.isfinite(self.value)
        if finite != (self.state is State.FINITE):
            raise ValueError(f"a reading of {self.value} cannot be {self.state}")

    @classmethod
    def of(cls, value: float) -> Reading:
        """Return the reading of a float, whatever it is."""
        if math.isnan(value):
            return cls(None, State.NAN)
        if math.isinf(value):
            return cls(None, State.INF)
        return cls(float(value), State.FINITE)

    @classmethod
    def absent(cls, state: State) -> Reading:
        """Return a reading that has a state and no value."""
        return cls(None, state)

    @property
    def finite(self) -> bool:
        return self.state is State.FINITE

    def text(self, spec: str = ".4g") -> str:
        """Return the value in the given format, or the name of the state."""
        return format(self.value, spec) if self.value is not None else self.state.value


@dataclass(frozen=True)
class Metric:
    """One way to turn last-token logits into a number.

    A distance is 0 on the clean run and its baseline is its value on the corrupted run; a score, which needs answers,
    is compared on both.
    """

    name: str
    unit: str
    needs_answers: bool
    about: str


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("l2", "logits", False, "Euclidean distance to the clean logits"),
        Metric("mse", "logits²", False, "mean squared difference to the clean logits"),
        Metric("cosine", "1 - cos", False, "cosine distance to the clean logits"),
        Metric("kl_divergence", "nats", False, "KL(clean || x) of the softmax distributions, 0 log 0 = 0"),
        Metric("logit_diff", "logits", True, "logit of the answer minus logit of the wrong answer"),
        Metric("log_prob", "nats", True, "log probability of the answer"),
    )
}


def is_code(name: str) -> bool:
    """Return whether a metric or an engine is somebody's own code, `module:function`, and runs only if allowed."""
    return ":" in name


def code_refusal(noun: str, name: str) -> str:
    """Return what is said to somebody who names code and has not allowed it."""
    return f"the {noun} {name!r} is code of your own, and runs only with --allow-code; nothing was imported"


def metric_named(name: str) -> Metric:
    """Return a metric of the table, or the one that `module:function` means. Raises UnknownName."""
    if is_code(name):
        return Metric(name, "", False, "a function of the user's own")
    if name not in METRICS:
        raise UnknownName("metric", name, METRICS)
    return METRICS[name]


COMPONENTS: Mapping[str, str] = {
    "resid_pre": "residual stream into the block",
    "attn_out": "output of the last module before the attention's residual add",
    "mlp_out": "output of the last module before the MLP's residual add",
    "resid_post": "residual stream out of the block",
    "self_attn": "the attention module's own output",
    "attn": "the attention module's own output",
    "mlp": "the MLP module's own output",
    "output": "the block's own output",
    "z": "attention's output before its output projection, one head at a time",
}

STRATEGIES = ("auto", "one-pass", "stepwise")
"""Orders of work over a sweep; `auto` is one-pass wherever it is proven equal to stepwise."""

Positions = str | tuple[int, ...]
"""`"all"`, `"last"`, token indices (negative ones count from the end), or `"each"`: a layer x position grid."""


def site_position(positions: Positions) -> str:
    """Return how a site names its positions: `all`, `last`, or the indices."""
    return positions if isinstance(positions, str) else ",".join(map(str, positions))


@dataclass(frozen=True)
class Tokens:
    """A prompt as the model reads it: ids, and one piece of text for each."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """Token ids whose logits `logit_diff` and `log_prob` read."""

    answer: int
    wrong: int


@dataclass(frozen=True)
class Sweep:
    """The grid to walk: components x layers (None: every layer), patched at `positions`."""

    components: tuple[str, ...]
    layers: tuple[int, ...] | None = None
    direction: Direction = Direction.DENOISING
    positions: Positions = "all"
    strategy: str = "auto"
    memory: int | None = None
    """Bytes that the rows of one walk may take; None: what the machine has free decides."""


@dataclass(frozen=True)
class Question:
    """What an engine is asked: two prompts of equal token length, a sweep, and metrics over it."""

    clean: Tokens
    corrupted: Tokens
    sweep: Sweep
    metrics: tuple[str, ...]
    answers: Answers | None = None


@dataclass(frozen=True)
class Site:
    """One cell of a sweep: a component at a layer, at some positions."""

    component: str
    layer: int
    position: str = "all"
    head: int | None = None

    def __str__(self) -> str:
        head = "" if self.head is None else f", head {self.head}"
        where = "" if self.position == "all" else f", position {self.position}"
        return f"layer {self.layer} {self.component}{head}{where}"


@dataclass(frozen=True)
class RowSummary:
    """What a row of last-token logits `[vocab]` is made of, counted on the host after widening."""

    nan: int
    pos_inf: int
    neg_inf: int
    absmax: float | None
    first: int | None

    @property
    def finite(self) -> bool:
        return not (self.nan or self.pos_inf or self.neg_inf)


@dataclass(frozen=True)
class Cell:
    """One patched run under one metric: what the engine reported, and what float64 makes of the same logits.

    `precision` is the error bar: how many percentage points the oracle is away from that of the same model in float32.
    None where nobody asked, where the model computes in float32 already, and where either has no value.
    """

    layer: int
    position: str
    recovery: Reading
    oracle: Reading
    head: int | None = None
    precision: float | None = None


@dataclass(frozen=True)
class Curve:
    """One component under one metric: the baseline and the recovery (percent) of every cell.

    `baseline` is what the engine reports, `oracle_baseline` what float64 makes of the same logits. `headroom` is a
    ratio: the largest norm that a sum of squares in the logits' dtype holds, over the norm that this metric squares and
    sums; below 1 it overflows. `shift_share` is the percentage of a squared distance that is one shift of all logits,
    which softmax ignores. Both are None for metrics they mean nothing for, and where there is no baseline.
    """

    component: str
    metric: str
    unit: str
    baseline: Reading
    oracle_baseline: Reading
    cells: tuple[Cell, ...] = ()
    headroom: float | None = None
    shift_share: float | None = None

    @property
    def is_grid(self) -> bool:
        """Whether a layer has several cells, one for each head or position."""
        return len({cell.layer for cell in self.cells}) < len(self.cells)

    def site(self, cell: Cell) -> Site:
        """Return where one of the cells is."""
        return Site(self.component, cell.layer, cell.position, cell.head)

    def paired(self, other: Curve) -> list[tuple[Cell, Cell]]:
        """Return the cells that both curves have, in this one's order: an engine may leave some out of either."""
        theirs = {(cell.layer, cell.position, cell.head): cell for cell in other.cells}
        pairs = [(cell, theirs.get((cell.layer, cell.position, cell.head))) for cell in self.cells]
        return [(cell, match) for cell, match in pairs if match is not None]

    def key(self, cell: Cell) -> int | tuple[int, ...]:
        """Return the layer; in a grid (layer, head), (layer, position) or (layer, head, position)."""
        if not self.is_grid:
            return cell.layer
        head = () if cell.head is None else (cell.head,)
        by_position = len({each.position for each in self.cells}) > 1
        return (cell.layer, *head, *((int(cell.position),) if by_position else ()))


@dataclass(frozen=True)
class Concordance:
    """How far two metrics rank the cells of one component alike.

    `tau` is Kendall's tau-b: 1 for the same order, -1 for the reverse; None where a metric puts no two cells in an
    order. `layers` are those of the cells that stand in opposite order to most others, three cells at most.
    """

    component: str
    metrics: tuple[str, str]
    tau: float | None
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What a check found: a code of `FINDINGS`, where, what was seen, and the numbers behind it."""

    code: str
    message: str
    site: Site | None = None
    metric: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    expected: bool = False

    @property
    def kind(self) -> FindingKind:
        return FINDINGS[self.code]

    @property
    def severity(self) -> Severity:
        return self.kind.severity

    def __str__(self) -> str:
        where = f" {self.site}" if self.site else ""
        metric = f" {self.metric}" if self.metric else ""
        return f"{self.code}{where}{metric}: {self.message}; {self.kind.hint}"


@dataclass(frozen=True)
class Memory:
    """Bytes that a sweep takes above the weights: what its walks may take, what their rows were predicted to, and the
    peak that MLX measured. A walk has `rows` rows at most, the two unpatched ones included."""

    budget: int
    predicted: int
    rows: int
    walks: int
    peak: int | None = None


def bytes_of(text: str) -> int:
    """Return the bytes that `2GB`, `512 MB` or `1.5GiB` stand for. Raises ValueError for anything else."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT]?)(i?)B", text.strip())
    unit = (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " ") if found else 0
    size = int(float(found[1]) * unit) if found else 0
    if not size:
        raise ValueError(f"{text!r} is not an amount of memory such as '2GB' or '512MB'")
    return size


LARGE = 10**8
"""Bytes from which a sweep is announced before it starts."""


def prediction(memory: Memory) -> str | None:
    """Return what to say of a sweep before it starts, or None of a small one."""
    if memory.predicted < LARGE:
        return None
    walks = "one walk" if memory.walks == 1 else f"{memory.walks} walks"
    return (
        f"{walks} of up to {memory.rows} rows, about {size_text(memory.predicted)} above the weights "
        f"(allowed: {size_text(memory.budget)})"
    )


def size_text(size: int) -> str:
    """Return bytes as people read them: `1.3 GB`, `20 MB`."""
    return f"{size / 1e9:.2g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


@dataclass(frozen=True)
class Answer:
    """What an engine answered to a question, with the evidence the checks need.

    `curves` hold reported and float64 readings side by side; the summaries describe the engine's own logits, and
    `dtype` is theirs. `attribution` is what watching somebody else's engine showed, and `printed` what it wrote to
    standard output.
    """

    strategy: str
    clean: RowSummary
    corrupted: RowSummary
    curves: tuple[Curve, ...]
    patched: Mapping[Site, RowSummary] = field(default_factory=dict)
    answers: Answers | None = None
    suppressed: tuple[int, ...] = ()
    fallback: str | None = None
    dtype: str = ""
    concordances: tuple[Concordance, ...] = ()
    stopped: str | None = None
    """`after 31 of 96 cells` where the sweep ended early; cells that were not computed are absent."""
    memory: Memory | None = None
    attribution: tuple[Finding, ...] = ()
    printed: str = ""


@dataclass(frozen=True)
class Environment:
    """Where a run happened: compared by `harness compare`, never by a snapshot."""

    harness: str
    python: str
    platform: str
    backend: str
    device: str
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelCard:
    """What a result says of the model it ran on."""

    id: str
    source: str
    architecture: str
    layers: int
    vocab: int
    dtype: str
    quantization: str | None = None


@dataclass(frozen=True)
class JobResult:
    """One case on one model through one engine."""

    id: str
    case: str
    case_file: str
    model: str
    engine: str
    status: Status
    reason: str | None = None
    case_line: int = 1  # where the case file names its models, for annotations
    partial: bool = False
    """The sweep ended early: cells are missing, no check has seen the others, and no snapshot is compared with them."""
    about: str = ""
    tags: tuple[str, ...] = ()
    card: ModelCard | None = None
    clean: Tokens | None = None
    corrupted: Tokens | None = None
    sweep: Sweep | None = None
    answers: Answers | None = None
    suppressed: tuple[int, ...] = ()
    strategy: str | None = None
    fallback: str | None = None
    engine_version: str | None = None
    printed: str = ""
    curves: tuple[Curve, ...] = ()
    concordances: tuple[Concordance, ...] = ()
    findings: tuple[Finding, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    memory: Memory | None = None


@dataclass(frozen=True)
class RunResult:
    """Everything one run produced: the JSON file, and the source of every report.

    `planned` are the ids of all jobs selected, those of other shards and those never reached among them. `notes` are
    what a reader of the verdict must know besides the jobs.
    """

    verdict: Status
    exit_code: int
    environment: Environment
    jobs: tuple[JobResult, ...]
    started: str
    duration_s: float
    shard: str | None = None
    planned: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    schema: str = RESULT_SCHEMA
