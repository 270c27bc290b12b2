"""Models that are no function of their input: they draw at random, or keep state from an earlier call.

Their look-alikes draw nothing, or keep what reaches no output or is keyed rightly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from harness.diagnosis.zoo.fault import PlantedFault, on
from harness.diagnosis.zoo.models import BLOCK, alone, both, build, names_in
from harness.diagnosis.zoo.surgery import at, behave
from harness.models.loaded import LoadedModel

Arguments = Mapping[str, Any]
Plant = Callable[[str], Any]
Own = Callable[..., Any]
_KEPT: dict[Any, mx.array] = {}
"""What a cache of a Python module holds."""


def _planted(change: Callable[[LoadedModel, str], None], arguments: Callable[[LoadedModel], Arguments] = both) -> Plant:
    """Return a planting: a model in float32, changed, under the arguments of a diagnosis."""

    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        model = build(architecture, "float32")
        change(model, architecture)
        _KEPT.clear()
        yield arguments(model)
        _KEPT.clear()

    return plant


def _inside(part: str, call: Callable[..., Any]) -> Callable[[LoadedModel, str], None]:
    """Return a change: `call(module, own, *args)` stands for the module that plays a part."""

    def change(model: LoadedModel, architecture: str) -> None:
        module = at(model.module, names_in(architecture)[part])
        behave(module, lambda own, *args, **kwargs: call(module, own, *args, **kwargs))

    return change


# -- random draws ------------------------------------------------------------------------------------------------------


def lora(dropout: float) -> Callable[[LoadedModel, str], None]:
    """Return a change: adapters as mlx-lm trains them, with weights, in the training mode that MLX modules are born
    in."""

    def change(model: LoadedModel, architecture: str) -> None:
        from harness.models.adapters import with_lora

        with_lora(model.module, dropout)
        model.module.train()

    return change


class _Dropping(nn.Module):  # type: ignore[misc]
    """A layer with dropout after it."""

    def __init__(self, inner: Any, p: float):
        super().__init__()
        self.inner, self.dropout = inner, nn.Dropout(p)

    def __call__(self, x: mx.array) -> mx.array:
        return mx.array(self.dropout(self.inner(x)))


def dropping(p: float) -> Callable[[LoadedModel, str], None]:
    """Return a change: dropout after the projection into the residual stream of one MLP."""

    def change(model: LoadedModel, architecture: str) -> None:
        path = names_in(architecture)["down"]
        parent, _, name = path.rpartition(".")
        setattr(at(model.module, parent), name, _Dropping(at(model.module, path), p))

    return change


def _noise(module: Any, own: Own, *args: Any, **kwargs: Any) -> Any:
    out = own(*args, **kwargs)
    return out + 0.1 * mx.random.normal(out.shape).astype(out.dtype)


def _seldom(module: Any, own: Own, *args: Any, **kwargs: Any) -> Any:
    return own(*args, **kwargs) * mx.where(mx.random.uniform() < 0.25, 1.5, 1.0)


def _jitter(model: LoadedModel, architecture: str) -> None:
    """What a mixture's router does while it is trained: its input is multiplied by a little noise."""
    router = at(model.module, f"{names_in(architecture)['block']}.block_sparse_moe.gate")
    behave(router, lambda own, x: own(x * mx.random.uniform(0.7, 1.3, x.shape)))


# -- state -------------------------------------------------------------------------------------------------------------


def _one_buffer(module: Any, own: Own, x: mx.array, *args: Any, **kwargs: Any) -> Any:
    """Half of what an attention gives is what it gave to the call before."""
    out = own(x, *args, **kwargs)
    before = module.get("buffer")
    module["buffer"] = mx.array(out)
    return out if before is None or before.shape != out.shape else 0.5 * (out + before)


def _position(module: Any, own: Own, x: mx.array, *args: Any, **kwargs: Any) -> Any:
    """A counter of tokens that nobody sets back."""
    module.seen = getattr(module, "seen", 0) + x.shape[1]
    return own(x, *args, **kwargs) * (1 + 0.01 * (module.seen - x.shape[1]))


def _statistics(module: Any, own: Own, x: mx.array) -> Any:
    """A norm that subtracts a running mean."""
    mean = module["running"] if "running" in module else mx.zeros(x.shape[-1])
    module["running"] = 0.9 * mean + 0.1 * x.mean(axis=(0, 1))
    return own(x - module["running"])


def _first_length(module: Any, own: Own, x: mx.array) -> Any:
    """A table of positions, made for the first length and cut or repeated for others."""
    if "table" not in module:
        module["table"] = 1 + 0.1 * mx.sin(mx.arange(x.shape[1]) / x.shape[1])
    at_most = mx.minimum(mx.arange(x.shape[1]), module["table"].size - 1)
    return own(x) * module["table"][at_most][None, :, None]


def _first_mask(module: Any, own: Own, x: mx.array, mask: Any = None, *args: Any, **kwargs: Any) -> Any:
    """A mask made once, by the first call."""
    if not hasattr(module, "mask"):
        module.mask = mask
    return own(x, module.mask, *args, **kwargs)


def _by_length(module: Any, own: Own, x: mx.array, *args: Any, **kwargs: Any) -> Any:
    """A cache of a Python module, keyed by the length alone."""
    if x.shape[1] not in _KEPT:
        _KEPT[x.shape[1]] = own(x, *args, **kwargs)
    return _KEPT[x.shape[1]]


