"""Weights that are broken before the first forward pass: in a file, in a cast, in a quantisation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from harness.diagnosis.zoo.arithmetic import OVERFLOWING_GROUP
from harness.diagnosis.zoo.fault import FOLDER, ITS_OWN, PACKED, RANGE, PlantedFault, on
from harness.diagnosis.zoo.models import BLOCK, LAYERS, VOCAB, both, build, built_in, in_the_asked, names_in
from harness.diagnosis.zoo.surgery import at
from harness.models.sources import synthetic
from harness.models.sources.folder import load_folder
from harness.models.spec import DType, SyntheticRow

Arguments = Mapping[str, Any]
Weights = dict[str, mx.array]

FILE = "model.safetensors"
ROW, COLUMN, GROUP = 3, 40, 1
NAN_GROUPS = {"affine": (32, 4), "mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}
"""Quantisation mode -> its group size and bits."""


@contextmanager
def folder_of(architecture: str, dtype: DType, edit: Callable[[Weights], Any]) -> Iterator[Path]:
    """Write a model as an mlx-lm folder, its weights edited in place before."""
    row = SyntheticRow(id="saved", source="synthetic", architecture=architecture, vocab=VOCAB, layers=LAYERS,
                       logit_scale=4.0, dtype=in_the_asked(dtype))  # fmt: skip
    module, config = synthetic.build(row)
    weights = dict(tree_flatten(module.parameters()))
    edit(weights)
    with TemporaryDirectory(prefix="harness-zoo-") as name:
        write_folder(Path(name), weights, config)
        yield Path(name)


def write_folder(folder: Path, weights: Weights, config: Mapping[str, Any]) -> None:
    """Write `config.json` and one file of weights."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    mx.save_safetensors(str(folder / FILE), weights, {"format": "mlx"})


def _down(architecture: str) -> str:
    return names_in(architecture)["down"]


@contextmanager
def _cast(architecture: str) -> Iterator[Arguments]:
    """bfloat16 holds 1e5 and 1e-9, float16 makes inf and 0 of them."""

    def edit(weights: Weights) -> None:
        weight = weights[f"{_down(architecture)}.weight"]
        weight[ROW, :3] = 1e5
        weight[ROW + 1, :5] = 1e-9

    with built_in(""), folder_of(architecture, "bfloat16", edit) as folder:
        yield both(folder, dtype="float16")


def _scale(value: float) -> Callable[[str], Any]:
    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        model = build(architecture, "float32", quantize="4bit")
        at(model.module, _down(architecture)).scales[ROW, GROUP] = value
        yield both(model)

    return plant


def _swallowed(mode: str) -> Callable[[str], Any]:
    """A model quantised from a folder in which one weight is NaN; the quantised weights are finite."""

    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        with _folder_with_nan(architecture) as folder:
            model = load_folder(folder, "quantised", "path")
            group, bits = NAN_GROUPS[mode]
            nn.quantize(model.module, group, bits, mode=mode)
            mx.eval(model.module.parameters())
            yield both(model, before=folder)

    return plant


@contextmanager
def _swallowed_in_a_folder(architecture: str) -> Iterator[Arguments]:
    """The pair of folders that a conversion leaves behind."""
    with _folder_with_nan(architecture) as folder, TemporaryDirectory(prefix="harness-zoo-") as name:
        model = load_folder(folder, "quantised", "path")
        nn.quantize(model.module, 32, 4)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        quantised = dict(tree_flatten(model.module.parameters()))
        write_folder(Path(name), quantised, config | {"quantization": {"group_size": 32, "bits": 4}})
        yield both(name, before=folder)


def _folder_with_nan(architecture: str) -> Any:
    def edit(weights: Weights) -> None:
        weights[f"{_down(architecture)}.weight"][ROW, COLUMN] = float("nan")

    return folder_of(architecture, "float32", edit)


@contextmanager
def _zero(architecture: str) -> Iterator[Arguments]:
    model = build(architecture, "float32")
    down = at(model.module, _down(architecture))
    down.weight = mx.zeros_like(down.weight)
    yield both(model)


@contextmanager
def _missing(architecture: str) -> Iterator[Arguments]:
    with folder_of(architecture, "float32", lambda weights: weights.pop(f"{_down(architecture)}.weight")) as folder:
        yield both(folder)


@contextmanager
def _truncated(architecture: str) -> Iterator[Arguments]:
    with folder_of(architecture, "float32", lambda weights: None) as folder:
        content = (folder / FILE).read_bytes()
        (folder / FILE).write_bytes(content[: len(content) * 2 // 3])
        yield both(folder)


_TENSOR = {"run": "weights", "module": "{down}.weight", "layer": BLOCK}
_SCALES = {"run": "weights", "module": "{down}.scales", "layer": BLOCK, "token": ROW, "dimension": GROUP}
_SWALLOWED = {**_TENSOR, "token": ROW, "dimension": COLUMN}

_OF_A_CAST = dict.fromkeys(("float32", *RANGE), "the fault is a cast from bfloat16 to float16")

FAULTS = (
    PlantedFault(
        "F11", "weights trained in bfloat16, cast to float16", "mlx-examples#980 (T5)", "H/S",
        "3 weights over range, 5 flushed to 0, and of which tensor",
        on("llama qwen3 gpt2", _cast, numbers=(3, 5), words=("{down}.weight",), without=_OF_A_CAST,
           place={**_TENSOR, "token": ROW, "dimension": 0}),
    ),
    PlantedFault(
        "F14", "quantisation scale zero or NaN", "mlx#1028; GPTQModel#1531", "H",
        "the tensor and the group",
        (
            *on("llama qwen3 gemma2 gpt2", _scale(float("nan")), "NaN", place=_SCALES, words=("{down}.scales",),
                without=ITS_OWN),
            *on("llama qwen3", _scale(0.0), "zero", place=_SCALES, words=("{down}.scales",), without=ITS_OWN),
            *OVERFLOWING_GROUP,
        ),
    ),
    PlantedFault(
        "F15", "quantising swallows a NaN weight", "getainode#186; aprender#190", "X",
        "the weight that was NaN before, while nothing is now",
        (
            *(each for mode in NAN_GROUPS for each in
              on("llama qwen3", _swallowed(mode), mode, place=_SWALLOWED, words=("{down}.weight",), without=ITS_OWN)),
            *on("gpt2", _swallowed("affine"), "affine", place=_SWALLOWED, words=("{down}.weight",), without=ITS_OWN),
            *on("llama qwen3", _swallowed_in_a_folder, "two folders", place=_SWALLOWED,
                words=("{down}.weight",), without=ITS_OWN),
        ),
    ),
    PlantedFault(
        "F16", "missing, truncated or zero tensors", "BitNet#608; mlx-vlm#1521", "S",
        "the parameter that is zero or missing; the file that ends too early",
        (
            *on("llama qwen3 gpt2", _zero, "zero", place=_TENSOR, words=("zero",), without=PACKED),
            *on("llama qwen3 gpt2", _missing, "missing", place=_TENSOR, words=("{down}.weight",), without=FOLDER),
            *on("llama qwen3", _truncated, "truncated", place={"run": "weights"}, words=(FILE,),
                without=FOLDER),
        ),
    ),
)  # fmt: skip
