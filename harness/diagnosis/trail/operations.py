"""The operation inside a module: the one whose operands are finite and whose result is not.

The run is repeated. While the suspected call of the suspected module is under way, every operation of MLX that Python
calls is watched: the functions of `mx`, `mx.fast` and `mx.linalg`, and the operators and methods of arrays. Compiled
functions run uncompiled meanwhile, so that their parts are seen. Afterwards everything is what it was.
"""

from __future__ import annotations

import linecache
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx

from harness.diagnosis.trail.masks import UNTRACEABLE, arrays, blocked
from harness.intercept import CALL, Tap, tapped
from harness.intercept.outputs import activation_of
from harness.metrics import summarize
from harness.metrics.host import host_bits, host_values
from harness.metrics.layouts import dtype_name, layout_of
from harness.vocabulary import RowSummary

_OPERATORS = (
    "eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul",
)  # fmt: skip
_METHODS = (
    "__neg__", "__abs__", "abs", "all", "any", "argmax", "argmin", "astype", "cos", "cummax", "cummin", "cumprod",
    "cumsum", "diag", "exp", "log", "log10", "log1p", "log2", "logsumexp", "max", "mean", "min", "prod", "reciprocal",
    "round", "rsqrt", "sin", "sqrt", "square", "std", "sum", "var",
    # What only moves elements is watched as well, so that a value can be followed through it.
    "T", "__getitem__", "__setitem__", "diagonal", "flatten", "mT", "moveaxis", "reshape", "split", "squeeze",
    "swapaxes", "transpose",
)  # fmt: skip
_NOT_OPERATIONS = (
    "array", "async_eval", "checkpoint", "compile", "custom_function", "depends", "disable_compile", "enable_compile",
    "eval", "export_function", "export_to_dot", "exporter", "get_", "grad", "import_function", "is_available", "jvp",
    "load", "new_", "reset_", "save", "set_", "stream", "synchronize", "value_and_grad", "vjp", "vmap", "clear_",
    "default_", "device_", "issubdtype", "finfo", "iinfo", "broadcast_shapes",
)  # fmt: skip


MOST_HELD = 1 << 30
"""Bytes of results that a replay keeps: what follows is not recorded."""


@dataclass(frozen=True)
class NotedCall:
    """How an operation was called, and where. `args` are copies of the positional arguments, `ids` are theirs."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    ids: tuple[int, ...]
    source: str
    text: str


Note = Callable[[NotedCall, Any], mx.array | None]
"""Called after an operation with how it was called and its result; what it returns, if anything, stands for that."""


@dataclass(frozen=True)
class Operand:
    """What went into an operation: an array's counts, or a number."""

    dtype: str
    shape: tuple[int, ...]
    counts: RowSummary | None
    number: float | None = None
    made_by: int | None = None
    """The operation of the replay that returned it, if one did."""

    @property
    def hard(self) -> bool:
        """Whether it holds a NaN or +inf, which nobody means."""
        if self.number is not None:
            return math.isnan(self.number) or self.number == math.inf
        return self.counts is not None and bool(self.counts.nan or self.counts.pos_inf)

    @property
    def finite(self) -> bool:
        if self.number is not None:
            return math.isfinite(self.number)
        return self.counts is None or self.counts.finite


@dataclass(frozen=True)
class Operation:
    """One operation: its name, where it is written, its operands and its result."""

    name: str
    source: str
    text: str
    operands: tuple[Operand, ...]
    result: Operand
    kept: Kept = field(repr=False, compare=False)
    empty_rows: tuple[int, ...] = ()
    """Rows of the operand in which everything is -inf, for a softmax; queries without a key, for fused attention."""

    @property
    def arrays(self) -> list[Operand]:
        """The operands that are no numbers, in the order of `kept.arrays()`."""
        return [operand for operand in self.operands if operand.number is None]

    @property
    def made_here(self) -> bool:
        """Whether it makes a value that is not finite of operands that are."""
        return not self.result.finite and all(operand.finite for operand in self.operands)


@dataclass(frozen=True)
class Kept:
    """How an operation was called, and what it returned, to call it again."""

    call: NotedCall
    time: int
    """How many times the same line had called it by then, this one included."""
    part: int
    """Which of its results, where it has several."""
    result: mx.array

    def arrays(self) -> list[mx.array]:
        """Return the arrays that went in, in the order of `Operation.arrays`."""
        return [array for value in (*self.call.args, *self.call.kwargs.values()) for _, array in arrays("", value)]

    def again(self, change: Callable[[int, mx.array], mx.array]) -> mx.array:
        """Call it again on `change(number, array)` of each array, and return that part of the result."""
        count = iter(range(1 << 20))

        def changed(value: Any, depth: int = 4) -> Any:
            if isinstance(value, mx.array):
                return change(next(count), mx.array(value))
            if depth and isinstance(value, dict):
                return {key: changed(inner, depth - 1) for key, inner in value.items()}
            if depth and isinstance(value, tuple | list):
                return type(value)(changed(inner, depth - 1) for inner in value)
            return value

        out = self.call.function(*changed(self.call.args), **changed(self.call.kwargs))
        return [array for _, array in arrays("", out)][self.part]


