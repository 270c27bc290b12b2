"""Builds of MLX that are wrong: at some sizes, when compiled, or in the very primitive that looks for NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import mlx.core as mx

from harness.diagnosis.outcome.nouns import SUSPECTED
from harness.diagnosis.zoo.fault import PlantedFault, on
from harness.diagnosis.zoo.models import BLOCK, alone, both, build, names_in
from harness.diagnosis.zoo.surgery import Change, at, behave, change_output, replaced

Arguments = Mapping[str, Any]

LONGEST_RIGHT = 37


def _tail(value: Callable[[mx.array], mx.array]) -> Change:
    """Return a change of what lies beyond LONGEST_RIGHT tokens of an array `[1, tokens, width]`."""

    def change(out: mx.array) -> mx.array:
        beyond = (mx.arange(out.shape[1]) >= LONGEST_RIGHT)[None, :, None]
        return mx.where(beyond, value(out), out).astype(out.dtype)

    return change


def _length(value: Callable[[mx.array], mx.array]) -> Callable[[str], AbstractContextManager[Arguments]]:
    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        model = build(architecture, "float32")
        change_output(at(model.module, names_in(architecture)["attention"]), _tail(value))
        yield alone(model, lengths=(1, 64))

    return plant


def _traced(x: mx.array) -> bool:
    """Return whether a compilation is at work: it refuses to evaluate."""
    try:
        mx.eval(x + 0)
    except (ValueError, RuntimeError):
        return True
    return False


def _wrong_when_compiled(out: mx.array) -> mx.array:
    return out * mx.nan if _traced(out) else out


@contextmanager
def _forgetful(architecture: str) -> Iterator[Arguments]:
    """Attention of one block that keeps nothing in the cache."""
    model = build(architecture, "float32")
    attention = at(model.module, names_in(architecture)["attention"])
    behave(attention, lambda own, x, mask=None, cache=None: own(x, mask, None))
    yield alone(model, lengths=(1, 64))


@contextmanager
def _without_window(architecture: str) -> Iterator[Arguments]:
    """Attention whose mask of a whole prompt has no window, where the cache forgets beyond it."""
    model = build(architecture, "float32")
    for block in model.module.layers:
        behave(
            block.self_attn, lambda own, x, mask=None, cache=None: own(x, "causal" if x.shape[1] > 1 else mask, cache)
        )
    yield alone(model, lengths=(1, 64))


@contextmanager
def _compiled_by_us(architecture: str) -> Iterator[Arguments]:
    """A block that goes wrong as soon as somebody compiles what it is in."""
    model = build(architecture, "float32")
    change_output(at(model.module, names_in(architecture)["block"]), _wrong_when_compiled)
    yield alone(model, compare_compile=True)


@contextmanager
def _compiled_by_the_model(architecture: str) -> Iterator[Arguments]:
    """A block that compiles a part of itself."""
    model = build(architecture, "float32")
    change_output(at(model.module, names_in(architecture)["block"]), mx.compile(_wrong_when_compiled))
    yield alone(model, compare_compile=True)


def _blind(name: str) -> Callable[[str], AbstractContextManager[Arguments]]:
    """Return a planting in which a reduction of MLX takes NaN for the smallest value."""

    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        model, own = build(architecture, "float32"), getattr(mx, name)

        def reduce(a: mx.array, *args: Any, **kwargs: Any) -> Any:
            return own(mx.where(a == a, a, -mx.inf if name == "max" else mx.inf), *args, **kwargs)

        with replaced(mx, name, reduce):
            yield both(model)

    return plant


@contextmanager
def _blind_isnan(architecture: str) -> Iterator[Arguments]:
    model = build(architecture, "float32")
    with replaced(mx, "isnan", lambda a, *args, **kwargs: mx.zeros(a.shape, mx.bool_)):
        yield both(model)


_ATTENTION = {"module": "{attention}", "layer": BLOCK}
_BLOCK = {"module": "{block}", "layer": BLOCK}

FAULTS = (
    PlantedFault(
        "F17", "a kernel wrong at some sizes only", "mlx#665, mlx-lm#58 (1,067 tokens), mlx#3361", "H/S",
        "the smallest failing length, by bisection",
        (
            *on("llama qwen3 gemma2 gpt2", _length(lambda out: out * mx.nan), "NaN",
                place={**_ATTENTION, "token": LONGEST_RIGHT}, numbers=(LONGEST_RIGHT + 1,)),
            *on("llama gpt2 cohere mixtral", _length(lambda out: out * 2), "finite", place=_ATTENTION,
                numbers=(LONGEST_RIGHT + 1,), confidence=SUSPECTED),
        ),
    ),
    PlantedFault(
        "F32", "cached and whole run disagree", "mlx-node#33, mlx-lm#390", "S",
        "which two ways disagree: from 2 tokens on the cache, at the window + 1 the mask",
        (
            *on("llama qwen3", _forgetful, "cache", place=_ATTENTION, numbers=(2,), words=("cache",)),
            *on("gemma3_text", _without_window, "mask", place={"step": "comparisons"}, words=("window",)),
        ),
    ),
    PlantedFault(
        "F18", "compiled differs from eager", "mlx#1234", "H",
        "the block, and that it is wrong compiled only",
        (
            *on("llama qwen3 gpt2", _compiled_by_us, "by us", place=_BLOCK, words=("compiled", "eager")),
            *on("llama gemma2", _compiled_by_the_model, "by the model", place=_BLOCK, words=("compiled", "eager")),
        ),
    ),
    PlantedFault(
        "F19", "the detector's own primitive drops NaN", "mlx#2339, #3269, #4146, #4220", "X",
        "the detector is not safe on this build, and which primitive",
        (
            *on("llama qwen3", _blind("max"), "max", place={"step": "environment"}, words=("max",)),
            *on("llama qwen3", _blind("min"), "min", place={"step": "environment"}, words=("min",)),
            *on("llama qwen3", _blind_isnan, "isnan", place={"step": "environment"}, words=("isnan",)),
        ),
    ),
)  # fmt: skip
