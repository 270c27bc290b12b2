"""What float64 says of an operation that makes a value which is not finite of operands that are.

The operation is called again on the very operands, widened to float64. A finite value beyond the run's dtype is an
overflow; a value that float64 does not have either is invalid arithmetic; a finite value that would fit means that a
sum, a square or a score inside the operation left the range, if one does, and otherwise that neither the range nor the
operands explain it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness.diagnosis.causes.origin import FaultOrigin
from harness.diagnosis.trail.operations import Operand, Operation, Replay
from harness.metrics.host import host_values
from harness.metrics.layouts import LAYOUTS, layout_of

Values = npt.NDArray[np.float64]

OVERFLOW, INVALID, BROUGHT_IN, UNEXPLAINED = "overflow", "invalid", "brought in", "unexplained"

ADDS = ("add", "radd", "iadd", "subtract", "sub", "rsub", "isub")
MULTIPLIES = ("mul", "rmul", "imul", "multiply")
DIVIDES = ("truediv", "rtruediv", "itruediv", "divide", "reciprocal", "rsqrt", "pow", "rpow", "ipow", "power")
MATMULS = ("matmul", "rmatmul", "imatmul", "addmm", "inner", "einsum", "tensordot", "gather_mm")
QUANTISED = ("quantized_matmul", "gather_qmm")
GATHERED = {
    "gather_mm": ("a", "b", "lhs_indices", "rhs_indices"),
    "gather_qmm": ("x", "w", "scales", "biases", "lhs_indices", "rhs_indices"),
}
"""Products with the matrices of the experts that are chosen -> what their arguments are called."""
PRODUCTS = ("matmul", "rmatmul", "addmm", *GATHERED)
"""Products of matrices of which one row and one column are repeated."""
SUMS = ("sum", "mean", "cumsum", "conv1d", "conv2d", "conv_general", *MATMULS)
"""Sums of products: the sum of the magnitudes of the terms bounds every partial sum."""
SQUARES = ("var", "std", "norm")

DEEP = 8
"""Operations that are repeated in float64 one before the other: a variance, its root, and what is divided by it."""

MOST_ELEMENTS = 1 << 28
"""Elements of operands that are widened; a larger operation is not called again."""

_SIGNS: Mapping[str, str] = {
    **dict.fromkeys(ADDS, "+"), **dict.fromkeys(("subtract", "sub", "rsub", "isub"), "-"),
    **dict.fromkeys(MULTIPLIES, "x"), **dict.fromkeys(("truediv", "rtruediv", "itruediv", "divide"), "/"),
    **dict.fromkeys(("pow", "rpow", "ipow", "power"), "**"),
}  # fmt: skip

_OF_ONE: Mapping[str, Callable[[Any], Any]] = {
    **{name: getattr(np, name) for name in ("exp", "expm1", "exp2", "log", "log2", "log10", "log1p", "sqrt", "square",
                                            "sin", "cos", "tan", "sinh", "cosh", "reciprocal")},
    "rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip
"""Functions of one element: MLX computes some of them in float32, whatever the dtype."""


@dataclass(frozen=True)
class Verdict:
    """What float64 says: OVERFLOW, INVALID, BROUGHT_IN or UNEXPLAINED, and the arithmetic in words.

    `value` is the true value, or for an overflow inside an operation that of the part that left the range.
    """

    kind: str
    text: str
    value: float | None = None
    dtype: str = ""
    inside: bool = False
    """Whether the result itself would fit."""

    @property
    def limit(self) -> float:
        return LAYOUTS[self.dtype].limit

    def beyond(self) -> str:
        return f"beyond {self.dtype}'s {number(self.limit)}"


def number(value: float) -> str:
    """Return a number as people read it: 70,911, 226.8, 3.4e+38."""
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-4:
        return f"{value:.4g}"
    return f"{value:,.0f}" if size >= 1e4 else f"{value:.4g}"


def verdict_of(origin: FaultOrigin) -> Verdict:
    """Call the operation of an origin again in float64, and return what that says of the element."""
    operation, element = origin.operation, origin.element
    if origin.brought_in:
        return Verdict(BROUGHT_IN, "")
    terms = Terms.of(operation, element)
    dtype = operation.result.dtype
    if operation.empty_rows:
        return Verdict(INVALID, "a softmax over a row in which everything is -inf", None, dtype)
    try:
        value = _wide(operation, element)
    except (ValueError, RuntimeError, TypeError) as error:
        return Verdict(UNEXPLAINED, f"it could not be repeated in float64 ({error})", None, dtype)
    if value is None:
        return Verdict(UNEXPLAINED, "it is too large to be repeated in float64", None, dtype)
    if not math.isfinite(value):
        return Verdict(INVALID, terms.invalid(value), None, dtype)
    if dtype in LAYOUTS and abs(value) >= LAYOUTS[dtype].limit * (1 - 2.0 ** (3 - LAYOUTS[dtype].mantissa)):
        return Verdict(OVERFLOW, f"{terms.text()} = {number(value)}", value, dtype)
    inside = _inside(operation, element, value)
    if inside and dtype in LAYOUTS and inside[1] >= LAYOUTS[dtype].limit:
        text = f"{terms.text()} = {number(value)} would fit, {inside[0]} of {number(inside[1])} does not"
        return Verdict(OVERFLOW, text, inside[1], dtype, True)
    return Verdict(UNEXPLAINED, f"float64 gives {number(value)} on the same operands", value, dtype)


@dataclass(frozen=True)
class Terms:
    """The elements of the operands that an element of a result is made of: numbers, or the rows of a product."""

    name: str
    parts: tuple[Values, ...]

    @classmethod
    def of(cls, operation: Operation, element: int) -> Terms:
        values = [*_floats(operation)]
        if operation.name.startswith("r") and operation.name[1:] in _SIGNS and len(values) == 2:
            values.reverse()
        if operation.name in PRODUCTS:
            rows = _rows_of_a_product(operation, element)
            return cls(operation.name, rows if rows is not None else ())
        index = np.unravel_index(element, operation.result.shape or (1,))
        return cls(operation.name, tuple(_at(each, operation.result.shape, index) for each in values))

    def text(self) -> str:
        """Return such as `226.8 x 227.5 summed over 16`."""
        numbers = [number(float(part.reshape(-1)[0])) for part in self.parts if part.size == 1]
        if self.name in PRODUCTS and len(self.parts) == 2:
            a, b = self.parts
            most = int(np.argmax(np.abs(a * b)))
            return f"{number(a[most])} x {number(b[most])} summed over {a.size:,}"
        if self.name in _SIGNS and len(numbers) == 2 and len(self.parts) == 2:
            return f"{numbers[0]} {_SIGNS[self.name]} {numbers[1]}"
        if len(self.parts) >= 1 and all(part.size == 1 for part in self.parts):
            return f"{self.name}({', '.join(numbers)})"
        return f"{self.name} of {' and '.join(_largest(part) for part in self.parts) or 'its operands'}"

    def invalid(self, value: float) -> str:
        """Return which arithmetic has no value, such as `0/0`; `value` is what float64 gives."""
        scalars = [float(part.reshape(-1)[0]) for part in self.parts if part.size == 1]
        if self.name in ("log", "log2", "log10") and scalars:
            return f"{self.name}({number(scalars[0])})"
        if self.name == "log1p" and scalars:
            return f"log1p({number(scalars[0])})"
        if self.name in ("sqrt", "rsqrt") and scalars:
            return f"{'1/' if self.name == 'rsqrt' else ''}sqrt({number(scalars[0])})"
        if self.name == "reciprocal" and scalars:
            return f"1/{number(scalars[0])}"
        if _SIGNS.get(self.name) in ("/", "x", "+", "-") and len(scalars) == 2:
            sign = _SIGNS[self.name]
            return f"{number(scalars[0])}{sign}{number(scalars[1])}" if sign == "/" else _infinite(scalars, sign)
        if len(self.parts) == 2 and self.name in PRODUCTS:
            a, b = self.parts
            zero = ((a == 0) & np.isinf(b)) | ((b == 0) & np.isinf(a))
            return "0 x inf" if zero.any() else "inf - inf"
        return f"{self.text()}, which is {'not a number' if math.isnan(value) else number(value)} in float64 too"


def _infinite(scalars: list[float], sign: str) -> str:
    if sign == "x":
        return "0 x inf" if 0 in scalars else f"{number(scalars[0])} x {number(scalars[1])}"
    return "inf - inf" if all(map(math.isinf, scalars)) else f"{number(scalars[0])} {sign} {number(scalars[1])}"


def _largest(part: Values) -> str:
    finite = np.abs(part[np.isfinite(part)])
    return f"{part.size:,} values up to {number(float(finite.max()))}" if finite.size else f"{part.size:,} values"


def _floats(operation: Operation) -> list[Values]:
    """Return the operands that are floats, as float64; numbers among them."""
    call, found = operation.kept.call, list[Values]()
    for value in (*call.args, *call.kwargs.values()):
        if isinstance(value, float | int) and not isinstance(value, bool):
            found.append(np.array(float(value)))
        elif isinstance(value, mx.array) and (layout_of(value) or operation.name in _SIGNS):
            found.append(host_values(value))
    return found


def _at(values: Values, shape: tuple[int, ...], index: Any) -> Values:
    """Return the element of an operand that is broadcast to the result's shape, or all of another."""
    try:
        return np.asarray(np.broadcast_to(values, shape)[index] if shape else values)
    except ValueError:
        return values


