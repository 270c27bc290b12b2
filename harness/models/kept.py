"""What a forward pass can leave behind: in the modules, their classes, and the closures and globals that they use.

A snapshot says what moved since, by name, and puts it back: a model that has been run is asked again as if it had not
been. Arrays are kept by a second handle, which copies nothing until the model writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import mlx.core as mx
import numpy as np

_PLAIN = (bool, int, float, complex, str, bytes, mx.Dtype, type(None))
_DEEPEST = 5
"""Containers in containers that are looked into."""
_LARGE = 1 << 16
"""Values of an array from which one that is still the same object counts as the same: nobody reads all weights here."""
_NOT_THE_MODELS = ("mlx", "builtins")
"""Packages whose classes and globals hold nothing of a model's."""


class _Space:
    """Names and their values: of a dictionary, unless a subclass says how else they are read, put and dropped."""

    def __init__(self, into: Any):
        self.into = into

    def read(self) -> dict[Any, Any]:
        return dict(dict.items(self.into))

    def put(self, key: Any, value: Any) -> None:
        dict.__setitem__(self.into, key, value)

    def drop(self, key: Any) -> None:
        dict.__delitem__(self.into, key)


class _List(_Space):
    def read(self) -> dict[Any, Any]:
        return dict(enumerate(self.into))

    def put(self, key: int, value: Any) -> None:
        self.into[key : key + 1] = [value]

    def drop(self, key: int) -> None:
        del self.into[-1]  # one that is longer than it was is cut from its end


class _Set(_Space):
    def read(self) -> dict[Any, Any]:
        return dict.fromkeys(self.into)

    def put(self, key: Any, value: Any) -> None:
        self.into.add(key)

    def drop(self, key: Any) -> None:
        self.into.discard(key)


class _Class(_Space):
    def read(self) -> dict[Any, Any]:
        return {key: each for key, each in vars(self.into).items() if key == "__call__" or not key.startswith("__")}

    def put(self, key: str, value: Any) -> None:
        setattr(self.into, key, value)

    def drop(self, key: str) -> None:
        delattr(self.into, key)


class _Closure(_Space):
    def read(self) -> dict[Any, Any]:
        found = {}
        for key, cell in self.into.items():
            try:
                found[key] = cell.cell_contents
            except ValueError:  # not filled yet
                continue
        return found

    def put(self, key: str, value: Any) -> None:
        self.into[key].cell_contents = value

    def drop(self, key: str) -> None:
        del self.into[key].cell_contents


class _Globals(_Space):
    def __init__(self, into: Any, names: set[str]):
        super().__init__(into)
        self.names = names

    def read(self) -> dict[Any, Any]:
        return {key: self.into[key] for key in self.names if key in self.into}


@dataclass(frozen=True)
class _Value:
    """An entry, and the data of an array, which the model may overwrite in place."""

    held: Any
    data: Any = None

    @classmethod
    def of(cls, value: Any) -> _Value:
        if isinstance(value, mx.array):
            return cls(value, mx.array(value))
        return cls(value, value.copy() if isinstance(value, np.ndarray) else None)

    def is_still(self, now: Any) -> bool:
        if isinstance(self.held, mx.array | np.ndarray):
            if now is self.held and self.held.size >= _LARGE:
                return True
            return type(now) is type(self.held) and _same_data(self.data, now)
        return now is self.held or (isinstance(now, _PLAIN) and type(now) is type(self.held) and now == self.held)

    @property
    def restored(self) -> Any:
        if isinstance(self.held, mx.array):
            return mx.array(self.data)
        return self.held if self.data is None else self.data.copy()


def _same_data(a: Any, b: Any) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if isinstance(a, np.ndarray):
        return bool(a.tobytes() == b.tobytes())
    return bool(mx.array_equal(a, b, equal_nan=mx.issubdtype(a.dtype, mx.inexact)))


