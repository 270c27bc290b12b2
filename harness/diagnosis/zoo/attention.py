"""Masks: rows that see nothing, and values that a mask does not hide."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import mlx.core as mx

from harness.diagnosis.zoo.fault import PlantedFault, on
from harness.diagnosis.zoo.models import BLOCK, DIMENSION, HIDDEN, TOKEN, both, build, names_in
from harness.diagnosis.zoo.surgery import at, change_output, put, replaced
from harness.models.loaded import LoadedModel

Arguments = Mapping[str, Any]


def _masked(model: LoadedModel, make: Callable[[mx.array, Any], mx.array]) -> AbstractContextManager[None]:
    """Let the model's code make its mask from the causal one, boolean `[tokens, tokens]`, and the dtype."""

    def create_attention_mask(h: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        tokens = mx.arange(h.shape[1])
        return make(tokens[:, None] >= tokens[None], h.dtype)

    return replaced(sys.modules[type(model.module).__module__], "create_attention_mask", create_attention_mask)


def _empty_row(seen: mx.array) -> mx.array:
    return seen & (mx.arange(len(seen)) != TOKEN)[:, None]


def _additive(seen: mx.array, dtype: mx.Dtype) -> mx.array:
    return mx.where(_empty_row(seen), 0.0, -mx.inf).astype(dtype)


def _boolean(seen: mx.array, dtype: mx.Dtype) -> mx.array:
    return _empty_row(seen)


def _padded(seen: mx.array, dtype: mx.Dtype) -> mx.array:
    """Nobody but itself may see the slot."""
    slot = mx.arange(len(seen)) == TOKEN
    return seen & (~slot[None] | slot[:, None])


@contextmanager
def _empty_additive(architecture: str) -> Iterator[Arguments]:
    model = build(architecture)
    with _masked(model, _additive):
        yield both(model)


@contextmanager
def _empty_boolean(architecture: str) -> Iterator[Arguments]:
    model = build(architecture)
    with _masked(model, _boolean):
        yield both(model)


def _value_dimension(architecture: str) -> int:
    """gpt2 projects queries, keys and values side by side."""
    return 2 * HIDDEN + DIMENSION if architecture == "gpt2" else DIMENSION


@contextmanager
def _leak(architecture: str) -> Iterator[Arguments]:
    """A slot that was never written, behind a mask."""
    model = build(architecture)
    values = at(model.module, names_in(architecture)["values"])
    change_output(values, put(float("nan"), (TOKEN, _value_dimension(architecture))))
    with _masked(model, _padded):
        yield both(model)


_EMPTY = {"run": "clean", "module": "{first_attention}", "layer": 0, "token": TOKEN}
_SLOT = {"run": "clean", "module": "{values}", "layer": BLOCK, "token": TOKEN}

FAULTS = (
    PlantedFault(
        "F12", "fully masked attention row", "mlx#2395, #2608; transformers#32390", "H/S",
        "which rows are empty, in the additive mask (NaN) and in the boolean one (a finite average over all tokens)",
        (
            *on("llama qwen3 gemma2 gpt2", _empty_additive, "additive", place=_EMPTY, numbers=(TOKEN,), words=("row",)),
            *on("llama qwen3 gemma2 gpt2", _empty_boolean, "boolean", place=_EMPTY, numbers=(TOKEN,), words=("row",)),
        ),
    ),
    PlantedFault(
        "F13", "NaN in a masked position leaks (0 x NaN)", "pytorch#101967; vllm#57716", "H",
        "the slot, and that it is masked",
        (
            *on("llama qwen3 gemma2", _leak, place={**_SLOT, "dimension": DIMENSION}, words=("mask",)),
            *on("gpt2", _leak, place={**_SLOT, "dimension": 2 * HIDDEN + DIMENSION}, words=("mask",)),
        ),
    ),
)  # fmt: skip