def _last_answer(module: Any, own: Own, x: mx.array, *args: Any, **kwargs: Any) -> Any:
    """A cache of a Python module that is read before it is written."""
    out = own(x, *args, **kwargs)
    before = _KEPT.setdefault("last", out)
    _KEPT["last"] = out
    return before if before.shape == out.shape else out


# -- look-alikes -------------------------------------------------------------------------------------------------------


def _counting(module: Any, own: Own, *args: Any, **kwargs: Any) -> Any:
    module.calls = getattr(module, "calls", 0) + 1
    return own(*args, **kwargs)


def _keyed(module: Any, own: Own, x: mx.array) -> Any:
    key = np.array(x.astype(mx.float32)).tobytes()
    if key not in _KEPT:
        _KEPT[key] = own(x)
    return _KEPT[key]


def _table_by_length(module: Any, own: Own, x: mx.array) -> Any:
    if not hasattr(module, "tables"):
        module.tables = {}
    if x.shape[1] not in module.tables:
        module.tables[x.shape[1]] = 1 + 0.1 * mx.sin(mx.arange(x.shape[1]))
    return own(x) * module.tables[x.shape[1]][None, :, None]


def _drawn_and_dropped(module: Any, own: Own, *args: Any, **kwargs: Any) -> Any:
    mx.random.uniform()
    return own(*args, **kwargs)


LOOKALIKES: Mapping[str, Plant] = {
    "training mode, dropout 0": _planted(dropping(0.0)),
    "LoRA in training mode, dropout 0": _planted(lora(0.0)),
    "a counter that reaches no output": _planted(_inside("mlp", _counting)),
    "a cache keyed by its input": _planted(_inside("norm", _keyed)),
    "a table a length": _planted(_inside("norm", _table_by_length)),
    "a draw that reaches no output": _planted(_inside("mlp", _drawn_and_dropped)),
}
"""Models without a fault that come near the faults below."""

_AT = {"step": "forward", "layer": BLOCK}
_GATHERED = dict.fromkeys(("float16", "bfloat16"), "MLX's CPU multiplies gathered experts in float32 alone")


@contextmanager
def _second_forward(architecture: str) -> Iterator[Arguments]:
    model, calls = build(architecture), [0]

    def mlp(own: Any, x: mx.array) -> Any:
        calls[0] += 1
        return own(x) * (1.0 if calls[0] == 1 else float("nan"))

    behave(at(model.module, names_in(architecture)["mlp"]), mlp)
    yield both(model)


FAULTS = (
    PlantedFault(
        "F25", "the model draws at random: dropout in training mode, a router that jitters", "transformers#2627", "S",
        "the module that draws; that it is in training mode, and `model.eval()`",
        (
            *on("llama qwen3 gemma2", _planted(dropping(0.2)), "dropout", place={**_AT, "module": "{down}.dropout"},
                words=("training mode", "model.eval()")),
            *on("llama qwen3", _planted(lora(0.1)), "LoRA dropout", place={"step": "forward", "layer": 0},
                words=("training mode", "model.eval()")),
            *on("llama gpt2", _planted(_inside("mlp", _noise)), "noise", place={**_AT, "module": "{mlp}"},
                words=("draws at random",)),
            *on("llama qwen3", _planted(_inside("mlp", _seldom)), "one time in four", place={**_AT, "module": "{mlp}"},
                words=("draws at random",)),
            *on("mixtral", _planted(_jitter), "router", words=("draws at random",), without=_GATHERED,
                place={**_AT, "module": "{block}.block_sparse_moe.gate"}),
        ),
    ),
    PlantedFault(
        "F26", "state kept from an earlier call", "flashinfer#3118, iree#12161", "S",
        "the module, and which of its attributes; that A, B, A gives A two answers",
        (
            *on("llama gpt2", _planted(_inside("attention", _one_buffer)), "a buffer", words=("buffer",),
                place={**_AT, "module": "{attention}"}),
            *on("llama qwen3", _planted(_inside("attention", _one_buffer), alone), "a buffer, one prompt",
                words=("buffer",), place={**_AT, "module": "{attention}"}),
            *on("llama qwen3", _second_forward, "the second run", words=("not finite where others are",),
                place={**_AT, "module": "{mlp}"}),
            *on("llama gpt2", _planted(_inside("mlp", _position)), "a position", words=("seen",),
                place={**_AT, "module": "{mlp}"}),
            *on("llama gemma2", _planted(_inside("norm", _statistics)), "running statistics", words=("running",),
                place={**_AT, "module": "{norm}"}),
            *on("llama qwen3", _planted(_inside("norm", _first_length)), "a table of the first length",
                words=("table",), place={**_AT, "module": "{norm}"}),
            *on("llama qwen3", _planted(_inside("attention", _first_mask)), "a mask of the first length",
                words=("mask",), place={**_AT, "module": "{attention}"}),
            *on("llama gpt2", _planted(_inside("mlp", _by_length)), "a cache by length", words=("_KEPT",),
                place={"step": "forward"}),
            *on("llama qwen3", _planted(_inside("mlp", _last_answer)), "the answer before", words=("_KEPT",),
                place={**_AT, "module": "{mlp}"}),
        ),
    ),
)  # fmt: skip
