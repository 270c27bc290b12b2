"""How a fault gets into a model: a module that does something else, and weights made for an input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np

from harness.intercept.outputs import editing
from harness.intercept.swap import exchanged, plant

Change = Callable[[mx.array], mx.array]


def at(root: Any, path: str) -> Any:
    """Return the module at a dotted path; the root for an empty one."""
    return dict(root.named_modules())[path]


def behave(module: Any, call: Callable[..., Any]) -> None:
    """Let `call(own, *args, **kwargs)` stand for the module's call; `own` is what it did before."""
    plant(module, lambda own, args, kwargs: call(own, *args, **kwargs))


def change_output(module: Any, change: Change) -> None:
    """Apply a change to the array a module returns, or to the first one of a tuple."""
    plant(module, editing(change))


def put(value: float, *indices: tuple[int, ...]) -> Change:
    """Return a change that sets elements of an array `[1, tokens, width]`; an index is (token, dimension)."""

    def change(array: mx.array) -> mx.array:
        planted = mx.array(array)
        for index in indices:
            planted[(slice(None), *index)] = value
        return planted

    return change


def input_of(root: Any, path: str, ids: Sequence[int]) -> Any:
    """Return what the module at `path` is given for a prompt, `[tokens, width]` in float64."""
    seen: list[mx.array] = []

    def noting(own: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        seen.append(args[0])
        return own(*args, **kwargs)

    with exchanged(root, [(at(root, path), noting)]):
        mx.eval(root(mx.array([list(ids)])))
    return np.array(seen[0][0].astype(mx.float32)).astype(np.float64)


def answer_with(root: Any, path: str, row: int, value: float, ids: Sequence[int], token: int) -> None:
    """Set a row of a linear layer's weight so that its output `row` at `token` of the prompt is `value`."""
    x = input_of(root, path, ids)[token]
    weight = at(root, path).weight
    weight[row] = mx.array((value * x / (x @ x)).astype(np.float32)).astype(weight.dtype)
    mx.eval(weight)


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a module, a class or a library for the duration of the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
