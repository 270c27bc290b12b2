"""Is a model still what it was? Its arrays bit by bit, its classes with their `__call__`, its plain attributes.

Arrays are digested on the device that holds them, 64 bits each, in pieces: a large model is read once and never copied.
A word's digest depends on its value and on its place, and is not linear in either, so that doubled, halved, negated,
swapped and permuted values show as any single changed bit does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from types import CodeType
from typing import Any

import mlx.core as mx
import numpy as np

_WORD = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}

PIECE = 1 << 18
"""Words of 64 bits digested at once: 2 MB, which stays in a core's cache between the passes over it."""

# Odd multipliers, so that multiplying loses nothing: the golden ratio's, and the two of MurmurHash3's 64-bit finalizer.
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53

_PLAIN = (bool, int, float, complex, str, bytes, tuple, type(None))

MOST_TEXT = 10_000
"""Characters of an attribute's text that are compared."""


@dataclass(frozen=True)
class Fingerprint:
    """What a model computes with, as far as it can be read: two that are equal compute the same.

    `attributes` hold the arrays that are no parameters as well, such as a rope's frequencies.
    """

    parameters: tuple[tuple[Any, ...], ...]
    classes: tuple[tuple[str, type, Any, CodeType | None], ...]
    attributes: Mapping[str, str]

    def difference(self, later: Fingerprint) -> str | None:
        """Return what changed, or None. An attribute that is new is no change: nothing read it before."""
        return (
            _entries("parameter", self.parameters, later.parameters)
            or _entries("module class", self.classes, later.classes)
            or _attributes(self.attributes, later.attributes)
        )

    def without(self, moving: Fingerprint) -> Fingerprint:
        """Return the fingerprint without the attributes that differ from `moving`'s: the model's own forward pass
        changes them, as a counter does."""
        still = {name: text for name, text in self.attributes.items() if moving.attributes.get(name) == text}
        return replace(self, attributes=still)


def _entries(what: str, before: Sequence[tuple[Any, ...]], after: Sequence[tuple[Any, ...]]) -> str | None:
    if before == after:
        return None
    if len(before) == len(after) and set(before) == set(after):
        moved = next(a[0] for b, a in zip(before, after, strict=True) if b != a)
        return f"the order of the {what} entries changed, from {moved!r} on; every value is what it was"
    changed = [b[0] for b, a in zip(before, after, strict=False) if b != a]
    if not changed:
        return f"{len(after)} {what} entries instead of {len(before)}"
    return f"{what} {changed[0]!r} changed ({len(changed)} in all)"


def _attributes(before: Mapping[str, str], after: Mapping[str, str]) -> str | None:
    changed = [name for name, text in before.items() if after.get(name) != text]
    if not changed:
        return None
    was, now = before[changed[0]], after.get(changed[0], "gone")
    return f"attribute {changed[0]!r} changed ({len(changed)} in all): {was[:60]} is now {now[:60]}"


def fingerprint(module: Any) -> Fingerprint:
    """Read every array once, on the device that holds it, and everything else that the modules carry."""
    from mlx.utils import tree_flatten

    named, modules = dict(tree_flatten(module.parameters())), module.named_modules()
    digests = {name: digest(value) for name, value in named.items()}
    mx.eval(list(digests.values()))
    parameters = tuple(
        (name, str(value.dtype), tuple(value.shape), digests[name].item()) for name, value in named.items()
    )
    return Fingerprint(parameters, tuple(_class(*each) for each in modules), dict(_attributes_of(modules, set(named))))


def settled(module: Any, run: Callable[[], object]) -> Fingerprint:
    """Return the fingerprint after a run of the bare model, without the attributes that the model itself changes."""
    before = fingerprint(module)
    run()
    return fingerprint(module).without(before)


def digest(value: mx.array) -> mx.array:
    """Return 64 bits `[]` that depend on every bit of an array and on its place, unevaluated."""
    total = mx.array(value.size, dtype=mx.uint64)
    for words in _pieces(value):
        mixed = _mixed(mx.bitwise_xor(words, _places(words.size)))
        total = _mixed(total * _word(_GOLDEN) + mx.sum(mixed))
    return total


def _pieces(value: mx.array) -> Iterator[mx.array]:
    """Yield the array's bits as words of 64, the odd elements at the end one a word."""
    each = 8 // value.dtype.size
    flat = mx.contiguous(value).view(_WORD[value.dtype.size]).flatten()
    whole = flat.size // each * each
    for start in range(0, whole, PIECE * each):
        yield flat[start : min(start + PIECE * each, whole)].view(mx.uint64)
    if whole < flat.size:
        yield flat[whole:].astype(mx.uint64)


@cache
def _word(value: int) -> mx.array:
    # By way of NumPy: MLX takes no Python integer beyond 63 bits.
    return mx.array(np.array(value, dtype=np.uint64))


def _mixed(words: mx.array) -> mx.array:
    """Shuffle the bits of each word one to one: a change of any bit changes about half of them."""
    for factor in (_FIRST, _SECOND):
        words = mx.bitwise_xor(words, mx.right_shift(words, _word(33)))
        words = words * _word(factor)
    return mx.bitwise_xor(words, mx.right_shift(words, _word(33)))


def _places(count: int) -> mx.array:
    return _all_places()[:count]


@cache
def _all_places() -> mx.array:
    places = _mixed((mx.arange(PIECE, dtype=mx.uint64) + 1) * _word(_GOLDEN))
    mx.eval(places)
    return places


def _class(name: str, module: Any) -> tuple[str, type, Any, CodeType | None]:
    kind = type(module)
    call = kind.__call__  # somebody may have put another function into the class, or other code into the function
    return name, kind, call, getattr(call, "__code__", None)


def _own(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a module carries itself: MLX keeps arrays and containers in the module, which is a dict, and the rest
    in its `__dict__`."""
    yield from dict.items(module)
    yield from vars(module).items()


def _attributes_of(modules: Sequence[tuple[str, Any]], parameters: Set[str]) -> Iterator[tuple[str, str]]:
    for path, module in modules:
        for name, value in _own(module):
            full = f"{path}.{name}".lstrip(".")
            if isinstance(value, mx.array) and full not in parameters:
                yield full, f"{value.dtype}{list(value.shape)} {digest(value).item():016x}"
            elif isinstance(value, _PLAIN) or _is_record(value):
                yield full, repr(value)[:MOST_TEXT]


def _is_record(value: Any) -> bool:
    """Return whether a value is a configuration, which shows its values in its text."""
    return hasattr(type(value), "__dataclass_fields__")