@dataclass
class Replay:
    """The operations of one call of one module, in order, and the arrays that it returned."""

    operations: list[Operation] = field(default_factory=list)
    returned: list[mx.array] = field(default_factory=list)
    made: dict[int, int] = field(default_factory=dict)
    """The id of an array -> the operation that returned it."""
    handles: list[mx.array] = field(default_factory=list)
    """The arrays that operations returned: while they live, no other has the id of one."""
    times: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(operation, line) -> how many times it was called."""
    held: int = 0

    def maker_of(self, array: mx.array) -> int | None:
        """Return the operation that returned an array, or one with the same bits, as a copy has them."""
        maker = self.made.get(id(array))
        if maker is not None or layout_of(array) is None:
            return maker
        counts = summarize(array)
        if counts.finite:
            return None
        alike = (i for i, each in reversed([*enumerate(self.operations)]) if each.result.counts == counts)
        return next((i for i in alike if _same_bits(self.operations[i].kept, array)), None)


class _Seen(BaseException):
    """The call that is looked at has returned: nothing after it is needed."""


def replay(
    root: Any, ids: Sequence[int], module_name: str, call: int, inner_taps: Sequence[Tap] = (), method: str = CALL
) -> Replay:
    """Repeat a run up to the end of one call of one module, and return the operations of that call."""
    found = Replay()
    module = dict(root.named_modules())[module_name]
    state = {"calls": 0}

    def handler(inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        state["calls"] += 1
        if state["calls"] != call:
            return inner(*args, **kwargs)
        mx.eval([array for _, array in (*arrays("", args), *arrays("", kwargs))])
        with watching(partial(_note, found)):
            out = inner(*args, **kwargs)
        found.returned = [array for _, array in arrays("", out)]
        mx.eval(found.returned)
        raise _Seen

    with tapped(root, [*inner_taps, Tap(module, handler, method=method)]), uncompiled(), suppress(_Seen):
        mx.eval(activation_of(root(mx.array([list(ids)]))))
    return found


def _same_bits(kept: Kept, array: mx.array) -> bool:
    if kept.result.shape != array.shape or kept.result.dtype != array.dtype:
        return False
    return bool((host_bits(kept.result) == host_bits(array)).all())


@contextmanager
def uncompiled() -> Iterator[None]:
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


@contextmanager
def watching(note: Note) -> Iterator[None]:
    """Call `note` after every operation, for the duration of the block."""
    busy = [False]
    replaced: list[tuple[Any, str, Any]] = []
    try:
        for owner, name, original in _targets():
            replaced.append((owner, name, original))
            setattr(owner, name, _watched(name, original, note, busy))
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


def _watched(name: str, original: Any, note: Note, busy: list[bool]) -> Any:
    if not callable(original):  # a property, as `T` is
        return property(_watched(name, original.__get__, note, busy))

    def operation(*args: Any, **kwargs: Any) -> Any:
        if busy[0]:
            return original(*args, **kwargs)
        busy[0] = True
        try:
            # An operator such as `*=` changes the handle that it is given.
            before = tuple(mx.array(a) if isinstance(a, mx.array) else a for a in args)
            out = original(*args, **kwargs)
            put = name == "__setitem__"
            call = NotedCall(name, _set if put else original, before, kwargs, tuple(map(id, args)), *_caller())
            instead = note(call, args[0] if put else out)
            if instead is not None and (put or out is args[0]):
                args[0][...] = instead
                instead = None
        finally:
            busy[0] = False
        return out if instead is None else instead

    return operation


def _set(array: mx.array, index: Any, value: Any) -> mx.array:
    array[index] = value
    return array


def _note(found: Replay, call: NotedCall, out: Any) -> None:
    found.times[call.name, call.source] += 1
    results = [array for _, array in arrays("", out)]
    if not results or found.held > MOST_HELD:
        return
    try:
        mx.eval(results)
        operands = tuple(_operands(found, call))
        for part, (seen, result) in enumerate(zip(map(_array, results), results, strict=True)):
            if not (part and seen.finite):
                _add(found, call, operands, seen, part, result)
    except UNTRACEABLE:
        return  # inside a function that MLX traces, where nothing has a value


def _add(
    found: Replay, call: NotedCall, operands: tuple[Operand, ...], seen: Operand, part: int, result: mx.array
) -> None:
    kept = Kept(call, found.times[call.name, call.source], part, mx.array(result))
    found.held += result.nbytes
    found.handles.append(result)
    found.made[id(result)] = len(found.operations)
    empty = () if seen.finite else _empty_rows(call)
    found.operations.append(Operation(call.name.strip("_"), call.source, call.text, operands, seen, kept, empty))


def _operands(found: Replay, call: NotedCall) -> Iterator[Operand]:
    handles = (*call.ids, *(id(value) for value in call.kwargs.values()))
    for value, handle in zip((*call.args, *call.kwargs.values()), handles, strict=True):
        if isinstance(value, float | int) and not isinstance(value, bool):
            yield Operand("number", (), None, float(value))
        for _, array in arrays("", value):
            seen = _array(array)
            maker = found.made.get(handle if array is value else id(array))
            yield replace(seen, made_by=found.maker_of(array) if maker is None and not seen.finite else maker)


def _array(array: mx.array) -> Operand:
    return Operand(dtype_name(array), tuple(array.shape), summarize(array) if layout_of(array) else None)


def _empty_rows(call: NotedCall) -> tuple[int, ...]:
    name, args, kwargs = call.name, call.args, call.kwargs
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
