"""A model's shadow: the same weights in float32, to see what a recovery owes to the dtype it was computed in."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from harness.models.loaded import LoadedModel

HALVES = (mx.float16, mx.bfloat16)


def float32_shadow(model: LoadedModel) -> LoadedModel | None:
    """Return a copy of the model that computes in float32, or None where nothing in it is narrower.

    Every float16 or bfloat16 array is cast, those that a module keeps beside its parameters and the scales and biases
    of quantized weights among them; all others are shared with the model, which is left as it is. So the shadow takes
    4 bytes for each number that was cast, as long as it is kept: twice what an unquantized half-precision model takes,
    on top of it. It knows no closed form and nothing is proven on it.
    """
    narrow = {id(array): array for array in _arrays(model.module) if array.dtype in HALVES}
    if not narrow:
        return None
    module = copied(model.module, {key: array.astype(mx.float32) for key, array in narrow.items()})
    mx.eval(module.parameters())
    return LoadedModel(replace(model.card, dtype="float32"), module, model.tokenizer)


def copied(root: Any, instead: Mapping[int, Any]) -> Any:
    """Return a copy of a module and of all that it holds, where `instead` has, by id, what takes an object's place.

    All other arrays are `shared` with the module.
    """
    # A copy takes from the memo what is there under an object's id, and copies whatever is not.
    memo: dict[int, Any] = {id(array): shared(array) for array in _arrays(root)}
    return copy.deepcopy(root, {**memo, **instead})


def shared(array: mx.array) -> mx.array:
    """Return another handle of an array's data: what is written in place through one leaves the other as it is."""
    return array.astype(array.dtype)


def _arrays(module: Any) -> Iterator[mx.array]:
    """Yield every array that a module or one inside it keeps, also those that are no parameters."""
    for _, value in tree_flatten(dict(module)):
        if isinstance(value, mx.array):
            yield value
