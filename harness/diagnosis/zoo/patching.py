"""Engines whose taps do something else than they seem to, and models in which nothing can be tapped.

The engines are functions as `docs/engines.md` asks for. They patch one module of every block as engines in use do, by
hand: with proxies, with an attribute, with saved float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import mlx.core as mx

from harness.diagnosis.zoo.arithmetic import DRIFT, WIDEST
from harness.diagnosis.zoo.fault import PlantedFault, on
from harness.diagnosis.zoo.models import BLOCK, both, build, names_in
from harness.diagnosis.zoo.surgery import at, behave
from harness.models.spec import DType

Arguments = Mapping[str, Any]
Ids = Sequence[int]
Recoveries = dict[int, float]


class Proxy:
    """What a tracing library puts in a module's place: it calls it, and keeps or exchanges what comes out.

    It is no `nn.Module`, so that an attribute of a module that becomes a Proxy is not `in` the module any more.
    """

    def __init__(self, module: Any):
        self.module = module
        self.saved: mx.array | None = None
        self.given: mx.array | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        own = self.module(*args, **kwargs)
        self.saved = own
        return own if self.given is None else self.given


def _logits(module: Any, ids: Ids) -> mx.array:
    row: mx.array = module(mx.array([list(ids)]))[0, -1].astype(mx.float32)
    mx.eval(row)
    return row


def _distance(a: mx.array, b: mx.array) -> float:
    return float(mx.sqrt(mx.sum(mx.square(a - b))))


def _sweep(model: Any, clean: Ids, corrupted: Ids, layers: Ids, taps: Sequence[Proxy]) -> Recoveries:
    """Patch one tap after another and return layer -> percent; the taps stand in the model already."""
    target = _logits(model, clean)
    saved = [tap.saved for tap in taps]
    baseline = _distance(target, _logits(model, corrupted))
    found = {}
    for layer in layers:
        taps[layer].given = saved[layer]
        found[layer] = 100 * (1 - _distance(target, _logits(model, corrupted)) / baseline)
        taps[layer].given = None
    return found


def _patches(component: str) -> Callable[[Any], Any]:
    """Declare what a function patches."""

    def declare(function: Any) -> Any:
        function.harness = {"units": "percent", "metrics": ["l2"], "components": [component]}
        return function

    return declare


@_patches("resid_post")
def proxied_blocks(model: Any, clean: Ids, corrupted: Ids, component: str, layers: Ids, metric: str) -> Recoveries:
    """Trace a model with every block behind a proxy, which is of none of the model's own classes."""
    blocks = model.model.layers
    model.model.layers = taps = [Proxy(block) for block in blocks]
    try:
        return _sweep(model, clean, corrupted, layers, taps)
    finally:
        model.model.layers = blocks


@_patches("mlp")
def proxied_head(model: Any, clean: Ids, corrupted: Ids, component: str, layers: Ids, metric: str) -> Recoveries:
    """Trace a model with its output head behind a proxy, which makes `"lm_head" in model` false."""
    head = model.lm_head
    model.lm_head = Proxy(head)
    try:
        return _with_mlps_proxied(Proxy, model, clean, corrupted, layers)
    finally:
        model.lm_head = head


def _with_mlps_proxied(proxy: type[Proxy], model: Any, clean: Ids, corrupted: Ids, layers: Ids) -> Recoveries:
    """Trace a model with every MLP behind a proxy."""
    name = "mlp" if hasattr(model.layers[0], "mlp") else "mlp_block"
    mlps = [getattr(block, name) for block in model.layers]
    taps = [proxy(mlp) for mlp in mlps]
    for block, tap in zip(model.layers, taps, strict=True):
        setattr(block, name, tap)
    try:
        return _sweep(model, clean, corrupted, layers, taps)
    finally:
        for block, mlp in zip(model.layers, mlps, strict=True):
            setattr(block, name, mlp)


class SavesFloat32(Proxy):
    """Keeps activations in float32, as NumPy has them, and gives them back so."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = super().__call__(*args, **kwargs)
        if self.saved is not None:
            self.saved = self.saved.astype(mx.float32)
        return out


@_patches("mlp")
def saving_float32(model: Any, clean: Ids, corrupted: Ids, component: str, layers: Ids, metric: str) -> Recoveries:
    """Patch with activations that were saved in float32."""
    return _with_mlps_proxied(SavesFloat32, model, clean, corrupted, layers)


@_patches("mlp")
def instance_call(model: Any, clean: Ids, corrupted: Ids, component: str, layers: Ids, metric: str) -> Recoveries:
    """Set `__call__` on every MLP itself, where Python does not look for it: nothing is saved, nothing is patched."""
    taps = [Proxy(block.mlp) for block in model.layers]
    for block, tap in zip(model.layers, taps, strict=True):
        object.__setattr__(block.mlp, "__call__", tap)
    try:
        return _sweep(model, clean, corrupted, layers, taps)
    finally:
        for block in model.layers:
            object.__delattr__(block.mlp, "__call__")


def _by(engine: Callable[..., Recoveries], dtype: DType, component: str = "mlp") -> Callable[[str], Any]:
    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        yield both(build(architecture, dtype), engine=engine, component=component, metric="l2")

    return plant


@contextmanager
def _bypassed(architecture: str) -> Iterator[Arguments]:
    """A block that calls the parts of its MLP and never the MLP, as code that was fused by hand does."""
    model, names = build(architecture, "float32"), names_in(architecture)
    mlp = at(model.module, names["mlp"])
    inlined = partial(type(mlp).__call__, mlp)

    def call(own: Any, *args: Any, **kwargs: Any) -> Any:
        block = at(model.module, names["block"])
        block.mlp = inlined
        try:
            return own(*args, **kwargs)
        finally:
            block.mlp = mlp

    behave(at(model.module, names["block"]), call)
    yield both(model, component="mlp", metric="l2")


_PATCHED = {"step": "patched", "run": "patched"}

FAULTS = (
    PlantedFault(
        "F20", "a patch heals the fault by promotion, or never fires", "mlxcel#1710; nnsight#502", "X",
        "the dtype drifts to float32; the patch did not fire",
        (
            *on("llama qwen3", _by(saving_float32, "float16"), "promotion", place={**_PATCHED, "layer": 0},
                words=("float32",), without=WIDEST),
            *on("llama gpt2", _by(instance_call, "float32"), "a tap nobody calls", place=_PATCHED, words=("fire",)),
            *on("llama qwen3 gpt2", _bypassed, "a module nobody calls", words=("fire",),
                place={**_PATCHED, "module": "{mlp}", "layer": BLOCK}),
            *DRIFT,
        ),
    ),
    PlantedFault(
        "F22", "tracing changes the forward",
        "wrappers break `in` (recurrent_gemma) and `isinstance` (olmo_hybrid)", "S",
        "the traced run differs from the bare run",
        (
            *on("olmo_hybrid", _by(proxied_blocks, "float32", "resid_post"), "isinstance", words=("bare",),
                place={"step": "forward", "layer": 1}),
            *on("recurrent_gemma", _by(proxied_head, "float32"), "in", words=("bare",), place={"step": "forward"}),
        ),
    ),
)  # fmt: skip
