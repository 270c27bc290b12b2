"""The operation inside a module: the one whose operands are finite and whose result is not.

The run is repeated. While the suspected call of the suspected module is under way, every operation of MLX that Python
calls is watched: the functions of `mx`, `mx.fast` and `mx.linalg`, and the operators and methods of arrays. Compiled
functions run uncompiled meanwhile, so that their parts are seen. Afterwards everything is what it was.
"""

from __future__ import annotations

import linecache
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from harness.diagnosis.trail.masks import UNTRACEABLE, arrays, blocked
from harness.intercept import Tap, tapped
from harness.intercept.outputs import activation_of
from harness.metrics import summarize
from harness.metrics.host import host_values
from harness.metrics.layouts import dtype_name, layout_of
from harness.vocabulary import RowSummary

_OPERATORS = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul",
)  # fmt: skip
_METHODS = (
    "__neg__", "__abs__", "abs", "all", "any", "astype", "cos", "cummax", "cummin", "cumprod", "cumsum", "diag", "exp",
    "log", "log10", "log1p", "log2", "logsumexp", "max", "mean", "min", "prod", "reciprocal", "rsqrt", "sin", "sqrt",
    "square", "std", "sum", "var",
)  # fmt: skip
_NOT_OPERATIONS = (
    "array", "async_eval", "checkpoint", "compile", "custom_function", "depends", "disable_compile", "enable_compile",
    "eval", "export_function", "export_to_dot", "exporter", "get_", "grad", "import_function", "is_available", "jvp",
    "load", "new_", "reset_", "save", "set_", "stream", "synchronize", "value_and_grad", "vjp", "vmap", "clear_",
    "default_", "device_", "issubdtype", "finfo", "iinfo", "broadcast_shapes",
)  # fmt: skip


@dataclass(frozen=True)
class Operand:
    """What went into an operation: an array's counts, or a number."""

    dtype: str
    shape: tuple[int, ...]
    counts: RowSummary | None
    number: float | None = None


@dataclass(frozen=True)
class Operation:
    """One operation: its name, where it is written, its operands and its result."""

    name: str
    source: str
    text: str
    operands: tuple[Operand, ...]
    result: Operand
    empty_rows: tuple[int, ...] = ()
    """Rows of the operand in which everything is -inf, for a softmax; queries without a key, for fused attention."""

    @property
    def limit(self) -> str:
        return self.result.dtype


@dataclass
class Replay:
    """The operations of one module up to the guilty one, which may remain unfound."""

    operations: list[Operation] = field(default_factory=list)
    guilty: Operation | None = None
    brought_in: bool = False
    """Whether the guilty operation only takes in a value that no operation made, such as a constant."""


