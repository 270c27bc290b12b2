"""Arithmetic that leaves the range of a dtype or has no value, what hides it, and what it depends on.

Each is written as models of several libraries write it, in one module of a sound model. `TWINS` are the same code where
it computes what fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import mlx.core as mx

from harness.diagnosis.outcome.nouns import SUSPECTED
from harness.diagnosis.zoo.fault import ITS_OWN, RANGE, PlantedFault, on
from harness.diagnosis.zoo.models import BLOCK, DIMENSION, DTYPES, TOKEN, alone, both, build, in_the_asked, names_in
from harness.diagnosis.zoo.surgery import at, behave, change_output, put
from harness.models.loaded import LoadedModel
from harness.models.spec import DType

Arguments = Mapping[str, Any]
Plant = Callable[[str], AbstractContextManager[Arguments]]

LARGE = 230.0
"""Its square summed over a head's width is no float16; neither is its exponential."""


def in_part(part: str, built: DType, call: Callable[..., Any], more: Callable[..., Any] = both) -> Plant:
    """Return a planting that lets `call(own, x, ...)` stand for a part of BLOCK, or of the model."""

    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        model = build(architecture, built)
        behave(at(model.module, names_in(architecture)[part]), call)
        yield more(model)

    return plant


# -- overflows ---------------------------------------------------------------------------------------------------------


def scores(scale_first: bool) -> Callable[..., Any]:
    """Attention that is written out; it scales the scores after the product, or the queries before."""

    def attention(own: Any, x: mx.array, *args: Any, **kwargs: Any) -> Any:
        large = x / mx.abs(x).max() * LARGE
        before, after = (1 / 64, 1.0) if scale_first else (1.0, 1 / 64)
        return mx.softmax((large * before) @ large.swapaxes(-1, -2) * after, axis=-1) @ x

    return attention


def routed(subtract: bool) -> Callable[..., Any]:
    """A router that takes the exponentials itself, with or without the maximum subtracted."""

    def mlp(own: Any, x: mx.array) -> Any:
        logits = mx.broadcast_to(mx.array([1.0, 12.0, 3.0, 100.0 if x.dtype != mx.float16 else 5.0], x.dtype),
                                 (*x.shape[:-1], 4))  # fmt: skip
        weights = mx.exp(logits - logits.max(axis=-1, keepdims=True) if subtract else logits)
        return own(x) * (weights / weights.sum(axis=-1, keepdims=True)).sum(axis=-1, keepdims=True)

    return mlp


def rotated(size: float) -> Callable[..., Any]:
    """Values of a size, rotated by hand before they are projected: a corner of a square lies beyond its sides."""

    def values(own: Any, x: mx.array, *args: Any, **kwargs: Any) -> Any:
        half = x.shape[-1] // 2
        a = b = mx.sign(x[..., :half]) * size + size
        angle = mx.arange(x.shape[-2])[:, None] * 0.25
        cos, sin = mx.cos(angle).astype(x.dtype), mx.sin(angle).astype(x.dtype)
        turned = mx.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
        return own(x + turned * 1e-4, *args, **kwargs)

    return values


@contextmanager
def _head(architecture: str) -> Iterator[Arguments]:
    model = build(architecture)
    head = at(model.module, "lm_head")
    behave(at(model.module, "model.norm"), lambda own, x: mx.abs(own(x)) + 1)
    head.weight[DIMENSION] = 6e4
    yield both(model)


@contextmanager
def _group(architecture: str) -> Iterator[Arguments]:
    model = build(architecture, "float16", quantize="4bit")
    at(model.module, names_in(architecture)["down"]).scales[3, 1] = 6e3
    yield both(model)


# -- no value ----------------------------------------------------------------------------------------------------------


def guarded(sound: bool) -> Callable[..., Any]:
    """Weights of which every one that overflows is put to zero, and then divided by their sum, which may be 0."""

    def mlp(own: Any, x: mx.array) -> Any:
        logits = mx.broadcast_to(mx.array([1.0 if sound else 200.0, 200.0], x.dtype), (*x.shape[:-1], 2))
        weights = mx.where(logits > 11, mx.array(0, x.dtype), mx.exp(logits))
        return own(x) * (weights / weights.sum(axis=-1, keepdims=True))[..., :1]

    return mlp


def tiled(sound: bool) -> Callable[..., Any]:
    """A softmax with a sink whose exponential is capped: where every score underflows nothing is left to divide by."""

    def attention(own: Any, x: mx.array, *args: Any, **kwargs: Any) -> Any:
        scores = mx.full((1, x.shape[1], x.shape[1]), -2.0 if sound else -200.0, x.dtype)
        sink = mx.minimum(mx.exp(mx.array(200.0, x.dtype)), mx.array(0.0, x.dtype))
        shares = mx.exp(scores)
        return own(x, *args, **kwargs) * (shares / (shares.sum(axis=-1, keepdims=True) + sink))[..., :1]

    return attention