@dataclass(frozen=True)
class _Holder:
    """A space under a name, with what it held."""

    name: str
    entry: str
    """The module's entry that the space lies in; empty for a module itself."""
    space: _Space
    before: Mapping[Any, _Value]

    def moved(self) -> Iterator[Any]:
        now = self.space.read()
        yield from (key for key, value in self.before.items() if key not in now or not value.is_still(now[key]))
        yield from (key for key in now if key not in self.before)

    def put_back(self) -> None:
        for key in list(self.moved()):
            if key in self.before:
                self.space.put(key, self.before[key].restored)
            else:
                self.space.drop(key)


class KeptState:
    """A snapshot of everything that a model's forward pass may write to."""

    def __init__(self, root: Any):
        self._holders: list[_Holder] = []
        self._seen: set[Any] = set()
        modules = list({id(module): (name, module) for name, module in reversed(root.named_modules())}.values())[::-1]
        self._seen.update(id(module) for _, module in modules)
        for path, module in modules:
            self._hold(path, _Space(module))
            self._hold(path, _Space(vars(module)))
        for kind in {base: None for _, module in modules for base in type(module).__mro__}:
            if _is_the_models(kind.__module__):
                self._hold(kind.__qualname__, _Class(kind))

    def moved(self) -> list[str]:
        """Return the names of what is not what it was."""
        return [f"{holder.name}.{key}".strip(".") for holder in self._holders for key in holder.moved()]

    def moved_entries(self) -> set[str]:
        """Return the entries of modules, as `module.entry`, that are new or in which something moved. An array that a
        module had is a parameter of it and none of them, whatever a call does to it."""
        named = ((holder, key) for holder in self._holders for key in holder.moved())
        return {
            holder.entry or f"{holder.name}.{key}".strip(".")
            for holder, key in named
            if holder.entry or not (key in holder.before and isinstance(holder.before[key].held, mx.array))
        }

    def put_back(self) -> None:
        """Make everything again what it was; what did not move is not touched."""
        for holder in self._holders:
            holder.put_back()

    def _hold(self, name: str, space: _Space, depth: int = 0, entry: str = "") -> None:
        entries = space.read()
        self._holders.append(_Holder(name, entry, space, {key: _Value.of(each) for key, each in entries.items()}))
        for key, value in entries.items():
            inner = f"{name}.{key}".strip(".")
            self._enter(inner, value, depth + 1, entry or inner)

    def _enter(self, name: str, value: Any, depth: int, entry: str) -> None:
        """Hold what a value holds itself, each once."""
        if isinstance(value, (*_PLAIN, mx.array, np.ndarray, type, ModuleType)) or id(value) in self._seen:
            return
        if depth > _DEEPEST:
            return
        self._seen.add(id(value))
        if isinstance(value, tuple):
            for i, each in enumerate(value):
                self._enter(f"{name}.{i}", each, depth + 1, entry)
        elif isinstance(value, FunctionType):
            self._function(name, value, depth, entry)
        elif (kind := next((_SPACES[each] for each in _SPACES if isinstance(value, each)), None)) is not None:
            self._hold(name, kind(value), depth, entry)
        elif isinstance(held := getattr(value, "__dict__", None), dict):
            self._hold(name, _Space(held), depth, entry)

    def _function(self, name: str, function: FunctionType, depth: int, entry: str) -> None:
        """Hold what a function closes over, and the globals that it names."""
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        if cells:
            self._hold(name.removesuffix(".__call__"), _Closure(cells), depth, entry)
        module = function.__module__ or ""
        if not _is_the_models(module):
            return
        named = {each for each in function.__code__.co_names if each in function.__globals__}
        wanted = {each for each in named if (module, each) not in self._seen}
        self._seen.update((module, each) for each in wanted)
        if wanted:
            self._hold(module, _Globals(function.__globals__, wanted), depth, entry)


_SPACES: Mapping[type, type[_Space]] = {dict: _Space, list: _List, set: _Set}


def _is_the_models(module: str) -> bool:
    return module.split(".")[0] not in _NOT_THE_MODELS
