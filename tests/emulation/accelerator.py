"""MLX on a CPU that rounds, fails and is named as an accelerator is. It needs no hardware and repeats every bit.

The text of an emulation is a list of these, such as `order,metal`:

    order           products and attention are summed in another order, chosen by the shapes of the inputs alone, as a
                    GPU picks a kernel by the number of rows; a result that is exact in any order stays as it is
    rows:4          every product, norm, rotation and convolution x (1 + r), |r| up to 4 ulp, by the shapes and the
                    column: all rows of a batch get the same factors
    flaky:0.001     a call in a thousand is off by up to an ulp in every element, whatever its shape; flaky:0.001:7 is
                    another choice of calls
    memory:20       the 20th evaluation raises what Metal raises when memory is short
    late:20         the 20th product is zeros, and the second evaluation after it raises that error
    metal           MLX says that it computes on the GPU of a Mac
    cpu-arm64       the processor is an ARM one

`emulated` is a context manager for a test, `child` the environment of a child process.
"""

from __future__ import annotations

import os
import platform
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce
from itertools import pairwise
from math import gcd, prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np

PRODUCTS = ("matmul", "addmm", "quantized_matmul", "gather_mm", "gather_qmm")
FAST = ("scaled_dot_product_attention", "rms_norm", "layer_norm", "rope")
ULP = {mx.float32: 2.0**-23, mx.float16: 2.0**-10, mx.bfloat16: 2.0**-7}
OUT_OF_MEMORY = (
    "[METAL] Command buffer execution failed: Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)."
)
Op = Callable[..., Any]

# A diagnosis watches every operation of MLX. It sees the product, and nothing of how that is emulated: the parts are
# called under names that it does not replace.
PLAIN = SimpleNamespace(**vars(mx))
_cut, _cast = mx.array.__getitem__, mx.array.astype
WIDE = mx.float32


