"""Small models for the diagnosis' tests, and functions that change what one of their modules returns."""

from __future__ import annotations

import json

import mlx.core as mx
import numpy as np

from harness import models
from harness.models.spec import SyntheticRow

CLEAN, CORRUPTED = (1, 5, 6, 7, 8, 9), (2, 5, 6, 7, 8, 9)


def build(architecture="llama", dtype="float16", **row):
    row = {"vocab": 512, "architecture": architecture, "dtype": dtype, **row}
    return models.load(SyntheticRow(id="small", source="synthetic", **row))


def module_of(model, path):
    return dict(model.module.named_modules())[path]


def behave(module, call):
    """Give one instance another behaviour: `call(own, *args, **kwargs)`, where `own` is what it did before."""
    original = type(module)

    def __call__(self, *args, **kwargs):  # noqa: N807  the name Python looks up
        return call(lambda *a, **k: original.__call__(self, *a, **k), *args, **kwargs)

    module.__class__ = type(original.__name__, (original,), {"__call__": __call__})


def put(array, *changes):
    """Return the array with (index, value) changes, in its own dtype."""
    values = np.array(array.astype(mx.float32))
    for index, value in changes:
        values[index] = value
    return mx.array(values).astype(array.dtype)


def returning(model, path, *changes):
    """Let a module of a model return these values in these places."""
    behave(module_of(model, path), lambda own, *args, **kwargs: put(own(*args, **kwargs), *changes))
    return model


def save_folder(model, folder, change=None, architecture="llama"):
    """Write a synthetic model as an mlx-lm folder; `change` may edit the dict of tensors first."""
    from mlx.utils import tree_flatten

    tensors = dict(tree_flatten(model.module.parameters()))
    if change:
        change(tensors)
    folder.mkdir(exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    args = vars(model.module.args)
    (folder / "config.json").write_text(json.dumps({**args, "model_type": architecture}))
    return folder