def rooted(sign: float) -> Callable[..., Any]:
    return lambda own, x: own(x) * mx.sqrt(sign * mx.mean(mx.abs(x), axis=-1, keepdims=True))


def logged(least: float) -> Callable[..., Any]:
    """The entropy of shares of which some are 0, without and with a least value."""

    def mlp(own: Any, x: mx.array) -> Any:
        shares = mx.maximum(mx.sign(x), least)
        return own(x) + 1e-3 * (shares * mx.log(shares)).sum(axis=-1, keepdims=True)

    return mlp


# -- hidden ------------------------------------------------------------------------------------------------------------


@contextmanager
def _tied_cap(architecture: str) -> Iterator[Arguments]:
    """gemma2 caps the logits of the embedding that it uses as its head."""
    model = build(architecture)
    at(model.module, "model.embed_tokens").weight[11 if architecture == "gemma2" else 0] = 6e4
    behave(at(model.module, "model.norm"), lambda own, x: mx.abs(own(x)) + 1)
    yield alone(model) | {"prompt": (3, 7, 9, 200, 5)}


def hiding(hide: Callable[[mx.array], mx.array], value: float, dtype: DType = "float16") -> Plant:
    """Return a planting in which one value of the gate is not finite, and the MLP's code makes a number of it."""

    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        model, names = build(architecture, dtype), names_in(architecture)
        mlp = at(model.module, names["mlp"])
        change_output(at(model.module, names["gate"]), put(value, (TOKEN, DIMENSION)))
        behave(mlp, lambda own, x: mlp.down_proj(hide(mlp.gate_proj(x)).astype(x.dtype)))
        yield both(model)

    return plant


