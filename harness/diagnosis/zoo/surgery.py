"""How a fault gets into a model: a module that does something else, and weights made for an input.

A module is given a subclass of its own class, so that names, parameters and `isinstance` stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np

Change = Callable[[mx.array], mx.array]


def at(root: Any, path: str) -> Any:
    """Return the module at a dotted path; the root for an empty one."""
    return dict(root.named_modules())[path]


def behave(module: Any, call: Callable[..., Any]) -> None:
    """Let `call(own, *args, **kwargs)` stand for the module's call; `own` is what it did before."""
    original = type(module)

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807  the name Python looks up
        return call(lambda *a, **k: original.__call__(self, *a, **k), *args, **kwargs)

    module.__class__ = type(original.__name__, (original,), {"__call__": __call__})


def change_output(module: Any, change: Change) -> None:
    """Apply a change to the array a module returns, or to the first one of a tuple."""

    def call(own: Any, *args: Any, **kwargs: Any) -> Any:
        out = own(*args, **kwargs)
        return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

    behave(module, call)


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
    module, seen = at(root, path), []
    original = type(module)

    def noting(own: Any, x: mx.array, *args: Any, **kwargs: Any) -> Any:
        seen.append(x)
        return own(x, *args, **kwargs)

    behave(module, noting)
    try:
        mx.eval(root(mx.array([list(ids)])))
    finally:
        module.__class__ = original
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