def _rows_of_a_product(operation: Operation, element: int) -> tuple[Values, Values] | None:
    """Return the row and the column whose product is an element of a matrix product."""
    if operation.name in GATHERED:
        return _gathered_rows(operation, element)
    arrays = [array for array in operation.kept.arrays() if layout_of(array)]
    a, b = (arrays[1], arrays[2]) if operation.name == "addmm" and len(arrays) == 3 else arrays[:2]
    if operation.name == "rmatmul":
        a, b = b, a
    shape = operation.result.shape
    if a.ndim < 2 or b.ndim < 2 or len(shape) < 2:
        return None
    *batch, row, column = (int(i) for i in np.unravel_index(element, shape))

    def pick(array: mx.array) -> mx.array:
        for at in [0 if size == 1 else at for at, size in _batched(batch, array.shape[:-2])]:
            array = array[at]
        return array

    return host_values(pick(a)[row]), host_values(pick(b)[:, column])


def _gathered_rows(operation: Operation, element: int) -> tuple[Values, Values]:
    """Return the row of the left matrix that is chosen, and the column of the right one."""
    kept, names = operation.kept, GATHERED[operation.name]
    named = dict(zip(names, kept.call.args, strict=False)) | kept.call.kwargs
    *batch, row, column = (int(i) for i in np.unravel_index(element, operation.result.shape))
    right = named["b"] if operation.name == "gather_mm" else weights_of(operation)[0]
    if operation.name in QUANTISED and named.get("transpose", True):
        right = right.swapaxes(-1, -2)

    def chosen(array: Any, indices: mx.array | None) -> Values:
        matrices = array.reshape(-1, *array.shape[-2:])
        usual = np.arange(len(matrices)).reshape(array.shape[:-2])
        numbers = usual if indices is None else np.asarray(indices)
        picked = matrices[int(np.broadcast_to(numbers, operation.result.shape[:-2])[tuple(batch)])]
        return host_values(picked) if isinstance(picked, mx.array) else np.asarray(picked)

    left = chosen(named[names[0]], named.get("lhs_indices"))
    return left[row], chosen(right, named.get("rhs_indices"))[:, column]


