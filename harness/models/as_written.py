"""What a model computes with, as its source files say it, for whoever keeps a claim about it beyond this process.

Everything a model runs is held against the files it is said to come from: its classes and their bases, what their
modules define and import, transitively within mlx-lm, and whatever its instances hold. A method exchanged at run time,
a file edited since it was imported, a class of the user's own, or a function on an instance is not as written, and no
claim can be kept about it: NotAsWritten says what it is.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from harness.models.loaded import LoadedModel

LIBRARIES = ("mlx_lm", "mlx")
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_DEEPEST = 8


class NotAsWritten(Exception):
    """Something a model runs is not what a source file of mlx or mlx-lm says."""


@dataclasses.dataclass(frozen=True)
class WrittenModel:
    """`facts` tell two models apart that may compute differently; `windows` are the lengths beyond which one does."""

    facts: Mapping[str, Any]
    windows: Mapping[str, int]


def as_written(model: LoadedModel) -> WrittenModel:
    """Return what a model is made of. Raises NotAsWritten where a part of it is not what its source file says."""
    _refuse_exchanged_operations()
    named = model.module.named_modules()
    kinds = {base: None for _, each in named for base in type(each).__mro__ if base not in (object, dict)}
    instances = _Instances()
    for path, each in sorted(named, key=lambda entry: str(entry[0])):
        instances.note(path, type(each))
        for name, value in [*dict.items(each), *vars(each).items()]:
            instances.note(f"{path}.{name}", value)
    sources = _closure({kind.__module__ for kind in [*kinds, *instances.kinds]})
    for kind in [*kinds, *instances.kinds]:
        _class_as_written(kind)
    held = [line for name in sorted(sources) for line in _module_as_written(name)]
    facts = {
        "architecture": model.card.architecture,
        "dtype": model.card.dtype,
        "quantization": model.card.quantization,
        "config": _file_sum(model.folder / "config.json") if model.folder else None,
        "sources": sources,
        "module values": _sum("\n".join(held)),
        "model": _sum("\n".join(instances.lines)),
    }
    return WrittenModel(facts, instances.windows)


def _sum(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def _file_sum(file: Path) -> str | None:
    try:
        return _sum(file.read_bytes())
    except OSError:
        return None


def _refuse_exchanged_operations() -> None:
    """MLX's operations are compiled; a Python function among them was put there."""
    import mlx.core as mx

    for owner in (mx, mx.fast, mx.random, mx.linalg, mx.array):
        for name, value in vars(owner).items():
            if isinstance(value, FunctionType) and not _of_library(value.__module__ or ""):
                raise NotAsWritten(f"{owner.__name__}.{name} was exchanged")


# -- files -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Source:
    sum: str
    imports: tuple[tuple[ast.Import | ast.ImportFrom, bool], ...]
    """Every import statement, and whether it stands at the top of the module."""
    codes: frozenset[CodeType]


def _of_library(module: str) -> bool:
    return module.split(".")[0] in LIBRARIES


def _source(name: str) -> _Source:
    """Return the source file of a module of the libraries. Raises NotAsWritten where it has none."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None) if module else _origin(name)
    if not _of_library(name) or not file or not file.endswith(".py"):
        raise NotAsWritten(f"{name} is no source file of {' or '.join(LIBRARIES)}")
    try:
        return _parsed(file, Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise NotAsWritten(f"{name} cannot be read: {error}") from error


def _origin(name: str) -> str | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


@functools.lru_cache(256)
def _parsed(file: str, content: bytes) -> _Source:
    code = compile(content, file, "exec", dont_inherit=True)
    return _Source(_sum(content), tuple(_imports(content.decode())), frozenset(_codes(code)))


_IMPORT = re.compile(r"^([ \t]*)((?:from[ \t]+[.\w]+[ \t]+)?import\b[ \t]*(?:\([^)]*\)|[^\n]*))", re.MULTILINE)
"""What looks like an import statement. A line of prose that does is one too many, which asks for more and not less."""


def _imports(text: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield the import statements: parsing these lines alone takes a tenth of parsing the file."""
    for indent, statement in _IMPORT.findall(text):
        try:
            (node,) = ast.parse(statement).body
        except (SyntaxError, ValueError):
            yield from _all_imports(ast.parse(text))
            return
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, not indent


def _all_imports(tree: ast.Module) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, node in tree.body


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _closure(names: Iterable[str]) -> dict[str, str]:
    """Return module -> hash of its file: these modules and all of mlx-lm that they import, directly or not."""
    found: dict[str, str] = {}
    todo = sorted(names)
    while todo:
        name = todo.pop()
        if name not in found:
            source = _source(name)
            found[name] = source.sum
            todo += [each for each in _imported(name, source) if each.split(".")[0] == "mlx_lm"]
    return found


def _imported(name: str, source: _Source) -> Iterator[str]:
    """Yield the modules that are imported anywhere in a module's file."""
    for node, _ in source.imports:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            base = _imported_from(name, node)
            yield base
            yield from (each for alias in node.names if (each := f"{base}.{alias.name}") in sys.modules)


def _imported_from(name: str, node: ast.ImportFrom) -> str:
    package = getattr(sys.modules.get(name), "__package__", None) or name.rpartition(".")[0]
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


# -- what is defined in them -------------------------------------------------------------------------------------------


def _module_as_written(name: str) -> Iterator[str]:
    """Yield the plain values of a module. Raises NotAsWritten where a name is not bound as its file binds it."""
    module = sys.modules.get(name)
    if module is None:
        return  # imported by nothing that has run
    source, bound = _source(name), _bound_by_imports(name)
    for key, value in sorted(vars(module).items()):
        if key in bound:
            if bound[key] is not value:
                raise NotAsWritten(f"{name}.{key} is not what is imported there")
        elif isinstance(value, FunctionType):
            _function_as_written(f"{name}.{key}", value, source, key)
            yield f"{name}.{key} {_defaults(value)}"
        elif isinstance(value, type) and value.__module__ == name:
            _class_as_written(value)
        elif isinstance(value, _PLAIN) and not key.startswith("__"):
            yield f"{name}.{key} {value!r}"


