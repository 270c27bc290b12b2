"""Is a model still what it was? Its arrays bit by bit, its classes with their functions, its attributes.

Arrays are digested on the device that holds them, 64 bits each, in pieces: a large model is read once and never copied.
A word's digest depends on its value and on its place, and is not linear in either, so that doubled, halved, negated,
swapped and permuted values show as any single changed bit does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache, partial
from types import FunctionType, ModuleType
from typing import Any

import mlx.core as mx
import numpy as np

from harness.models.kept import KeptState

_WORD = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}

PIECE = 1 << 18
"""Words of 64 bits digested at once: 2 MB, which stays in a core's cache between the passes over it."""

# Odd multipliers, so that multiplying loses nothing: the golden ratio's, and the two of MurmurHash3's 64-bit finalizer.
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53

_PLAIN = (bool, int, float, complex, str, bytes, mx.Dtype, np.dtype, type(None))

ORDER = "order"
"""The kind of difference that changes no value: every entry is what it was, at another place."""

_SHOWN = 60
"""Characters of an attribute that a difference shows."""

_DEEPEST = 8
"""Containers in containers that are walked; what is deeper stands for itself."""

_UNREAD = frozenset({
    "_no_grad", "__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "_abc_impl",
    "__static_attributes__", "__firstlineno__",
})  # fmt: skip
"""Names that no forward pass reads: which parameters are trained, and what Python keeps of a class."""

Classes = tuple[tuple[str, type], ...]
"""Of every module its path and its class."""

Held = tuple[object, ...]
"""What an attribute is compared by: its text, and the functions and objects that it stands for themselves."""


@dataclass(frozen=True)
class Fingerprint:
    """What a model computes with, as far as it can be read: two that are equal compute the same.

    `attributes` hold the arrays that are no parameters as well, such as a rope's frequencies, and what the classes of
    the modules hold.
    """

    parameters: tuple[tuple[Any, ...], ...]
    classes: Classes
    attributes: Mapping[str, Held]
    moving: Set[str] = frozenset()
    """Entries of modules, as `module.entry`, that the model's own forward pass changes: arrays in them are none of its
    parameters."""

    def difference(self, later: Fingerprint) -> str | None:
        """Return the first thing that changed, what the model computes with before mere order, or None."""
        return next(iter(self.differences(later).values()), None)

    def differences(self, later: Fingerprint) -> dict[str, str]:
        """Return what changed, by kind, mere order last. An attribute that is new is no change, since nothing read it
        before, unless it hides one of the module's class."""
        was, now = self._still(self.parameters), self._still(later.parameters)
        found = {
            "parameters": _entries("parameter", was, now),
            "classes": self.class_left(later.classes),
            "attributes": _attributes(self.attributes, later.attributes) or self._hidden(later),
            ORDER: _order("parameter", was, now) or _order("module class", self.classes, later.classes),
        }
        return {kind: text for kind, text in found.items() if text}

    def class_left(self, later: Classes) -> str | None:
        """Return which module has another class than it had, or None."""
        return class_left(self.classes, later)

    def _hidden(self, later: Fingerprint) -> str | None:
        kinds = dict(self.classes)
        for name in later.attributes.keys() - self.attributes.keys():
            path, _, leaf = name.rpartition(".")
            if path in kinds and hasattr(kinds[path], leaf):
                return f"attribute {name!r} hides that of the class: {later.attributes[name][0]}"
        return None

    def without(self, moving: Mapping[str, Held], entries: Set[str]) -> Fingerprint:
        """Return the fingerprint without the attributes that differ from those of `moving`, and without the arrays in
        some entries: the model's own forward pass changes them, as a counter or a table does."""
        still = {name: held for name, held in self.attributes.items() if moving.get(name) == held}
        return replace(self, attributes=still, moving=entries)

    def _still(self, parameters: tuple[tuple[Any, ...], ...]) -> tuple[tuple[Any, ...], ...]:
        if not self.moving:
            return parameters
        inside = tuple(f"{entry}." for entry in self.moving)
        return tuple(each for each in parameters if not f"{each[0]}.".startswith(inside))


def class_left(before: Classes, later: Classes) -> str | None:
    """Return which module has another class than it had, or None."""
    return _entries("module class", before, later)


def _entries(what: str, before: Sequence[tuple[Any, ...]], after: Sequence[tuple[Any, ...]]) -> str | None:
    if before == after or _only_moved(before, after):
        return None
    now = {entry[0]: entry for entry in after}
    changed = [entry[0] for entry in before if now.get(entry[0]) != entry]
    if not changed or len(before) != len(after):
        return f"{len(after)} {what} entries instead of {len(before)}"
    return f"{what} {changed[0]!r} changed ({len(changed)} in all)"


