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

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from harness.casefile.compose.include import Includes
from harness.casefile.compose.variants import Matrix
from harness.casefile.language.checks import CHECKS, unchecked
from harness.casefile.language.expected import Exemptions, Expect, KnownFailures, MetricName
from harness.casefile.language.fields import (
    AMOUNT,
    DISTINCT,
    LIST,
    MAPPING,
    NUMBER,
    TEXT,
    Component,
    Engine,
    Models,
    NameOf,
    Points,
    Refusal,
    Share,
    Slug,
    StrictModel,
    TagName,
    either,
    refuse,
)
from harness.casefile.language.prompts import Pairs, Prompt
from harness.vocabulary import STRATEGIES, VALUES, Direction

CheckName = Annotated[str, NameOf("a check", CHECKS)]
Indices = Annotated[tuple[int, ...], Field(min_length=1), DISTINCT, LIST]
Layers = Annotated[
    Annotated[str, NameOf("a choice of layers", ("all",)), TEXT] | Indices,
    either("'all' or a list of layers"),
]
Positions = Annotated[
    Annotated[str, NameOf("a choice of positions", ("all", "last", "each")), TEXT] | Indices,
    either("'all', 'last', 'each' or a list of token positions"),
]


_BY_DTYPE = either("a number, or numbers by dtype as in {float16: 2}")
_Dtype = Annotated[str, NameOf("a dtype", ("float32", "float16", "bfloat16"))]
ManyPoints = Annotated[
    Annotated[Points, NUMBER] | Annotated[dict[_Dtype, Points], Field(min_length=1), MAPPING], _BY_DTYPE
]
ManyShares = Annotated[
    Annotated[Share, NUMBER] | Annotated[dict[_Dtype, Share], Field(min_length=1), MAPPING], _BY_DTYPE
]


class SweepFields(StrictModel):
    """The grid to walk: components x layers, patched at some positions; negative numbers count from the end."""

    components: Annotated[tuple[Component, ...], Field(min_length=1), DISTINCT] = Field(
        default=("mlp_out",),
        description="what is patched: `attn_out`, `mlp_out`, `z`, `q`, `k`, `v`, `mlp_post`, `mlp.gate_proj`, ...",
    )
    layers: Layers = Field(default="all", description="`all`, or a list of layers")
    direction: Direction = Field(
        default=Direction.DENOISING, description="`denoising`: the clean value into the corrupted run; or `noising`"
    )
    positions: Positions = Field(
        default="all", description="`all`, `last`, a list of tokens, or `each`: a layer x position grid"
    )
    strategy: Annotated[str, NameOf("a strategy", STRATEGIES)] = Field(
        default="auto", description="the order of work: `one-pass`, `stepwise`, or whichever is proven to do"
    )
    value: Annotated[str, NameOf("a value", VALUES)] = Field(
        default="other",
        description="what is put in: the `other` run's activation, `zero`, or the `mean` over `mean_of`",
    )
    mean_of: Annotated[tuple[Prompt, ...], Field(min_length=1), LIST] | None = Field(
        default=None, description="prompts of any lengths, the mean over whose tokens is put in with `value: mean`"
    )
    memory: Annotated[str, AMOUNT] | None = Field(default=None, description="what a walk's rows may take, as in `2GB`")

    @model_validator(mode="after")
    def _puts_in_a_mean_of_prompts(self) -> Self:
        if self.value == "mean" and not self.mean_of:
            raise refuse([Refusal(("value",), "'mean' needs the prompts that it is the mean over: `mean_of`")])
        if self.mean_of and self.value != "mean":
            raise refuse([Refusal(("mean_of",), f"says nothing where the value is {self.value!r}; it is for 'mean'")])
        return self


class Tolerance(StrictModel):
    """How far numbers may be away: recoveries in percentage points, baselines relative to their size.

    Over 100 points or the whole size, nothing would be compared. Rounding depends on the dtype a model computes in: a
    number holds for all of them, a mapping such as `{float16: 2}` for those it names. For the others, and where nothing
    is stated, `harness.metrics.tolerances` has what was measured.
    """

    recovery_points: ManyPoints | None = Field(
        default=None, description="a recovery from its snapshot: a number, or one by dtype; measured without it"
    )
    baseline_relative: ManyShares | None = Field(default=None, description="a baseline from its snapshot, likewise")
    cross_backend_points: ManyPoints | None = Field(
        default=None, description="a recovery from another backend's snapshot, likewise"
    )
    cross_backend_relative: ManyShares | None = Field(
        default=None, description="a baseline from another backend's snapshot, likewise"
    )
    oracle_points: Points = Field(default=0.5, description="a recovery from float64 on the same logits")
    oracle_relative: Share = Field(default=0.005, description="a baseline from float64 on the same logits")
    reference_points: Points = Field(default=0.5, description="a recovery from the reference engine's")
    reference_relative: Share = Field(default=0.005, description="a baseline from the reference engine's")
    reference_correlation: Share = Field(
        default=0.9, description="the least correlation of an estimate's recoveries with the reference engine's"
    )

    def stated(self, name: str, dtype: str, otherwise: float) -> float:
        """Return one of the numbers as stated for a dtype, or what holds otherwise."""
        said = getattr(self, name)
        if isinstance(said, Mapping):
            said = said.get(dtype)
        return otherwise if said is None else float(said)


class CaseFile(StrictModel):
    """A case: prompts and a sweep, run on every model through every engine, and what must come out."""

    id: Slug | None = Field(default=None, description="defaults to the file's name without .case.yaml")
    about: str = Field(default="", description="what the case is for, in a sentence")
    tags: Annotated[tuple[TagName, ...], DISTINCT] = Field(default=(), description="words to select cases by (`-t`)")
    include: Includes | None = Field(default=None, description="files beside the case whose `defaults` it takes")
    models: Annotated[tuple[Models, ...], Field(min_length=1), DISTINCT] = Field(
        description="the models to run on: ids, patterns such as `qwen3-*`, or `tag:moe`"
    )
    engines: Annotated[tuple[Engine, ...], Field(min_length=1), DISTINCT] = Field(
        default=("native",), description="who answers the sweep"
    )
    reference: Engine | None = Field(default=None, description="an engine whose recoveries every job must match")
    prompts: Pairs = Field(description="what the model reads: a pair of prompts, or several to average over")
    sweep: SweepFields = Field(default=SweepFields(), description="what is patched")
    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1), DISTINCT] = Field(
        default=("l2", "mse", "cosine"), description="how the outputs are compared"
    )
    checks: Annotated[tuple[CheckName, ...], Field(min_length=1), DISTINCT] = Field(
        default=CHECKS, description="the questions asked of the answer; all of them without this"
    )
    tolerance: Tolerance = Field(default=Tolerance(), description="how far numbers may be away")
    precision: bool = Field(default=False, description="sweep again in float32, which gives each recovery an error bar")
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="seconds that a job may take; its process is ended then (`--job-timeout` for all)"
    )
    matrix: Matrix | None = Field(default=None, description="what varies: a case for every combination")
    skip: Exemptions | None = Field(default=None, description="jobs that are not run, and why")
    xfail: KnownFailures | None = Field(default=None, description="jobs that are known to fail, and why; passing fails")
    expect: Expect = Field(default=Expect(), description="what must come out")

    @model_validator(mode="after")
    def _expects_what_it_checks(self) -> Self:
        if refusals := [*unchecked(self.expect, self.reference, self.checks)]:
            raise refuse(refusals)
        return self
