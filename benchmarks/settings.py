"""What is measured: models, prompt lengths and which comparison each setting is for.

The qwen3 of the main table has Qwen's vocabulary and 24 layers at a width of 512: wide enough that matrix products and
weight traffic decide, small enough that 50 full forward passes take seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.models.spec import ModelRow, SyntheticRow, WheelRow

QWEN_VOCAB = 151_936
WIDE: Mapping[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
}
NARROW: Mapping[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}
# Eight experts of which two answer, each half as wide as the dense MLP.
EXPERTS: Mapping[str, Any] = {**NARROW, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 384}
SMOLLM2 = WheelRow(id="smollm2-135m-f32", source="wheel", wheel="smollm2-135m", dtype="float32")

STRATEGIES = ("one-pass", "one-pass and its proof", "one-pass, its proof remembered", "stepwise")
TRAIL = ("forward", "forward with its trail", "A, B, A")
DIAGNOSIS = ("forward", "operation in float64", "cause", "diagnosis of an overflow", "diagnosis")
EVERYBODY = (*STRATEGIES, "2L+2 forwards", "mlxterp", "torch hooks", "TransformerLens")


@dataclass(frozen=True)
class Setting:
    """One row of the results: a model, a prompt length, and who is timed on it."""

    id: str
    row: ModelRow
    tokens: int
    contenders: tuple[str, ...]
    group: str = "main"
    differ: int = 0
    """The token that the two prompts differ in; those before it are a common prefix."""
    options: Mapping[str, Any] = field(default_factory=dict)


def settings(quick: bool) -> list[Setting]:
    """Return everything that is measured; `quick` keeps every kind and makes each tiny."""
    return list(_quick() if quick else _full())


def qwen3(name: str, size: Mapping[str, Any] = WIDE, *, layers: int = 24, vocab: int = QWEN_VOCAB) -> SyntheticRow:
    return _synthetic(name, "qwen3", size, layers, vocab)


def _full() -> Iterator[Setting]:
    for tokens in (4, 8, 16, 32):
        yield Setting(f"qwen3-{tokens}", qwen3("qwen3"), tokens, EVERYBODY)
    experts = _synthetic("qwen3-moe", "qwen3_moe", EXPERTS, 24, QWEN_VOCAB)
    yield Setting("qwen3-moe-8", experts, 8, (*STRATEGIES, "2L+2 forwards", "mlxterp"))
    for tokens in (5, 20):
        yield Setting(f"smollm2-{tokens}", SMOLLM2, tokens, EVERYBODY)
    # "The capital of France is" differs at 3 of 5; "When Mary and John went to the store, John gave" at 9 of 16.
    for row, name, tokens, differ in (
        (SMOLLM2, "smollm2", 5, 3),
        (SMOLLM2, "smollm2", 20, 11),
        (qwen3("q"), "qwen3", 8, 5),
    ):
        yield Setting(f"{name}-{tokens}-prefix-{differ}", row, tokens, EVERYBODY, "prefix", differ)
    narrow = qwen3("qwen3-narrow", NARROW)
    yield Setting("grid-8", narrow, 8, ("grid", "grid, cell by cell"), "grid")
    yield Setting("metrics-8", narrow, 8, ("one metric", "three metrics"), "metrics")
    yield Setting("components-8", narrow, 8, ("one component", "two components"), "components")
    for row, name, tokens in ((qwen3("q"), "qwen3", 8), (qwen3("q"), "qwen3", 64), (SMOLLM2, "smollm2", 20)):
        yield Setting(f"trail-{name}-{tokens}", row, tokens, TRAIL, "trail")
        yield Setting(f"diagnosis-{name}-{tokens}", row, tokens, DIAGNOSIS, "diagnosis", tokens // 2)
    for layers in (6, 12, 48):
        yield Setting(
            f"layers-{layers}", qwen3(f"l{layers}", NARROW, layers=layers), 8, ("one-pass", "stepwise"), "growth"
        )
    for tokens in (2, 8, 64):
        yield Setting(f"tokens-{tokens}", narrow, tokens, ("one-pass", "stepwise"), "growth")
    for vocab in (2_048, 32_000, 262_144):
        yield Setting(f"vocab-{vocab}", qwen3(f"v{vocab}", NARROW, vocab=vocab), 8, ("one-pass", "stepwise"), "growth")


def _quick() -> Iterator[Setting]:
    tiny = qwen3("qwen3-tiny", {}, layers=4, vocab=512)
    yield Setting("qwen3-4", tiny, 4, EVERYBODY)
    yield Setting("qwen3-moe-4", _synthetic("qwen3-moe", "qwen3_moe", {}, 4, 512), 4, STRATEGIES)
    yield Setting("qwen3-6-prefix-4", qwen3("deep", {}, layers=9, vocab=512), 6, EVERYBODY, "prefix", 4)
    yield Setting("grid-3", tiny, 3, ("grid", "grid, cell by cell"), "grid")
    yield Setting("metrics-4", tiny, 4, ("one metric", "three metrics"), "metrics")
    yield Setting("components-4", tiny, 4, ("one component", "two components"), "components")
    yield Setting("trail-4", tiny, 4, TRAIL, "trail")
    yield Setting("diagnosis-4", tiny, 4, DIAGNOSIS, "diagnosis", 2)
    yield Setting("layers-5", qwen3("l5", {}, layers=5, vocab=512), 4, ("one-pass", "stepwise"), "growth")


def _synthetic(name: str, architecture: str, size: Mapping[str, Any], layers: int, vocab: int) -> SyntheticRow:
    return SyntheticRow(
        id=name, source="synthetic", architecture=architecture, vocab=vocab, layers=layers, config=dict(size)
    )