@dataclass
class Emulation:
    """What is emulated, and the state of the calls so far."""

    order: bool = False
    rows: float = 0.0
    flaky: float = 0.0
    seed: int = 0
    memory: int = 0
    late: int = 0
    name: str = ""
    evaluations: int = 0
    products: int = 0
    on_cpu: bool = False
    """Whether the machine computes on its processor just now, which rounds as it always does."""
    undo: list[tuple[Any, str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> Emulation:
        """Read `order,flaky:0.001,metal`."""
        made = cls()
        for part in text.split(","):
            word, *values = part.split(":")
            if word in ("metal", "cpu-arm64"):
                made = replace(made, name=word)
            elif word == "order":
                made = replace(made, order=True)
            elif word == "flaky":
                made = replace(made, flaky=float(values[0]), seed=int(values[1]) if values[1:] else 0)
            elif word in ("rows", "memory", "late"):
                made = replace(made, **{word: type(getattr(made, word))(values[0])})
            else:
                raise ValueError(f"{part!r} is nothing that can be emulated")
        return made

    def install(self) -> None:
        """Put the emulation in place until `remove`."""
        self._calls = random.Random(self.seed)
        if self.order or self.rows or self.flaky or self.late:
            for name in PRODUCTS:
                self._replace(mx, name, self._op(name, getattr(mx, name)))
            self._replace(mx, "conv1d", self._op("conv1d", mx.conv1d))
            self._replace(mx.array, "__matmul__", self._op("matmul", mx.array.__matmul__))
            for name in FAST:
                self._replace(mx.fast, name, self._op(name, getattr(mx.fast, name)))
        if self.memory or self.late:
            self._replace(mx, "eval", self._failing(mx.eval))
        if self.name:
            _NAMES[self.name](self, self._replace)

    def remove(self) -> None:
        while self.undo:
            owner, name, was = self.undo.pop()
            setattr(owner, name, was)

    def _replace(self, owner: Any, name: str, new: Any) -> None:
        self.undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, new)

    def _op(self, name: str, plain: Op) -> Op:
        ordered = _ORDERED.get(name)

        def op(*args: Any, **kwargs: Any) -> Any:
            if self.on_cpu:
                return plain(*args, **kwargs)
            made = ordered(*args, **kwargs) if self.order and ordered else None
            out = plain(*args, **kwargs) if made is None else made
            if self.late and name in PRODUCTS:
                self.products += 1
                out = mx.zeros_like(out) if self.products == self.late else out
            if self.rows and out.dtype in ULP:
                out = _off(out, self.rows, repr((name, _shapes(args, kwargs))))
            if self.flaky and out.dtype in ULP and self._calls.random() < self.flaky:
                out = _off(out, 1.0, str(self._calls.random()))
            return out

        op.__name__ = name
        return op

    def _failing(self, plain: Op) -> Op:
        def evaluate(*args: Any) -> None:
            self.evaluations += 1
            if not self.memory and self.products >= self.late > 0:
                self.memory = self.evaluations + 1  # the work is done later than it is asked for, and so is the error
            if self.evaluations == self.memory:
                raise RuntimeError(OUT_OF_MEMORY)
            plain(*args)

        return evaluate


@contextmanager
def emulated(text: str) -> Iterator[Emulation]:
    """Compute on the emulated MLX inside the block."""
    made = Emulation.of(text)
    made.install()
    try:
        yield made
    finally:
        made.remove()


def child(text: str) -> dict[str, str]:
    """Return the variables of a child process that computes on the emulated MLX."""
    path = os.environ.get("PYTHONPATH")
    return {"EMULATE": text, "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parent), path)))}


# -- another order -----------------------------------------------------------------------------------------------------

Pieces = list[tuple[int, int]]


def pieces(rows: int, length: int, least: int = 2) -> Pieces:
    """Return where the inner axis of a product of so many rows is cut; the sums of the pieces are added one by one."""
    parts = max(1, min(1 + (rows - 1) % 5, length // least))
    edges = [length * i // parts for i in range(parts + 1)]
    return list(pairwise(edges))


def _rows(a: mx.array) -> int:
    return prod(a.shape[:-1])


def _summed(a: mx.array, b: mx.array, cuts: Pieces, multiply: Op = PLAIN.matmul) -> mx.array:
    """Return a float32 product whose inner axis, the last of `a` and the last but one of `b`, is cut."""
    a, b = _cast(a, WIDE), _cast(b, WIDE)
    inner = [slice(*cut) for cut in cuts]
    return reduce(PLAIN.add, (multiply(_cut(a, (..., at)), _cut(b, (..., at, slice(None)))) for at in inner))


def _batched(a: mx.array, b: mx.array) -> mx.array:
    """Return a float32 product whose inner axis is cut in equal parts, as many as the number of rows chooses.

    Without a slice, which a function that is compiled for every shape cannot hold.
    """
    parts = gcd(a.shape[-1], 2 ** ((_rows(a) - 1) % 5))
    a, b = _cast(a, WIDE), _cast(b, WIDE)
    if parts == 1:
        return PLAIN.matmul(a, b)
    left = PLAIN.moveaxis(PLAIN.unflatten(a, -1, (parts, -1)), -2, -3)
    return PLAIN.sum(PLAIN.matmul(left, PLAIN.unflatten(b, -2, (parts, -1))), axis=-3)


def _like(a: Any, b: Any) -> bool:
    return isinstance(b, mx.array) and a.dtype in ULP and a.dtype == b.dtype and min(a.ndim, b.ndim) > 1


def _matmul(a: mx.array, b: Any, **more: Any) -> mx.array | None:
    if more or not _like(a, b):
        return None
    return _cast(_batched(a, b), a.dtype)


def _addmm(c: mx.array, a: mx.array, b: mx.array, *more: Any, **named: Any) -> mx.array | None:
    if more or named or not _like(a, b):
        return None
    return _cast(PLAIN.add(_batched(a, b), _cast(c, WIDE)), a.dtype)


def _gather_mm(a: mx.array, b: mx.array, *more: Any, **named: Any) -> mx.array | None:
    if a.dtype != WIDE or b.dtype != WIDE:  # the halves have no kernel on a CPU
        return None
    return _summed(a, b, pieces(_rows(a), a.shape[-1]), lambda a, b: PLAIN.gather_mm(a, b, *more, **named))


def _quantized(kernel: Op, places: Sequence[str]) -> Op:
    """Return a product with a quantized matrix that is cut between the groups of its inner axis."""

    def in_order(x: mx.array, w: mx.array, *more: Any, **named: Any) -> mx.array | None:
        given = dict(zip(places, more, strict=False)) | named
        group, bits = given.get("group_size") or 64, given.get("bits") or 4
        if given.get("mode", "affine") != "affine" or not given.get("transpose", True) or x.dtype not in ULP:
            return None
        x_wide, scales, biases = (_cast(each, WIDE) for each in (x, given.pop("scales"), given.pop("biases")))

        def product(start: int, end: int) -> mx.array:
            words = slice(start * group * bits // 32, end * group * bits // 32)
            groups, columns = (..., slice(start, end)), (..., slice(start * group, end * group))
            made = {"scales": _cut(scales, groups), "biases": _cut(biases, groups)}
            return kernel(_cut(x_wide, columns), _cut(w, (..., words)), **made, **given)

        cuts = pieces(_rows(x), x.shape[-1] // group, least=1)
        return _cast(reduce(PLAIN.add, (product(*cut) for cut in cuts)), x.dtype)

    return in_order


def _attention(
    q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: Any = None, sinks: Any = None, **more: Any
) -> mx.array | None:
    """Attention that adds up the keys in pieces, and divides by the sum of the weights at the end."""
    cuts = pieces(q.shape[0] * q.shape[2], k.shape[2])
    if more or len(cuts) == 1 or q.dtype not in ULP:
        return None
    wide, keys, values = (_cast(each, WIDE) for each in (q, k, v))
    if shared := q.shape[1] // k.shape[1] - 1:
        keys, values = (PLAIN.repeat(each, shared + 1, axis=1) for each in (keys, values))
    wide, keys = PLAIN.multiply(wide, scale), PLAIN.swapaxes(keys, -1, -2)
    scores = _summed(wide, keys, pieces(_rows(q), q.shape[-1]))
    if isinstance(mask, str):
        rows, columns = scores.shape[-2:]
        mask = PLAIN.tri(rows, columns, columns - rows, dtype=mx.bool_)
    if mask is not None and mask.dtype == mx.bool_:
        scores = PLAIN.where(mask, scores, PLAIN.finfo(WIDE).min)
    elif mask is not None:
        scores = PLAIN.add(scores, _cast(mask, WIDE))
    if sinks is not None:
        sink = PLAIN.broadcast_to(PLAIN.reshape(_cast(sinks, WIDE), (1, -1, 1, 1)), (*scores.shape[:-1], 1))
        scores = PLAIN.concatenate([scores, sink], axis=-1)
        values = PLAIN.concatenate([values, PLAIN.zeros_like(_cut(values, (..., slice(1), slice(None))))], axis=-2)
        cuts = [*cuts, (k.shape[2], k.shape[2] + 1)]
    weights = PLAIN.exp(PLAIN.subtract(scores, PLAIN.max(scores, axis=-1, keepdims=True)))
    total = reduce(PLAIN.add, (PLAIN.sum(_cut(weights, (..., slice(*cut))), axis=-1, keepdims=True) for cut in cuts))
    return _cast(PLAIN.divide(_summed(weights, values, cuts), total), q.dtype)


_OF_QUANTIZED = ("scales", "biases", "transpose", "group_size", "bits", "mode")
_ORDERED: Mapping[str, Op] = {
    "matmul": _matmul,
    "addmm": _addmm,
    "gather_mm": _gather_mm,
    "quantized_matmul": _quantized(PLAIN.quantized_matmul, _OF_QUANTIZED),
    "gather_qmm": _quantized(PLAIN.gather_qmm, (*_OF_QUANTIZED[:2], "lhs_indices", "rhs_indices", *_OF_QUANTIZED[2:])),
    "scaled_dot_product_attention": _attention,
}
"""Each returns what an operation gives in another order, or None where it leaves that to the operation itself."""


# -- other last digits -------------------------------------------------------------------------------------------------


def _shapes(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    arrays = [each for each in (*args, *kwargs.values()) if isinstance(each, mx.array)]
    return [(each.shape, str(each.dtype)) for each in arrays]


@lru_cache(4096)
def _factors(columns: int, key: str) -> mx.array:
    """Return numbers in [-1, 1) `[columns]`, made of raw bits of a generator, which no release of NumPy changes."""
    bits = np.random.PCG64(zlib.crc32(key.encode())).random_raw(columns)
    return PLAIN.array((bits >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1))


def _off(out: mx.array, ulps: float, key: str) -> mx.array:
    """Return a result with every value off by at most so many ulp; the rows of a batch alike."""
    factors = PLAIN.add(1.0, PLAIN.multiply(_factors(out.shape[-1] if out.ndim else 1, key), ulps * ULP[out.dtype]))
    return _cast(PLAIN.multiply(_cast(out, WIDE), factors), out.dtype)


# -- other names -------------------------------------------------------------------------------------------------------

Replace = Callable[[Any, str, Any], None]


def _arm(machine: Emulation, replace: Replace) -> None:
    replace(platform, "machine", lambda: "arm64")


def _metal(machine: Emulation, replace: Replace) -> None:
    """Let MLX say that it computes on a GPU, and keep the work where it is. What is asked of the CPU rounds as ever."""
    _arm(machine, replace)
    gpu, state = PLAIN.Device(PLAIN.gpu, 0), {"device": PLAIN.Device(PLAIN.gpu, 0)}

    def at(device: Any) -> Any:
        return PLAIN.cpu if device is None or device == PLAIN.gpu else device

    def choose(device: Any) -> None:
        state["device"] = gpu if device == PLAIN.gpu else PLAIN.Device(PLAIN.cpu, 0)

    replace(mx, "default_device", lambda: state["device"])
    replace(mx, "set_default_device", choose)
    replace(mx, "is_available", lambda device: True)
    replace(mx.metal, "is_available", lambda: True)

    @contextmanager
    def stream(device: Any) -> Iterator[None]:
        was, machine.on_cpu = machine.on_cpu, device == PLAIN.cpu
        try:
            with PLAIN.stream(device if isinstance(device, mx.Stream) else at(device)):
                yield
        finally:
            machine.on_cpu = was

    replace(mx, "stream", stream)
    for name in ("new_stream", "default_stream", "new_thread_local_stream"):
        made = getattr(PLAIN, name)
        replace(
            mx, name, lambda device=None, made=made: made(at(device) if not isinstance(device, mx.Stream) else device)
        )
    replace(mx, "device_info", lambda *device: dict(_MAC))
    replace(mx.metal, "device_info", lambda: dict(_MAC))


_MAC = {
    "architecture": "applegpu_g14s", "device_name": "Apple M2 Pro", "memory_size": 16 << 30,
    "max_recommended_working_set_size": 11 << 30, "max_buffer_length": 9 << 30, "resource_limit": 499000,
}  # fmt: skip
_NAMES: Mapping[str, Callable[[Emulation, Replace], None]] = {"metal": _metal, "cpu-arm64": _arm}