def _batched(batch: list[int], sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(zip(batch[len(batch) - len(sizes) :], sizes, strict=True))


# -- in float64 --------------------------------------------------------------------------------------------------------


def _wide(operation: Operation, element: int, change: Callable[[mx.array], mx.array] = lambda array: array) -> Any:
    """Return an element of the result with every float operand in float64, or None where they are too many."""
    if operation.name in ("astype", "view"):
        return float(_floats(operation)[0].reshape(-1)[element])
    if operation.name in PRODUCTS:
        return _of_rows(operation, element, change)
    if operation.name in _OF_ONE:
        with np.errstate(all="ignore"):
            return float(_OF_ONE[operation.name](_floats(operation)[0].reshape(-1)[element]))
    if operation.name in QUANTISED or operation.name == "dequantize":
        return _of_quantised(operation, element, change)
    if sum(array.size for array in operation.kept.arrays()) > MOST_ELEMENTS:
        return None

    def wide(_: int, array: mx.array) -> mx.array:
        return change(array.astype(mx.float64)) if layout_of(array) else array

    with mx.stream(mx.cpu):
        out = operation.kept.again(wide)
        return float(host_values(out.reshape(-1)[element : element + 1])[0])


def _of_rows(operation: Operation, element: int, change: Callable[[mx.array], mx.array]) -> Any:
    """Return a row times a column, without the rest of the matrices."""
    rows = _rows_of_a_product(operation, element)
    if rows is None:
        raise ValueError("a product of vectors")
    with mx.stream(mx.cpu), np.errstate(all="ignore"):
        a, b = (host_values(change(mx.array(each, mx.float64))) for each in rows)
        if operation.name != "addmm":
            return float(a @ b)
        kept = operation.kept
        added = np.broadcast_to(host_values(kept.arrays()[0]), operation.result.shape).reshape(-1)[element]
        alpha, beta = (kept.call.kwargs.get(name, 1.0) for name in ("alpha", "beta"))
        return float(alpha * (a @ b) + beta * (abs(added) if change is mx.abs else added))


def unrounded(replay: Replay, operation: Operation, depth: int = DEEP) -> mx.array:
    """Return the result of an operation in float64, and so its operands and theirs, up to a depth."""

    def wide(number: int, array: mx.array) -> mx.array:
        made_by = operation.arrays[number].made_by
        if layout_of(array) is None:
            return array
        return array.astype(mx.float64) if made_by is None or not depth else before(made_by)

    def before(made_by: int) -> mx.array:
        made = replay.operations[made_by]
        # Of an operation with several results only the one that is not finite is kept.
        return unrounded(replay, made, depth - 1) if _widens(made) else made.kept.result.astype(mx.float64)

    with mx.stream(mx.cpu):
        if operation.name == "astype":
            return wide(0, operation.kept.arrays()[0])
        out = operation.kept.again(wide)
        return out.astype(mx.float64) if layout_of(out) else out


def _widens(operation: Operation) -> bool:
    narrow = operation.name in ("split", "setitem", "dequantize", *QUANTISED)
    return not narrow and sum(array.size for array in operation.kept.arrays()) <= MOST_ELEMENTS


@dataclass(frozen=True)
class QuantizedGroup:
    """A group of quantised weights: its row and number, scale and bias, and the largest weight it gives in float64."""

    row: int
    group: int
    scale: float
    bias: float | None
    weight: float

    def __str__(self) -> str:
        bias = "" if self.bias is None else f", bias {number(self.bias)}"
        return f"row {self.row}, group {self.group} (scale {number(self.scale)}{bias}) up to {number(self.weight)}"


def weights_of(operation: Operation) -> tuple[Values, list[Any]]:
    """Return what the quantised weights of an operation are in float64, `[..., rows, columns]`, and [scales, biases].

    The codes are those that MLX gives for scales of 1 and biases of 0, so only the affine mode is known.
    """
    kept = operation.kept
    call = kept.call
    codes, *rest = call.args[0 if operation.name == "dequantize" else 1 :]
    named = dict(zip(("scales", "biases"), rest, strict=False)) | call.kwargs
    scales, biases = named.get("scales"), named.get("biases")
    if scales is None or biases is None:
        raise ValueError("not of the affine mode")
    group, bits = named.get("group_size") or 64, named.get("bits") or 4
    one = mx.ones(scales.shape, mx.float32)
    steps = host_values(mx.dequantize(codes, one, mx.zeros_like(one), group, bits))
    wide = [host_values(each).repeat(group, axis=-1) for each in (scales, biases)]
    return steps * wide[0] + wide[1], [host_values(scales), host_values(biases)]


def group_beyond(operation: Operation, limit: float) -> QuantizedGroup | None:
    """Return the group of a quantised operation with the largest weight beyond the limit, if one is."""
    try:
        weights, (scales, biases) = weights_of(operation)
    except (ValueError, TypeError):
        return None
    flat = np.abs(weights.reshape(-1, weights.shape[-1]))
    row, column = (int(i) for i in np.unravel_index(np.argmax(flat), flat.shape))
    if flat[row, column] < limit:
        return None
    group = column * scales.shape[-1] // weights.shape[-1]
    scale, bias = (float(each.reshape(-1, each.shape[-1])[row, group]) for each in (scales, biases))
    return QuantizedGroup(row, group, scale, bias, float(flat[row, column]))


def _of_quantised(operation: Operation, element: int, change: Callable[[mx.array], mx.array]) -> Any:
    weights, _ = weights_of(operation)
    if operation.name == "dequantize":
        return float(weights.reshape(-1)[element])
    kept = operation.kept
    x = host_values(kept.call.args[0])
    index = np.unravel_index(element, operation.result.shape)
    transposed = kept.call.kwargs.get("transpose", True)
    column = weights[..., index[-1], :] if transposed else weights[..., :, index[-1]]
    a, b = x[index[:-1]], column.reshape(-1, column.shape[-1])[0]
    return float(np.abs(a) @ np.abs(b)) if change is mx.abs else float(a @ b)


def _inside(operation: Operation, element: int, value: float) -> tuple[str, float] | None:
    """Return the largest thing that an operation makes on the way to a result that fits: its name and its size."""
    name = operation.name
    if name in SUMS or name in QUANTISED:
        return "a partial sum", _wide(operation, element, mx.abs) * (_terms(operation) if name == "mean" else 1)
    if name in SQUARES:
        squares = value if name == "var" else value**2
        return "a sum of squares", squares * (1 if name == "norm" else _terms(operation))
    if name == "scaled_dot_product_attention":
        return "a score", _largest_score(operation)
    return None


def _terms(operation: Operation) -> float:
    """Return how many elements of the operand a reduction takes for one of its result."""
    return _floats(operation)[0].size / max(1, math.prod(operation.result.shape))


def _largest_score(operation: Operation) -> float:
    """Return the largest product of queries and keys, scaled as the kernel does before it multiplies."""
    kept = operation.kept
    q, k = (host_values(array) for array in kept.arrays()[:2])
    k = k.repeat(q.shape[1] // k.shape[1], axis=1)
    return float(np.abs(q @ k.swapaxes(-1, -2)).max() * abs(kept.call.kwargs.get("scale", 1.0)))


# -- what the operands alone say ---------------------------------------------------------------------------------------


def lost_scalar(operation: Operation) -> tuple[float, str] | None:
    """Return an added number that its dtype cannot hold, and the dtype."""
    dtype = operation.result.dtype
    if operation.name not in ("add", "radd", "maximum") or dtype not in LAYOUTS:
        return None
    half = LAYOUTS[dtype].smallest / 2
    for operand in operation.operands:
        if operand.number and abs(operand.number) <= half:
            return operand.number, dtype
    return None


def size_of(operand: Operand) -> float:
    if operand.number is not None:
        return abs(operand.number)
    return operand.counts.absmax or 0.0 if operand.counts else 0.0