def _bound_by_imports(name: str) -> dict[str, Any]:
    """Return what a module's own import statements bind, as it is now where it comes from."""
    bound = {}
    for node, at_top in _source(name).imports:
        if isinstance(node, ast.ImportFrom) and at_top:
            origin = sys.modules.get(_imported_from(name, node))
            for alias in node.names:
                if origin is not None and hasattr(origin, alias.name):
                    bound[alias.asname or alias.name] = getattr(origin, alias.name)
    return bound


_GENERATED = frozenset({"<string>", "reprlib.py", "dataclasses.py"})
"""Files of the methods that `dataclass` and named tuples write."""


def _class_as_written(kind: type) -> None:
    source = _source(kind.__module__)
    generated = dataclasses.is_dataclass(kind) or issubclass(kind, tuple)
    for name, value in vars(kind).items():
        for function in _functions(value):
            where = f"{kind.__module__}.{kind.__qualname__}.{name}"
            if generated and name.startswith("__") and Path(function.__code__.co_filename).name in _GENERATED:
                continue
            _function_as_written(where, function, source, f"{kind.__qualname__}.{name}")


def _functions(value: Any) -> list[FunctionType]:
    """Return the functions behind an attribute of a class."""
    parts = [value]
    if isinstance(value, property):
        parts = [value.fget, value.fset, value.fdel]
    elif isinstance(value, staticmethod | classmethod):
        parts = [value.__func__]
    elif isinstance(value, functools.cached_property):
        parts = [value.func]
    return [part for part in parts if isinstance(part, FunctionType)]


def _function_as_written(where: str, function: FunctionType, source: _Source, qualname: str) -> None:
    code = function.__code__
    if code not in source.codes or code.co_qualname not in (qualname, "<lambda>"):
        raise NotAsWritten(f"{where} is not what its source file says")


def _defaults(function: FunctionType) -> str:
    return repr((function.__defaults__, function.__kwdefaults__)) if _all_plain(function) else "defaults"


def _all_plain(function: FunctionType) -> bool:
    given = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return all(isinstance(each, _PLAIN) for each in given)


# -- what instances hold -----------------------------------------------------------------------------------------------


class _Instances:
    """Lines that tell what a model's modules hold; arrays by shape and dtype, since a claim is not about weights."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.windows: dict[str, int] = {}
        self.kinds: dict[type, None] = {}
        self._seen: set[int] = set()

    def note(self, path: str, value: Any, depth: int = 0) -> None:
        import mlx.core as mx

        if isinstance(value, _PLAIN):
            self._plain(path, value)
        elif isinstance(value, mx.array):
            self.lines.append(f"{path} {value.dtype}{list(value.shape)}")
        elif isinstance(value, MethodType):
            self.note(path, value.__func__, depth)
        elif isinstance(value, FunctionType):
            self._function(path, value)
        elif isinstance(value, type | mx.Dtype | BuiltinFunctionType):
            self.lines.append(f"{path} {getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}")
        elif depth < _DEEPEST:
            self._enter(path, value, depth + 1)

    def _plain(self, path: str, value: Any) -> None:
        self.lines.append(f"{path} {value!r}")
        name = path.rpartition(".")[2]
        if isinstance(value, int) and not isinstance(value, bool) and ("window" in name or "chunk" in name):
            self.windows[name] = min(value, self.windows.get(name, value))

    def _function(self, path: str, function: FunctionType) -> None:
        source = _source(function.__module__)
        if function.__code__ not in source.codes:
            raise NotAsWritten(f"{path} is a function that no source file has")
        self.lines.append(f"{path} {function.__module__}.{function.__qualname__} {_defaults(function)}")

    def _enter(self, path: str, value: Any, depth: int) -> None:
        import mlx.nn as nn

        kind = type(value)
        if isinstance(value, Mapping) and not isinstance(value, nn.Module):
            entries: Iterable[tuple[Any, Any]] = sorted(value.items(), key=lambda entry: str(entry[0]))
        elif isinstance(value, list | tuple):
            entries = enumerate(value)
        elif isinstance(value, set | frozenset):
            entries = enumerate(sorted(map(repr, value)))
        elif isinstance(value, functools.partial):
            entries = {"func": value.func, "args": value.args, "keywords": value.keywords}.items()
        else:
            entries = self._object(path, value)
        self.lines.append(f"{path} {kind.__module__}.{kind.__qualname__}")
        for name, each in entries:
            self.note(f"{path}.{name}", each, depth)

    def _object(self, path: str, value: Any) -> Iterable[tuple[Any, Any]]:
        """Return what an object of the libraries' own holds, once. Modules are walked by whoever called."""
        import mlx.nn as nn

        kind = type(value)
        if isinstance(value, nn.Module | ModuleType) or id(value) in self._seen:
            return ()
        if kind.__module__ == "builtins" or kind.__module__.startswith("mlx.") or kind.__name__ == "gc_func":
            return ()  # compiled by MLX
        if not _of_library(kind.__module__):
            raise NotAsWritten(f"{path} is a {kind.__module__}.{kind.__qualname__}")
        self._seen.add(id(value))
        self.kinds[kind] = None
        return sorted(vars(value).items()) if hasattr(value, "__dict__") else ()


def hash_of(facts: Any) -> str:
    """Return the hash of what JSON can hold."""
    return _sum(json.dumps(facts, sort_keys=True))