def _order(what: str, before: Sequence[tuple[Any, ...]], after: Sequence[tuple[Any, ...]]) -> str | None:
    if before == after or not _only_moved(before, after):
        return None
    moved = next(a[0] for b, a in zip(before, after, strict=True) if b != a)
    return f"the order of the {what} entries changed, from {moved!r} on; every value is what it was"


def _only_moved(before: Sequence[tuple[Any, ...]], after: Sequence[tuple[Any, ...]]) -> bool:
    return len(before) == len(after) and set(before) == set(after)


def _attributes(before: Mapping[str, Held], after: Mapping[str, Held]) -> str | None:
    changed = [name for name, held in before.items() if after.get(name) != held]
    if not changed:
        return None
    was, now = (str(each.get(changed[0], ("gone",))[0])[:_SHOWN] for each in (before, after))
    now = "another" if was == now else now
    return f"attribute {changed[0]!r} changed ({len(changed)} in all): {was} is now {now}"


def fingerprint(module: Any) -> Fingerprint:
    """Read every array once, on the device that holds it, and everything else that the modules carry."""
    from mlx.utils import tree_flatten

    named = dict(tree_flatten(module.parameters()))
    digests = {name: digest(value) for name, value in named.items()}
    mx.eval(list(digests.values()))
    parameters = tuple(
        (name, str(value.dtype), tuple(value.shape), digests[name].item()) for name, value in named.items()
    )
    return Fingerprint(parameters, classes_of(module), _Attributes(module).held)


def classes_of(module: Any) -> Classes:
    """Return the class of every module: what our own taps exchange. No array is read."""
    return tuple((name, type(each)) for name, each in module.named_modules())


def settled(module: Any, run: Callable[[], object]) -> Fingerprint:
    """Return the fingerprint after a run of the bare model, without the attributes that the model itself changes."""
    before, kept = _Attributes(module).held, KeptState(module)
    run()
    return fingerprint(module).without(before, kept.moved_entries())


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


class _Attributes:
    """Walks everything that modules and their classes hold, each object once; `held` is what it found."""

    def __init__(self, root: Any):
        from mlx.utils import tree_flatten

        self.held: dict[str, Held] = {}
        self._parameters = {name for name, _ in tree_flatten(root.parameters())}
        modules = root.named_modules()
        self._seen = {id(module) for _, module in modules}
        for path, module in modules:
            self._entries(path, [*dict.items(module), *vars(module).items()])
        for kind in {base: None for _, module in modules for base in type(module).__mro__ if base not in _BUILT_IN}:
            self._entries(f"class {kind.__module__}.{kind.__qualname__}", vars(kind).items())

    def _entries(self, path: str, entries: Iterable[tuple[Any, Any]], depth: int = 0) -> None:
        for name, value in entries:
            if name not in _UNREAD:
                self._note(f"{path}.{name}".removeprefix("."), value, depth)

    def _note(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, mx.array):
            if name not in self._parameters:
                self.held[name] = (f"{value.dtype}{list(value.shape)} {digest(value).item():016x}",)
        elif isinstance(value, np.ndarray | np.generic):
            self.held[name] = (f"{value.dtype}{list(value.shape)} {value!r}", value.tobytes())
        elif isinstance(value, _PLAIN):
            self.held[name] = (repr(value),)
        elif isinstance(value, FunctionType):
            self.held[name] = (value.__qualname__, _Same(value), value.__code__, repr(value.__defaults__))
        else:
            self._enter(name, value, depth + 1)

    def _enter(self, name: str, value: Any, depth: int) -> None:
        """Note what a container or an object holds. One that shows nothing stands for itself."""
        if not isinstance(value, tuple | frozenset):  # one may stand in many places: all empty ones are one object
            if id(value) in self._seen:
                return
            self._seen.add(id(value))
        if depth > _DEEPEST:
            self.held[name] = (type(value).__name__, _Same(value))
        elif isinstance(value, Mapping):
            self._entries(name, list(value.items()), depth)
        elif isinstance(value, list | tuple):
            self.held[name] = (f"{type(value).__name__} of {len(value)}",)
            self._entries(name, enumerate(value), depth)
        elif isinstance(value, Set):
            self.held[name] = (repr(sorted(map(repr, value))),)
        elif hasattr(value, "__dict__") and not isinstance(value, type | ModuleType | partial):
            self._entries(name, list(vars(value).items()), depth)
        else:
            self.held[name] = (type(value).__name__, _Same(value))


_BUILT_IN = (dict, object)


@dataclass(frozen=True, eq=False)
class _Same:
    """An object that is equal to nothing but itself; it is kept, so that its address is not another's later."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)
