"""The spine: the result of a job and of a run. Reports, snapshots, comparison and replay read these, nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum

from harness.vocabulary.answers import Answer, Concordance, Curve, Finding
from harness.vocabulary.dequantised import Dequantised
from harness.vocabulary.findings import Severity
from harness.vocabulary.memory import Memory
from harness.vocabulary.questions import AnswerTokens, AskedPair, Sweep, Tokens

RESULT_SCHEMA = "mlx-patch-harness/result/1"


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


NO_SNAPSHOT = "any snapshot"
"""How `not_compared` begins where the numbers of a job are not held against stored ones."""


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
    given: str | None = None
    """The folder or repository that `--model` named, where the case does not name the model."""
    case_line: int = 1  # where the case file names its models, for annotations
    partial: bool = False
    """The sweep ended early: cells are missing, no check has seen the others, and no snapshot is compared with them."""
    about: str = ""
    tags: tuple[str, ...] = ()
    card: ModelCard | None = None
    clean: Tokens | None = None
    corrupted: Tokens | None = None
    pairs: tuple[AskedPair, ...] = ()
    """The pairs of prompts that the numbers are means over; then `clean`, `corrupted` and `answers` are None."""
    sweep: Sweep | None = None
    mean_of: tuple[Tokens, ...] = ()
    """The prompts whose mean was put in, where the sweep's value is `mean`."""
    answers: AnswerTokens | None = None
    suppressed: tuple[int, ...] = ()
    strategy: str | None = None
    fallback: str | None = None
    proven_on: str = ""
    """The day of the remembered proof that a walk relied on, as in 2026-11-29; empty where it relied on none."""
    engine_version: str | None = None
    printed: str = ""
    curves: tuple[Curve, ...] = ()
    concordances: tuple[Concordance, ...] = ()
    findings: tuple[Finding, ...] = ()
    not_compared: tuple[str, ...] = ()
    """What the case asks and nobody looked at in this job, and why."""
    timings: Mapping[str, float] = field(default_factory=dict)
    memory: Memory | None = None
    dequantised: Dequantised | None = None
    """What became of the float32 copy; None where none was asked for, or the model is not quantised."""

    @property
    def known(self) -> bool:
        """Whether it would have failed, and every failure is a known one."""
        return self.status is Status.PASSED and any(each.known for each in self.findings)

    @property
    def in_spite(self) -> bool:
        """Whether it passed although a check found an error: one that the case expects."""
        return self.status is Status.PASSED and any(
            each.expected and not each.known and each.severity is Severity.ERROR for each in self.findings
        )

    @property
    def unstored(self) -> bool:
        """Whether it was to be compared with a snapshot, and there is none on any backend, or it is a guest's job."""
        guest = any(text.startswith(NO_SNAPSHOT) for text in self.not_compared)
        return guest or any(each.code == "SNP002" for each in self.findings)

    @property
    def pairs_digest(self) -> str:
        """16 hex digits that change with the tokens of the pairs; no mean depends on their order, and these do not."""
        ids = sorted([each.clean.ids, each.corrupted.ids] for each in self.pairs)
        return hashlib.blake2b(json.dumps(ids).encode(), digest_size=8).hexdigest()

    def line_of(self, finding: Finding) -> int:
        """Return the line of the case file that a finding is about: where the case states what is not so."""
        line = finding.evidence.get("line")
        return line if isinstance(line, int) else self.case_line

    def answered(self, given: Answer) -> JobResult:
        """Return the result with what an answer says: every field that both have."""
        return replace(self, **{name: getattr(given, name) for name in _SHARED})


# `clean` and `corrupted` are logits in an answer and tokens in a result.
_SHARED = {each.name for each in fields(Answer)} & {each.name for each in fields(JobResult)} - {"clean", "corrupted"}


@dataclass(frozen=True)
class SelfTest:
    """One self-test of a machine and how it went."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Drift:
    """How far the numbers of all jobs of one dtype are from those that are stored.

    `points` is the largest move of a recovery in percentage points and `relative` that of a baseline as a share of
    itself; `used` is the largest share of its tolerance that any of them takes, above 1 beyond it.
    """

    dtype: str
    against: str
    jobs: int
    points: float
    relative: float
    used: float
    worst: str


@dataclass(frozen=True)
class Speed:
    """What one sweep took in seconds, in one walk over the layers and step by step."""

    case: str
    model: str
    walk_s: float
    stepwise_s: float


@dataclass(frozen=True)
class MachineReport:
    """What `harness doctor` found out of a machine; `drift` and `speeds` where the bundled cases were run on it."""

    facts: Mapping[str, str]
    probes: tuple[SelfTest, ...]
    notes: tuple[str, ...]
    drift: tuple[Drift, ...] = ()
    speeds: tuple[Speed, ...] = ()

    @property
    def fit(self) -> bool:
        return all(probe.passed for probe in self.probes)


@dataclass(frozen=True)
class RunResult:
    """Everything one run produced: the JSON file, and the source of every report.

    `planned` are the ids of all jobs selected, those of other shards and those never reached among them; `plan` holds,
    in a shard, a digest of what each of them asks. `notes` are what a reader of the verdict must know besides the jobs.
    `project` names the folder that the run was started in, with the commit and the branch of its checkout.
    `repeat` are the options that a command must have to see the same jobs, such as a model table.
    `machine` is there in what `harness doctor --report` writes.
    """

    verdict: Status
    exit_code: int
    environment: Environment
    jobs: tuple[JobResult, ...]
    started: str
    duration_s: float
    shard: str | None = None
    planned: tuple[str, ...] = ()
    plan: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    project: str = ""
    repeat: tuple[str, ...] = ()
    machine: MachineReport | None = None
    schema: str = RESULT_SCHEMA