def replay(root: Any, ids: Sequence[int], module_name: str, call: int, inner_taps: Sequence[Tap] = ()) -> Replay:
    """Repeat a run and return the operations of one call of one module."""
    found = Replay()
    module = dict(root.named_modules())[module_name]
    state = {"calls": 0}

    def handler(inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        state["calls"] += 1
        if state["calls"] != call:
            return inner(*args, **kwargs)
        mx.eval([array for _, array in (*arrays("", args), *arrays("", kwargs))])
        with _watching(found):
            return inner(*args, **kwargs)

    with tapped(root, [*inner_taps, Tap(module, handler)]), uncompiled():
        mx.eval(activation_of(root(mx.array([list(ids)]))))
    _choose(found)
    return found


def _choose(found: Replay) -> None:
    """Name the guilty operation: the first NaN or +inf out of operands without one, else the first -inf."""
    for is_bad in (_hard, _any):
        for operation in found.operations:
            if is_bad(operation.result) and not any(is_bad(operand) for operand in operation.operands):
                found.guilty = _or_its_origin(found, operation)
                return
    for operation in found.operations:
        if _hard(operation.result):
            found.guilty, found.brought_in = operation, True
            return


def _or_its_origin(found: Replay, hard: Operation) -> Operation:
    """A NaN made of an -inf that overflowed before it is that overflow's; one made of a mask is its own."""
    if hard.empty_rows or not any(_any(operand) for operand in hard.operands):
        return hard
    before = found.operations[: found.operations.index(hard)]
    made = (o for o in before if _any(o.result) and not any(_any(operand) for operand in o.operands))
    return next(made, hard)


def _hard(operand: Operand) -> bool:
    if operand.number is not None:
        return math.isnan(operand.number) or operand.number == math.inf
    return operand.counts is not None and bool(operand.counts.nan or operand.counts.pos_inf)


def _any(operand: Operand) -> bool:
    if operand.number is not None:
        return not math.isfinite(operand.number)
    return operand.counts is not None and not operand.counts.finite


@contextmanager
def uncompiled() -> Iterator[None]:
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


@contextmanager
def _watching(found: Replay) -> Iterator[None]:
    busy = [False]
    replaced: list[tuple[Any, str, Any]] = []
    try:
        for owner, name, original in _targets():
            replaced.append((owner, name, original))
            setattr(owner, name, _watched(name, original, found, busy))
        yield
    finally:
        for owner, name, original in reversed(replaced):
            setattr(owner, name, original)


def _targets() -> Iterator[tuple[Any, str, Any]]:
    kind = type(mx.add)
    for owner in (mx, mx.fast, mx.linalg):
        for name in dir(owner):
            value = getattr(owner, name)
            if isinstance(value, kind) and not name.startswith(_NOT_OPERATIONS) and not name.startswith("_"):
                yield owner, name, value
    names = [f"__{side}{name}__" for name in _OPERATORS for side in ("", "r", "i")]
    for name in (*names, *_METHODS):
        if name in vars(mx.array):
            yield mx.array, name, vars(mx.array)[name]


def _watched(name: str, original: Any, found: Replay, busy: list[bool]) -> Callable[..., Any]:
    def operation(*args: Any, **kwargs: Any) -> Any:
        if busy[0]:
            return original(*args, **kwargs)
        busy[0] = True
        try:
            # An operator such as `*=` changes the handle that it is given.
            before = [mx.array(a) if isinstance(a, mx.array) else a for a in args]
            out = original(*args, **kwargs)
            _note(found, name, before, kwargs, out)
        finally:
            busy[0] = False
        return out

    return operation


def _note(found: Replay, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
    # A few operations after the first bad one are kept, to tell a consequence from a cause.
    if found.guilty or sum(_hard(o.result) for o in found.operations) > 3:
        return
    results = [array for _, array in arrays("", out) if layout_of(array)]
    if not results:
        return
    try:
        mx.eval(results)
        result = next((seen for seen in map(_array, results) if not seen.counts or not seen.counts.finite), None)
        operands = tuple(_operands(args, kwargs))
        empty = _empty_rows(name, args, kwargs) if result else ()
        found.operations.append(Operation(name.strip("_"), *_caller(), operands, result or _array(results[0]), empty))
    except UNTRACEABLE:
        return  # inside a function that MLX traces, where nothing has a value


def _operands(args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[Operand]:
    for value in (*args, *kwargs.values()):
        if isinstance(value, float | int) and not isinstance(value, bool):
            yield Operand("number", (), None, float(value))
        for _, array in arrays("", value):
            yield _array(array)


def _array(array: mx.array) -> Operand:
    return Operand(dtype_name(array), tuple(array.shape), summarize(array) if layout_of(array) else None)


def _empty_rows(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[int, ...]:
    if name == "softmax":
        values = host_values(args[0])
        empty = (values == -math.inf).all(axis=-1)
    elif name == "scaled_dot_product_attention" and isinstance(kwargs.get("mask"), mx.array):
        empty = host_values(mx.all(blocked(kwargs["mask"]), axis=-1).astype(mx.float32)) > 0
    else:
        return ()
    rows = empty.reshape(-1, empty.shape[-1]).any(axis=0) if empty.ndim else empty.reshape(1)
    return tuple(int(i) for i in rows.nonzero()[0])


def _caller() -> tuple[str, str]:
    """Return `mlx_lm/models/llama.py:120` and that line, for the code that called the operation."""
    frame: Any = sys._getframe(1)
    here = __file__
    while frame and frame.f_code.co_filename == here:
        frame = frame.f_back
    if frame is None:
        return "", ""
    file = Path(frame.f_code.co_filename)
    line = linecache.getline(str(file), frame.f_lineno).strip()
    return f"{_short(file)}:{frame.f_lineno}", line


def _short(file: Path) -> str:
    parts = file.parts
    if "site-packages" in parts:
        return "/".join(parts[parts.index("site-packages") + 1 :])
    return "/".join(parts[-2:])
