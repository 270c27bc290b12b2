"""Whether this build of MLX sees NaN and infinity: rows that hold one are shown to every primitive that looks for them.

Reductions have dropped NaN in some builds (mlx#2339, #3269, #4146, #4220); a guard built on one lets a broken model
pass. The harness decides what is finite on the host and by the bits, guards elsewhere by `mx.isnan`, `mx.max` and the
like. Each primitive is asked by itself, so that a blind one is named, together with what needs it. Rows are planted by
their bits, because a conversion on the device could lose the fault, and NumPy says what the right answer is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness import metrics
from harness.metrics.layouts import Bits
from harness.vocabulary.words import number_of

FAULTS: Mapping[str, float] = {"NaN": np.nan, "-NaN": -np.nan, "inf": np.inf, "-inf": -np.inf}
"""What is planted. x86 makes its NaN with the sign bit set."""

DTYPES = ("float16", "bfloat16", "float32")

WIDTHS = (1, 7, 8, 9, 31, 32, 33, 1023, 1024, 1025, 4095, 4096, 4097, 151_936)
"""Around the lanes of a vector unit (8), a SIMD group of Metal (32), a threadgroup (1024) and what a threadgroup
reduces in one pass (4 x 1024); and the vocabulary of the report."""

BACKGROUND = 2.0**-6
"""Every other value of a row. No dtype rounds it, and a float16 sum of the widest row stays finite."""


@dataclass(frozen=True, eq=False)
class PlantedRow:
    """A row `[width]`: on the device, as the host knows it (float32), and where it is not finite.

    `name` is such as `NaN in float16 at 0 of 7`, or `clean float16 of 7`.
    """

    name: str
    dtype: str
    array: mx.array
    values: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Primitive:
    """A way to decide finiteness, what of the harness needs it (empty: nothing), and whether it is right of a row."""

    name: str
    needed_by: str
    is_right: Callable[[PlantedRow], bool]


@dataclass(frozen=True)
class DetectorVerdict:
    """How many values were planted, and the rows that each primitive answered wrongly."""

    planted: int
    missed: Mapping[Primitive, tuple[str, ...]]
    invented: Mapping[Primitive, tuple[str, ...]]

    @property
    def safe(self) -> bool:
        return not (self.missed or self.invented)

    @property
    def wrong(self) -> tuple[Primitive, ...]:
        """The primitives that cannot be believed."""
        return tuple(dict.fromkeys((*self.missed, *self.invented)))

    def __str__(self) -> str:
        if self.safe:
            return f"{self.planted} planted values found, none invented"
        return "; ".join(map(self._of, self.wrong))

    def _of(self, primitive: Primitive) -> str:
        missed, invented = self.missed.get(primitive, ()), self.invented.get(primitive, ())
        parts = [f"{number_of(len(missed), 'planted value')} missed, such as {missed[0]}"] if missed else []
        parts += [f"{number_of(len(invented), 'clean row')} flagged, such as {invented[0]}"] if invented else []
        needed = f"needed by {primitive.needed_by}" if primitive.needed_by else "no number of the harness needs it"
        return f"{primitive.name}: {', '.join(parts)} ({needed})"


def examine() -> DetectorVerdict:
    """Show every planted and every clean row to every primitive.

    A process asks once for each device, and again where a primitive was replaced: a kernel does not change.
    """
    names = (each.name.removeprefix("mx.") for each in PRIMITIVES if each.name.startswith("mx."))
    in_use = (metrics.host_row, metrics.summarize, *(getattr(mx, name) for name in names))
    return _examined(str(mx.default_device()), in_use)


@lru_cache(maxsize=4)
def _examined(device: str, in_use: tuple[Callable[..., Any], ...]) -> DetectorVerdict:
    planted, clean = list(_planted()), list(_clean())
    return DetectorVerdict(len(planted), _wrong(planted), _wrong(clean))


def _wrong(rows: list[PlantedRow]) -> dict[Primitive, tuple[str, ...]]:
    wrong = {each: tuple(row.name for row in rows if not each.is_right(row)) for each in PRIMITIVES}
    return {primitive: names for primitive, names in wrong.items() if names}


def _planted() -> Iterator[PlantedRow]:
    for dtype in DTYPES:
        for width in WIDTHS:
            for place in sorted({0, width // 2, width - 1}):
                for name, fault in FAULTS.items():
                    values = np.full(width, BACKGROUND, np.float32)
                    values[place] = fault
                    yield _row(f"{name} in {dtype} at {place} of {width}", dtype, values)


def _clean() -> Iterator[PlantedRow]:
    for dtype in DTYPES:
        for width in WIDTHS:
            yield _row(f"clean {dtype} of {width}", dtype, np.full(width, BACKGROUND, np.float32))


def _row(name: str, dtype: str, values: npt.NDArray[np.float32]) -> PlantedRow:
    return PlantedRow(
        name, dtype, mx.array(_bits(values, dtype)).view(getattr(mx, dtype)), values, ~np.isfinite(values)
    )


def _bits(values: npt.NDArray[np.float32], dtype: str) -> Bits:
    """Return the bits of values that the dtype holds exactly, as unsigned integers of its width."""
    if dtype == "float16":
        return values.astype(np.float16).view(np.uint16)
    bits = values.view(np.uint32)
    return (bits >> 16).astype(np.uint16) if dtype == "bfloat16" else bits


def bit_maxima(array: mx.array, bits: int) -> tuple[mx.array, mx.array]:
    """Return the largest of a float array's bits as unsigned and as signed integers, not yet evaluated.

    As unsigned integers negative values are the largest, as signed ones positive values are. This is the reduction by
    which the trail of a diagnosis decides whether an array is finite.
    """
    return mx.max(array.view(getattr(mx, f"uint{bits}"))), mx.max(array.view(getattr(mx, f"int{bits}")))


def largest_magnitude(unsigned: mx.array, signed: mx.array, bits: int) -> int:
    """Return the bits of the largest magnitude, without the sign; from those of infinity on, not all is finite."""
    sign, high = 1 << (bits - 1), int(np.array(unsigned))
    return max(high - sign if high >= sign else 0, int(np.array(signed)), 0)


def _on_the_host(row: PlantedRow) -> bool:
    found, places = metrics.summarize(metrics.host_row(row.array)), np.flatnonzero(row.mask)
    planted = row.values[places]
    right = (np.isnan(planted).sum(), np.isposinf(planted).sum(), np.isneginf(planted).sum())
    first = int(places[0]) if places.size else None
    return (found.nan, found.pos_inf, found.neg_inf) == right and found.first == first


def _by_the_bits(row: PlantedRow) -> bool:
    bits = 32 if row.dtype == "float32" else 16
    (infinity,) = _bits(np.array([np.inf], np.float32), row.dtype)
    return (largest_magnitude(*bit_maxima(row.array, bits), bits) >= int(infinity)) is bool(row.mask.any())


def _same(answer: mx.array, right: Any) -> bool:
    """Return whether MLX's answer, booleans or one float, is NumPy's; NaN is NaN."""
    given = np.array(answer) if answer.dtype == mx.bool_ else np.array(answer.item())
    return np.array_equal(given, right, equal_nan=given.dtype != np.bool_)


def _sum(row: PlantedRow) -> bool:
    """Only what is not finite is compared: how a sum rounds is not asked here."""
    given, right = mx.sum(row.array).item(), row.values.sum(dtype=np.float64)
    return bool(np.isfinite(given)) if np.isfinite(right) else np.array_equal(given, right, equal_nan=True)


def _any(row: PlantedRow) -> bool:
    return _same(mx.any(mx.array(row.mask)), row.mask.any())


def _all(row: PlantedRow) -> bool:
    return _same(mx.all(mx.array(~row.mask)), not row.mask.any())


PRIMITIVES = (
    Primitive("the host's copy", "every metric and every check", _on_the_host),
    Primitive("the largest bits", "the trail of a diagnosis", _by_the_bits),
    Primitive("mx.isnan", "the engine published", lambda row: _same(mx.isnan(row.array), np.isnan(row.values))),
    Primitive("mx.isinf", "the engine published", lambda row: _same(mx.isinf(row.array), np.isinf(row.values))),
    Primitive("mx.isfinite", "", lambda row: _same(mx.isfinite(row.array), ~row.mask)),
    Primitive("mx.max", "", lambda row: _same(mx.max(row.array), row.values.max())),
    Primitive("mx.min", "", lambda row: _same(mx.min(row.array), row.values.min())),
    Primitive("mx.sum", "the engines legacy and published", _sum),
    Primitive("mx.any", "", _any),
    Primitive("mx.all", "a diagnosis, to see fully masked rows", _all),
)
