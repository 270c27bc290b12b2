"""Weights that are not what they should be: never loaded, or not made of their originals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from harness.diagnosis.outcome.nouns import SUSPECTED
from harness.diagnosis.zoo.constancy import lora
from harness.diagnosis.zoo.fault import FOLDER, ITS_OWN, PACKED, PlantedFault, on
from harness.diagnosis.zoo.models import BLOCK, LAYERS, both, build, names_in
from harness.diagnosis.zoo.surgery import at
from harness.diagnosis.zoo.weights import NAN_GROUPS, folder_of
from harness.models.loaded import LoadedModel
from harness.models.sources.folder import load_folder

Arguments = Mapping[str, Any]
Edit = Callable[[LoadedModel, str], None]
Plant = Callable[[str], Any]
MODES = {"affine 3": (64, 3), "affine 4": (64, 4), "affine 6": (32, 6), "affine 8": (64, 8), **NAN_GROUPS}
"""How a matrix is quantised -> group size and bits."""


def _named(architecture: str, part: str, block: int = BLOCK) -> str:
    return names_in(architecture, block)[part]


# -- never loaded ------------------------------------------------------------------------------------------------------


def renew(module: Any) -> None:
    """Give a layer the weights that MLX starts it with, drawn from a fixed key."""
    shape, key = module.weight.shape, mx.random.key(sum(module.weight.shape))
    bound = shape[-1] ** -0.5
    if isinstance(module, nn.Embedding):
        new = bound * mx.random.normal(shape, key=key)
    else:
        new = mx.random.uniform(-bound, bound, shape, key=key) if len(shape) > 1 else mx.ones(shape)
    module.weight = new.astype(module.weight.dtype)


def _new(*parts: str, blocks: range | None = None) -> Edit:
    def edit(model: LoadedModel, architecture: str) -> None:
        for block in blocks or (BLOCK,):
            for part in parts:
                renew(at(model.module, _named(architecture, part, block)))

    return edit


def _norms_are_drawn(model: LoadedModel) -> None:
    """Give every norm a weight of its own, as training does."""
    for name, module in model.module.named_modules():
        if "weight" in module and module.weight.ndim == 1:
            seed = mx.random.key(len(name))
            module.weight = module.weight * mx.random.uniform(0.8, 1.2, module.weight.shape, key=seed)


def _unloaded(edit: Edit, quantize: bool = False, norms: bool = False) -> Plant:
    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        model = build(architecture, "float32")
        if norms:
            _norms_are_drawn(model)
        edit(model, architecture)
        if quantize:
            nn.quantize(model.module, 32, 4)
        yield both(model)

    return plant


# -- not what the original makes ---------------------------------------------------------------------------------------


def _converted(edit: Edit, mode: str | None, other: bool = False) -> Plant:
    """Return a planting: a model that is made of a folder, changed on the way, or held against another folder."""

    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        mix = _reversed if other else lambda weights: None
        with (
            folder_of(architecture, "bfloat16", lambda _: None) as mine,
            folder_of(architecture, "bfloat16", mix) as other_,
        ):
            model = load_folder(mine, "converted", "path")
            edit(model, architecture)
            if mode:
                nn.quantize(model.module, *MODES[mode], mode=mode.split()[0])
            yield both(model, before=other_)

    return plant


def _reversed(weights: dict[str, mx.array]) -> None:
    weights |= {name: array[::-1] for name, array in weights.items() if array.ndim > 1}


def _as_it_is(model: LoadedModel, architecture: str) -> None:
    return None


def _adapted(model: LoadedModel, architecture: str) -> None:
    """Fuse an adapter of rank 2, a tenth as large as the weight."""
    down = at(model.module, _named(architecture, "down"))
    rows, columns = down.weight.shape
    a, b = mx.random.normal((rows, 2), key=mx.random.key(1)), mx.random.normal((2, columns), key=mx.random.key(2))
    size = 0.1 * mx.sqrt(mx.mean(mx.square(down.weight.astype(mx.float32))))
    down.weight = (down.weight + size * (a @ b) / 2**0.5).astype(down.weight.dtype)


def _of_another_layer(model: LoadedModel, architecture: str) -> None:
    down, other = (at(model.module, _named(architecture, "down", block)) for block in (BLOCK, BLOCK + 1))
    down.weight = other.weight


def _transposed(model: LoadedModel, architecture: str) -> None:
    output = at(model.module, _named(architecture, "output"))
    output.weight = output.weight.T


LOOKALIKES: Mapping[str, Plant] = {
    "new adapters": _unloaded(lora(0.0)),
    "norms that are ones": _unloaded(_as_it_is),
    **{f"quantised as it should be, {mode}": _converted(_as_it_is, mode) for mode in MODES},
    "cast as it should be": _converted(lambda model, _: model.module.set_dtype(mx.float16), None),
}
"""Models without a fault that come near the faults below."""

_DOWN = {"run": "weights", "module": "{down}.weight", "layer": BLOCK}
_MOST = _new("down", "up", "output", blocks=range(1, LAYERS))

FAULTS = (
    PlantedFault(
        "F27", "tensors that were never loaded", "mlx-lm#648, transformers#43429, vllm#53020", "S",
        "which tensors are as MLX starts them, where others are not",
        (
            *on("llama qwen3 gpt2", _unloaded(_new("down")), "one", place=_DOWN, words=("{down}.weight",),
                confidence=SUSPECTED, without=PACKED),
            *on("llama qwen3", _unloaded(_new("head")), "head", place={"module": "{head}.weight"}, words=("uniform",),
                confidence=SUSPECTED, without=PACKED),
            *on("llama gpt2", _unloaded(_new("embedding")), "embedding", place={"module": "{embedding}.weight"},
                words=("normal",), confidence=SUSPECTED, without=PACKED),
            *on("llama gpt2", _unloaded(_MOST), "most layers", place={**_DOWN, "module": "{output}.weight"},
                words=("3 layers",), confidence=SUSPECTED, without=PACKED),
            *on("llama gpt2", _unloaded(_new("up", blocks=range(LAYERS))), "one projection everywhere",
                place={"run": "weights", "layer": 0}, words=("4 layers", "uniform"), confidence=SUSPECTED,
                without=PACKED),
            *on("llama qwen3", _unloaded(_new("down", blocks=range(LAYERS)), quantize=True), "quantised",
                place={"run": "weights", "layer": 0}, words=("4 layers", "uniform"), confidence=SUSPECTED,
                without=ITS_OWN),
            *on("llama qwen3", _unloaded(_new("norm"), norms=True), "a norm", words=("all 1",), confidence=SUSPECTED,
                place={**_DOWN, "module": "{norm}.weight"}, without=PACKED),
        ),
    ),
    PlantedFault(
        "F28", "weights that are not the original's", "mlx-lm#1172, #1564 (adapter dropped)", "S",
        "the tensor, how many groups, how far beyond half a step, and what it is instead",
        (
            *(each for mode in MODES for each in
              on("llama qwen3", _converted(_adapted, mode), f"an adapter, {mode}", place=_DOWN,
                 words=("groups", "adapter"), without=ITS_OWN)),
            *on("llama qwen3", _converted(_as_it_is, "affine 4", other=True), "unrelated", place={"run": "weights"},
                words=("nothing of its original",), without=ITS_OWN),
            *on("llama gpt2", _converted(_of_another_layer, "affine 8"), "another layer", place=_DOWN,
                words=("of the originals",), without=ITS_OWN),
            *on("llama gpt2", _converted(_transposed, "affine 4"), "transposed",
                place={**_DOWN, "module": "{output}.weight"}, words=("transposed",), without=ITS_OWN),
            *on("llama qwen3", _converted(_adapted, None), "not quantised", place=_DOWN, words=("adapter",),
                without=FOLDER),
        ),
    ),
)  # fmt: skip