def _top(gate: mx.array) -> mx.array:
    chosen = mx.argpartition(-gate, 2, axis=-1)[..., :2]
    return mx.repeat(mx.take_along_axis(gate, chosen, axis=-1), gate.shape[-1] // 2, axis=-1)


def _best(gate: mx.array) -> mx.array:
    return mx.broadcast_to(mx.argmax(gate, axis=-1, keepdims=True) % 3, gate.shape)


# -- what it depends on ------------------------------------------------------------------------------------------------


def from_position(first: int, value: float = float("nan")) -> Callable[..., Any]:
    def mlp(own: Any, x: mx.array) -> Any:
        return own(x) * mx.where(mx.arange(x.shape[1])[:, None] >= first, value, 1.0).astype(x.dtype)

    return mlp


@contextmanager
def _second_call(architecture: str) -> Iterator[Arguments]:
    """A module that two layers share, as looped models do, and that keeps something of its first call."""
    model, calls = build(architecture), [0]
    layers = model.module.layers

    def mlp(own: Any, x: mx.array) -> Any:
        calls[0] += 1
        return own(x) * (1.0 if calls[0] % 2 else float("nan"))

    behave(layers[BLOCK].mlp, mlp)
    layers[BLOCK + 1].mlp = layers[BLOCK].mlp
    yield both(model)


# -- drift -------------------------------------------------------------------------------------------------------------


def widening(own: Any, x: mx.array, *args: Any, **kwargs: Any) -> Any:
    return own(x, *args, **kwargs) * mx.array(1.0, mx.float32)


TWINS: Mapping[str, tuple[str, DType, Callable[..., Any]]] = {
    "scaled first": ("attention", "float16", scores(scale_first=True)),
    "maximum subtracted": ("mlp", "bfloat16", routed(subtract=True)),
    "a small rotation": ("attention", "float16", rotated(1e4)),
    "a guard that leaves something": ("mlp", "float16", guarded(sound=True)),
    "a sink that leaves something": ("attention", "float32", tiled(sound=True)),
    "a positive root": ("mlp", "bfloat16", rooted(1.0)),
    "a least value": ("mlp", "float16", logged(1e-3)),
    "a position that is finite": ("mlp", "float16", from_position(4, 1.5)),
}
"""Name -> the part, the dtype and the sound code that stands for it."""

_MLP = {"run": "clean", "module": "{mlp}", "layer": BLOCK}
_ATTENTION = {"run": "clean", "module": "{attention}", "layer": BLOCK}
_BLOCK = {"run": "clean", "module": "{block}", "layer": BLOCK}
_GATE = {"run": "clean", "module": "{gate}", "layer": BLOCK, "token": TOKEN, "dimension": DIMENSION}
_DOWN = {"run": "clean", "module": "{down}", "layer": BLOCK}
_HEAD = {"run": "clean", "module": "{head}", "layer": None, "dimension": DIMENSION}
_TWO = "llama qwen3"


def asking(dtype: DType) -> Callable[[LoadedModel], dict[str, Any]]:
    """Return the arguments of a diagnosis for which the model is cast."""
    return lambda model: both(model, dtype=in_the_asked(dtype))


WIDEST = dict.fromkeys(("float32", "4bit"), "nothing is wider than its activations")


def _but(*dtypes: str) -> Mapping[str, str]:
    return dict.fromkeys(set(DTYPES) - {*dtypes}, "each dtype has a planting of its own")


DRIFT = (
    *on(_TWO, in_part("block", "float32", widening, asking("float16")), "a residual", place=_BLOCK, words=("float32",),
        without=WIDEST),
    *on(_TWO, in_part("attention", "float32", widening, asking("bfloat16")), "a module", place=_ATTENTION,
        words=("float32",), without=WIDEST),
)  # fmt: skip
"""Plantings of F20: a run that does not stay in the dtype that was asked for."""

FAULTS = (
    PlantedFault(
        "F31", "an operation has no value, where an inf that was thrown away is not the cause", "TensorRT-LLM#19220",
        "H", "the later operation, and which: 0/0, the root of a negative number, log(0)",
        (
            *on(_TWO, in_part("mlp", "float16", guarded(False)), "guarded exp", place=_MLP, words=("0/0",)),
            *on(_TWO, in_part("attention", "float32", tiled(False)), "tiled", place=_ATTENTION, words=("0/0",)),
            *on(_TWO, in_part("mlp", "bfloat16", rooted(-1.0)), "root", place=_MLP, words=("sqrt(-",)),
            *on(_TWO, in_part("mlp", "float16", logged(0.0)), "log", place=_MLP, words=("log(0)",)),
        ),
    ),
    PlantedFault(
        "F34", "an operation outside the MLPs leaves the range of its dtype", "Gemma 3: mlx-lm#28; DeepSeek-V3", "H",
        "overflow: the operands, the true value, the dtype and its limit; a remedy that helps in this dtype",
        (
            *on(_TWO, in_part("attention", "float16", scores(False)), "scores", place=_ATTENTION,
                words=("overflow", "summed over"), numbers=(65504,), without=RANGE),
            *on(_TWO, _head, "head", place=_HEAD, words=("overflow", "summed over"), numbers=(65504,), without=RANGE),
            *on(_TWO, in_part("mlp", "float16", routed(False)), "router, float16", place=_MLP,
                words=("overflow", "exp(12)"), numbers=(162754.8, 65504), without=_but("float16")),
            *on(_TWO, in_part("mlp", "bfloat16", routed(False)), "router, bfloat16", place=_MLP,
                words=("overflow", "exp(100)"), numbers=(2.688e43,), without=_but("bfloat16")),
            *on(_TWO, in_part("mlp", "float32", routed(False)), "router, float32", place=_MLP,
                words=("overflow", "exp(100)"), numbers=(2.688e43,), without=_but("float32", "4bit")),
            *on(_TWO, in_part("attention", "float16", rotated(3e4)), "rotation", place=_ATTENTION,
                words=("overflow",), numbers=(65504,), without=RANGE),
        ),
    ),
    PlantedFault(
        "F35", "a value that is not finite is hidden again", "getainode#186", "X",
        "where it appears, and what made a number of it",
        (
            *on("gemma2", _tied_cap, "a cap after a tied head", place={"run": "clean", "module": "{embedding}"},
                words=("as_linear", "tanh"), besides=("F34",), without=RANGE),
            *on(_TWO, hiding(lambda gate: gate.astype(mx.int8), float("inf")), "integers", place=_GATE,
                words=("astype",)),
            *on(_TWO, hiding(lambda gate: mx.clip(gate, -4, 4), float("inf"), "bfloat16"), "clip", place=_GATE,
                words=("clip",)),
            *on(_TWO, hiding(lambda gate: mx.nan_to_num(gate), float("nan"), "float32"), "nan_to_num", place=_GATE,
                words=("nan_to_num",)),
            *on(_TWO, hiding(_best, float("nan")), "argmax", place=_GATE, words=("argmax",)),
            *on(_TWO, hiding(_top, float("-inf")), "top-k", place=_GATE, words=("argpartition",)),
        ),
    ),
    PlantedFault(
        "F36", "a module fails from a token position on, or from a call on", "\"fine up to N tokens\"", "H",
        "the position, or which call of the module is the first that is not finite",
        (
            *on(_TWO, in_part("mlp", "float16", from_position(4)), "position", place={**_MLP, "token": 4},
                words=("from token 4 on",), confidence=SUSPECTED),
            *on(_TWO, _second_call, "second call", place={"run": "clean"}, words=("the first call",),
                confidence=SUSPECTED),
        ),
    ),
)  # fmt: skip

OVERFLOWING_GROUP = on(
    _TWO, _group, "beyond the range", place=_DOWN, words=("group 1", "6000", "bias"), without={**RANGE, **ITS_OWN}
)
"""A planting of F14: a scale that is finite, and too large for the weights that it makes."""
