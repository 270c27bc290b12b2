"""The environment rung: can this build be believed?

A reduction that drops NaN makes a model look sound, and a metric as well. Each is shown one NaN and one infinity at the
ends and in the middle of a row, in every dtype, and NumPy says what would be right.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from harness.diagnosis.outcome.nouns import Place, PlacedFinding
from harness.diagnosis.trail.statistics import StatisticsProbe
from harness.environment.facts import environment
from harness.metrics import summarize
from harness.metrics.layouts import LAYOUTS

WIDTHS = (1, 7, 1024, 4099)
"""Below, at and above what a vectorised kernel takes in one step, and the remainder of one."""

KNOWN_BAD = (("mlx", (0, 32, 2), "linux", "float16 sums stall at small values and give a plausible wrong number"),)
"""Package, last version that has the fault, platform, what it does."""

PLACE = Place("environment")


def examine() -> tuple[list[PlacedFinding], str]:
    """Return what is wrong with the environment, and it in one line."""
    env = environment()
    facts = f"mlx {env.packages.get('mlx', '?')}, {env.backend}, {env.device}, Python {env.python}"
    return [*unsafe_detectors(), *_known_bad(env.packages)], facts


def unsafe_detectors() -> Iterator[PlacedFinding]:
    """Yield one finding that lists every primitive that misses what it was shown."""
    missed: dict[str, list[str]] = {}
    for name, fault, dtype, width, place in _planted():
        row = np.full(width, 1.5, np.float32)
        row[place] = fault
        array = mx.array(row).astype(getattr(mx, dtype))
        for primitive, sees in _primitives(fault).items():
            if not sees(array):
                missed.setdefault(primitive, []).append(f"{name} in {dtype} at {place} of {width}")
    if missed:
        first = next(iter(missed.values()))[0]
        yield PlacedFinding.of(
            "DIA001",
            f"{', '.join(sorted(missed))}: {sum(map(len, missed.values()))} planted values missed, such as {first}",
            PLACE,
            primitives=sorted(missed),
            examples=[found[0] for found in missed.values()],
        )


def _planted() -> Iterator[tuple[str, float, str, int, int]]:
    for dtype in LAYOUTS:
        for width in WIDTHS:
            for place in sorted({0, width // 2, width - 1}):
                for name, fault in (("NaN", float("nan")), ("inf", float("inf"))):
                    yield name, fault, dtype, width, place


def _primitives(fault: float) -> Mapping[str, Callable[[mx.array], bool]]:
    ours: dict[str, Callable[[mx.array], bool]] = {"the trail's own detector": _own}
    if fault != fault:
        return ours | {
            "mx.max": lambda x: _nan(mx.max(x)),
            "mx.min": lambda x: _nan(mx.min(x)),
            "mx.sum": lambda x: _nan(mx.sum(x)),
            "mx.isnan": lambda x: bool(mx.any(mx.isnan(x)).item()),
        }
    return ours | {
        "mx.max": lambda x: mx.max(x).item() == fault,
        "mx.isinf": lambda x: bool(mx.any(mx.isinf(x)).item()),
    }


def _own(array: mx.array) -> bool:
    layout = LAYOUTS[str(array.dtype).removeprefix("mlx.core.")]
    return StatisticsProbe(array, layout).magnitude() >= layout.infinity and not summarize(array).finite


def _nan(value: mx.array) -> bool:
    return bool(np.isnan(np.array(value.astype(mx.float32))))


def _known_bad(packages: Mapping[str, str]) -> Iterator[PlacedFinding]:
    for package, last, platform, what in KNOWN_BAD:
        version = packages.get(package, "")
        if version and _numbers(version) <= last and sys.platform == platform:
            yield PlacedFinding.of("DIA002", f"{package} {version}: {what}", PLACE, package=package, version=version)


def _numbers(version: str) -> tuple[Any, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
