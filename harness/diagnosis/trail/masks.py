"""Attention masks: which queries may see no key at all.

A row of -inf has no softmax (NaN); a row of False gives, in a fused kernel, a finite average over every value that it
should not see. Masks are found among the arguments of modules, and where fused attention is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

UNTRACEABLE = (ValueError, RuntimeError)
"""What MLX raises where a value is asked for that exists only while a function is traced, as `compile` does."""

BLOCKED = -1e4
"""An additive mask blocks a key with this or less: the smallest float16 is -65,504, and scores stay far below."""


@dataclass(frozen=True)
class EmptyRows:
    """Queries of one mask that see no key."""

    module: str
    rows: tuple[int, ...]
    tokens: int
    boolean: bool


@dataclass
class Mask:
    """A mask, the modules that it was handed to in order, and which of its rows block every key."""

    modules: list[str]
    mask: mx.array
    rows: mx.array

    @property
    def innermost(self) -> str:
        """The module that first uses the mask: the last of a chain in which each holds the next."""
        found = self.modules[0]
        for module in self.modules[1:]:
            if not module.startswith(f"{found}.") and found:
                break
            found = module
        return found


class Masks:
    """The masks of one run; each is looked at once, whoever passes it."""

    def __init__(self) -> None:
        self._seen: dict[int, Mask] = {}

    def look(self, module: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Look for masks among the arguments of a call."""
        for i, (name, array) in enumerate(arguments(args, kwargs)):
            if i and (name == "mask" or _is_square(array)):
                self.add(module, array)

    def add(self, module: str, mask: mx.array) -> None:
        """Note a mask of which each row is a query."""
        if mask.ndim < 2 or not _may_mask(mask):
            return
        seen = self._seen.get(id(mask))
        if seen is None:
            self._seen[id(mask)] = Mask([module], mask, mx.all(blocked(mask), axis=-1))
        else:
            seen.modules.append(module)

    def of(self, module: str) -> mx.array | None:
        """Return the last mask that was handed to a module or to one that holds it."""
        for each in reversed(self._seen.values()):
            if any(module == name or module.startswith(f"{name}.") for name in each.modules):
                return each.mask
        return None

    def empty(self) -> EmptyRows | None:
        """Return the first mask with a row that blocks every key."""
        for each in self._seen.values():
            rows = each.rows
            try:
                found = np.array(rows).reshape(-1, rows.shape[-1])
            except UNTRACEABLE:
                continue  # inside a compiled function, where a mask has no values
            if found.any():
                tokens = tuple(int(i) for i in np.flatnonzero(found.any(axis=0)))
                return EmptyRows(each.innermost, tokens, rows.shape[-1], each.mask.dtype == mx.bool_)
        return None


@contextmanager
def fused_attention(look: Callable[..., None]) -> Iterator[None]:
    """Call `look(result, *args, **kwargs)` after each call of MLX's fused attention, for the duration of the block."""
    original = mx.fast.scaled_dot_product_attention

    def attention(*args: Any, **kwargs: Any) -> Any:
        out = original(*args, **kwargs)
        look(out, *args, **kwargs)
        return out

    try:
        mx.fast.scaled_dot_product_attention = attention
        yield
    finally:
        mx.fast.scaled_dot_product_attention = original


def blocked(mask: mx.array) -> mx.array:
    """Return True where a mask, boolean or additive, blocks a key."""
    return mx.logical_not(mask) if mask.dtype == mx.bool_ else mask <= BLOCKED


def is_causal(array: mx.array) -> bool:
    """Return whether the -inf of an array are the future of every query, as a module that makes a mask returns it."""
    if array.ndim < 2 or not array.shape[-1] == array.shape[-2] > 1:
        return False
    return not np.tril(np.array(array == -mx.inf).reshape(-1, *array.shape[-2:])).any()


def _may_mask(array: mx.array) -> bool:
    return bool(array.dtype == mx.bool_ or mx.issubdtype(array.dtype, mx.floating))


def _is_square(array: mx.array) -> bool:
    return bool(array.ndim >= 2 and array.dtype == mx.bool_ and array.shape[-1] >= array.shape[-2] > 1)


def arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, mx.array]]:
    """Yield the arrays among the arguments of a call, by position and by keyword, and those inside containers."""
    for i, value in enumerate(args):
        yield from arrays(f"argument {i}", value)
    for name, value in kwargs.items():
        yield from arrays(name, value)


def arrays(name: str, value: Any, depth: int = 3) -> Iterator[tuple[str, mx.array]]:
    """Yield the arrays in a value: itself, or those in its tuples, lists and dicts."""
    if isinstance(value, mx.array):
        yield name, value
    elif depth and isinstance(value, Mapping):
        for key, inner in value.items():
            yield from arrays(f"{name}.{key}", inner, depth - 1)
    elif depth and isinstance(value, tuple | list):
        for i, inner in enumerate(value):
            yield from arrays(f"{name}.{i}" if len(value) > 1 else name, inner, depth - 1)
