"""A case file as it is written: the pydantic models behind it, and the rules between its fields.

    id: capital-smollm2              # optional; the file's name without .case.yaml
    about: The Eiffel Tower is in Paris, the Colosseum in Rome.
    models: [smollm2-135m-f32]
    prompts:
      clean: "The Eiffel Tower is in the city of"
      corrupted: "The Colosseum is in the city of"
      answer: " Paris"
      wrong: " Rome"

Everything else has a default. `harness.casefile.case` turns this into the `Case` that the harness works with.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.casefile.fields import (
    DISTINCT,
    LIST,
    NUMBER,
    TEXT,
    Component,
    Engine,
    NameOf,
    Number,
    Refusal,
    Size,
    Slug,
    Text,
    TokenId,
    either,
    refuse,
)
from harness.casefile.rules import ALWAYS_ON, broken_rules
from harness.findings import FINDINGS
from harness.vocabulary import METRICS, STRATEGIES, Direction

CHECKS = tuple(dict.fromkeys(kind.check for kind in FINDINGS.values() if kind.check not in ALWAYS_ON))
# An expectation about expectations would be circular.
EXPECTABLE = tuple(code for code, kind in FINDINGS.items() if kind.check != "expectation")

MetricName = Annotated[str, NameOf("a metric", tuple(METRICS))]
CheckName = Annotated[str, NameOf("a check", CHECKS)]
FindingCode = Annotated[str, NameOf("a finding to expect", EXPECTABLE)]
FindingCodes = Annotated[tuple[FindingCode, ...], DISTINCT]
TokenIds = Annotated[tuple[TokenId, ...], Field(min_length=1), LIST]
Indices = Annotated[tuple[int, ...], Field(min_length=1), DISTINCT, LIST]
Prompt = Annotated[Annotated[Text, TEXT] | TokenIds, either("text or a list of token ids")]
AnswerToken = Annotated[Annotated[Text, TEXT] | Annotated[TokenId, NUMBER], either("text or a token id")]
Layers = Annotated[
    Annotated[str, NameOf("a choice of layers", ("all",)), TEXT] | Indices,
    either("'all' or a list of layers"),
]
Positions = Annotated[
    Annotated[str, NameOf("a choice of positions", ("all", "last", "each")), TEXT] | Indices,
    either("'all', 'last', 'each' or a list of token positions"),
]


class Part(BaseModel):
    """What every part of a case file has: unknown fields and near-miss types are errors, and nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Prompts(Part):
    """Two prompts of equal token length, as text or token ids, and the tokens that `logit_diff` and `log_prob` read.

    Without answers the most likely token of each run is its answer.
    """

    clean: Prompt
    corrupted: Prompt
    answer: AnswerToken | None = None
    wrong: AnswerToken | None = None

    @model_validator(mode="after")
    def _answers_come_in_pairs(self) -> Self:
        if (self.answer is None) != (self.wrong is None):
            given, lacking = ("answer", "wrong") if self.wrong is None else ("wrong", "answer")
            raise refuse([Refusal((given,), f"{given!r} needs {lacking!r} beside it; give both or neither")])
        if self.answer is not None and self.answer == self.wrong:
            raise refuse([Refusal(("wrong",), "is the same as 'answer'; no metric could tell them apart")])
        return self


class SweepFields(Part):
    """The grid to walk: components x layers, patched at some positions; negative numbers count from the end."""

    components: Annotated[tuple[Component, ...], Field(min_length=1), DISTINCT] = ("mlp_out",)
    layers: Layers = "all"
    direction: Direction = Direction.DENOISING
    positions: Positions = "all"
    strategy: Annotated[str, NameOf("a strategy", STRATEGIES)] = "auto"


class Tolerance(Part):
    """How far numbers may be away: recoveries in percentage points, baselines relative to their size."""

    recovery_points: Size = Field(default=0.05, description="a recovery from its snapshot")
    baseline_relative: Size = Field(default=1e-4, description="a baseline from its snapshot")
    cross_backend_points: Size = Field(default=5.0, description="a recovery from another backend's snapshot")
    cross_backend_relative: Size = Field(default=0.05, description="a baseline from another backend's snapshot")
    oracle_points: Size = Field(default=0.5, description="a recovery from float64 on the same logits")
    oracle_relative: Size = Field(default=0.005, description="a baseline from float64 on the same logits")


class Known(Part):
    """A value that is known beforehand, for every job of the case or for one engine or model."""

    metric: MetricName
    value: Number
    within: Size
    engine: Engine | None = None
    model: Slug | None = None


class KnownBaseline(Known):
    """A known baseline; `value` and `within` are in the metric's own unit."""

    component: Component | None = None


class KnownRecovery(Known):
    """A known recovery of one component at one layer; `value` is in percent, `within` in percentage points."""

    component: Component
    layer: int
    position: int | None = Field(default=None, description="the token, in a sweep with positions: each")
    head: int | None = Field(default=None, description="the head, of the component z")


class Expectation(Part):
    """Findings that must appear and findings that may appear; any other error fails the job."""

    findings: FindingCodes = ()
    may_find: FindingCodes = ()


class Expect(Expectation):
    """What a case expects. An engine named under `engines` gets that expectation instead of the case's own."""

    baselines: tuple[KnownBaseline, ...] = ()
    recoveries: tuple[KnownRecovery, ...] = ()
    engines: dict[Engine, Expectation] = Field(default_factory=dict)


class CaseFile(Part):
    """A case: prompts and a sweep, run on every model through every engine, and what must come out."""

    id: Slug | None = Field(default=None, description="defaults to the file's name without .case.yaml")
    about: str = ""
    tags: Annotated[tuple[Slug, ...], DISTINCT] = ()
    models: Annotated[tuple[Slug, ...], Field(min_length=1), DISTINCT]
    engines: Annotated[tuple[Engine, ...], Field(min_length=1), DISTINCT] = ("native",)
    prompts: Prompts
    sweep: SweepFields = SweepFields()
    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1), DISTINCT] = ("l2", "mse", "cosine")
    checks: Annotated[tuple[CheckName, ...], Field(min_length=1), DISTINCT] = CHECKS
    tolerance: Tolerance = Tolerance()
    precision: bool = Field(default=False, description="sweep again in float32, which gives each recovery an error bar")
    expect: Expect = Expect()

    @model_validator(mode="after")
    def _expects_what_it_runs(self) -> Self:
        if refusals := broken_rules(self):
            raise refuse(refusals)
        return self
