"""What can be wrong in a forward pass in which everything is finite: an empty row, a norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness.diagnosis.outcome.nouns import PROVEN, Place, PlacedFinding
from harness.diagnosis.trail.flow import Trail
from harness.diagnosis.trail.masks import UNTRACEABLE
from harness.intercept import Tap, tapped
from harness.metrics.host import host_values
from harness.metrics.layouts import LAYOUTS, dtype_name

Values = npt.NDArray[np.float64]

CANCELS = 1e-3
"""Relative error from which a norm has lost its digits, if it is also more than ROUNDINGS of its dtype."""
ROUNDINGS = 16
SHARE_LOST = 0.01
"""Share of a variance that a rounding of the squared mean must be, for cancellation to be the reason."""


def silent_masks(trail: Trail) -> Iterator[PlacedFinding]:
    """Yield the first mask with a row that blocks every key, although nothing became NaN."""
    empty = trail.empty_rows
    if empty is None:
        return
    rows = ", ".join(map(str, empty.rows[:8])) + (" ..." if len(empty.rows) > 8 else "")
    yield PlacedFinding.of(
        "DIA205",
        f"{empty.module}: of {empty.tokens} queries {rows} may see no key; the output there is finite, an average "
        "over values that the mask hides",
        Place.of_module("forward", trail.run, empty.module, empty.rows[0]),
        PROVEN,
        rows=list(empty.rows),
        boolean=empty.boolean,
    )


def silent_norms(root: Any, trail: Trail) -> list[PlacedFinding]:
    """Return the first norm that returns 0 for what it cannot square, else the first that has lost most of its digits.

    Every module with an epsilon is held against both norms, with and without the mean; one that is neither is left
    alone.
    """
    norms = {name: module for name, module in root.named_modules() if _epsilon(module) is not None}
    found: list[tuple[float, str, str, int, float]] = []
    swallowed: list[PlacedFinding] = []

    def held(name: str) -> Callable[..., Any]:
        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            x = next((a for a in (*args, *kwargs.values()) if isinstance(a, mx.array)), None)
            given = None if x is None else mx.array(x)
            out = call(*args, **kwargs)
            if given is not None and isinstance(out, mx.array) and out.shape == given.shape:
                with suppress(*UNTRACEABLE):
                    swallowed.extend(_swallowed(name, given, out, trail.run))
                    error = norm_error(norms[name], given, out)
                    if error is not None:
                        found.append((error[0], name, dtype_name(out), error[1], error[2]))
            return out

        return handler

    with tapped(root, _taps(norms, held)):
        mx.eval(root(mx.array([list(trail.ids)])))
    return swallowed[:1] or list(_worst(found, trail.run))


def _taps(norms: dict[str, Any], held: Callable[[str], Any]) -> list[Tap]:
    unique = {id(module): name for name, module in reversed(norms.items())}
    return [Tap(norms[name], held(name)) for name in unique.values()]


def _worst(found: list[tuple[float, str, str, int, float]], run: str) -> Iterator[PlacedFinding]:
    bad = [each for each in found if _cancels(each[0], each[4], LAYOUTS[each[2]].mantissa)]
    if not bad:
        return
    error, name, dtype, token, ratio = bad[0]
    bits = max(0.0, -math.log2(error)) if error < 1 else 0.0
    yield PlacedFinding.of(
        "DIA208",
        f"{name}: its output is off by {100 * error:.3g} % of float64 on the same input, {bits:.0f} bits of "
        f"{LAYOUTS[dtype].mantissa} are left; the mean is {ratio:.3g} times the deviation, so the variance cancels",
        Place.of_module("forward", run, name, token),
        PROVEN,
        relative_error=error,
        bits_left=bits,
        mean_over_deviation=ratio,
        dtype=dtype,
        modules=[each[1] for each in bad[:8]],
    )


def _swallowed(name: str, x: mx.array, out: mx.array, run: str) -> Iterator[PlacedFinding]:
    """Yield the first token whose squares leave the dtype, so that its root is infinite and what is divided by it 0."""
    if dtype_name(x) not in LAYOUTS or x.ndim < 2:
        return
    width, limit = x.shape[-1], LAYOUTS[dtype_name(x)].limit
    values, got = (host_values(each).reshape(-1, width) for each in (x, out))
    with np.errstate(all="ignore"):
        squares = (values**2).sum(axis=-1)
    for row in np.flatnonzero((squares >= limit) & np.isfinite(squares) & (got == 0).all(axis=-1))[:1]:
        said = f"the squares of {np.abs(values[row]).max():.4g} and others sum to {squares[row]:,.6g}"
        # Only float16 has a wider dtype, whose range holds the squares of what it can hold.
        remedy: dict[str, Any] = {} if dtype_name(x) == "float16" else {"remedy": _TOO_LARGE}
        yield PlacedFinding.of(
            "DIA214",
            f"{name}: overflow inside, and its output is 0: {said}, beyond {dtype_name(x)}'s {limit:,.6g}, and what is "
            "divided by an infinite root is 0",
            Place.of_module("forward", run, name, int(row)),
            PROVEN,
            value=float(squares[row]),
            limit=limit,
            **remedy,
        )


_TOO_LARGE = "no dtype holds the squares of what comes in: look at the module that makes it"


def _cancels(error: float, ratio: float, mantissa: int) -> bool:
    rounding = 2.0**-mantissa
    return error > max(CANCELS, ROUNDINGS * rounding) and ratio**2 * rounding > SHARE_LOST


def norm_error(norm: Any, x: mx.array, out: mx.array) -> tuple[float, int, float] | None:
    """Return (relative error against the norm in float64, token, |mean| / deviation), or None for another function."""
    if dtype_name(x) not in LAYOUTS or dtype_name(out) not in LAYOUTS or not x.size or x.ndim < 2:
        return None
    values, got = host_values(x), host_values(out)
    width = values.shape[-1]
    values, got = values.reshape(-1, width), got.reshape(-1, width)
    if not (np.isfinite(values).all() and np.isfinite(got).all()):
        return None
    best: tuple[float, Values] | None = None
    for wanted in _candidates(norm, values):
        size = np.abs(wanted).max(axis=-1)
        error = np.abs(got - wanted).max(axis=-1) / np.where(size > 0, size, 1.0)
        likeness = float((got * wanted).sum() / max(np.linalg.norm(got) * np.linalg.norm(wanted), 1e-300))
        if best is None or likeness > best[0]:
            best = (likeness, error)
    if best is None or best[0] < 0.9:
        return None
    row = int(best[1].argmax())
    deviation = values[row].std()
    return float(best[1][row]), row, float(abs(values[row].mean()) / deviation) if deviation > 0 else math.inf


def _candidates(norm: Any, x: Values) -> Iterator[Values]:
    eps = _epsilon(norm) or 0.0
    weight, bias = (_vector(norm, name, x.shape[-1]) for name in ("weight", "bias"))
    centred = x - x.mean(axis=-1, keepdims=True)
    plain = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
    layer = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    for normed in (plain, layer):
        for gain in (weight, 1 + weight) if weight is not None else (1.0,):
            yield normed * gain + (bias if bias is not None else 0.0)


def _vector(norm: Any, name: str, width: int) -> Values | None:
    value = getattr(norm, name, None)
    return host_values(value) if isinstance(value, mx.array) and value.shape == (width,) else None


def _epsilon(module: Any) -> float | None:
    for name in ("eps", "epsilon", "variance_epsilon"):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    return None
