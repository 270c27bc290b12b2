"""Self-test: before a detector is believed, it is shown faults it must see and clean values it must not flag.

Reductions on a device have dropped NaN in some builds of MLX (mlx#2339, #3269), which is why finiteness is decided on
the host; here both are tried, and only the host's answer has to be right.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from harness.environment import environment


@dataclass(frozen=True)
class Probe:
    """One self-test and how it went."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """What `harness doctor` found out."""

    facts: dict[str, str]
    probes: tuple[Probe, ...]
    notes: tuple[str, ...]

    @property
    def fit(self) -> bool:
        return all(probe.passed for probe in self.probes)


def examine() -> Report:
    """Examine this process and the machine it runs on."""
    # Asked before anything here imports mlx: afterwards the answer would always be yes.
    early = "mlx.core" in sys.modules
    env = environment()
    facts = {
        "harness": env.harness,
        "python": env.python,
        "platform": env.platform,
        "backend": env.backend,
        "device": env.device,
        **env.packages,
        "MLX_ENABLE_TF32": os.environ.get("MLX_ENABLE_TF32", "unset"),
    }
    return Report(facts, (_detector(), _metrics()), tuple(_notes(early)))


def _detector() -> Probe:
    """Plant one NaN, inf and -inf at the ends and in the middle of rows of every dtype and width."""
    import mlx.core as mx

    from harness.metrics import host_row, summarize

    missed, flagged, tried = [], [], 0
    for dtype in (mx.float32, mx.float16, mx.bfloat16):
        for width in (1, 7, 1024, 151_936):
            if not summarize(host_row(mx.full((width,), 1.5, dtype=dtype))).finite:
                flagged.append(f"{dtype} width {width}")
            for fault in (float("nan"), float("inf"), float("-inf")):
                for place in {0, width // 2, width - 1}:
                    tried += 1
                    ids = mx.arange(width)
                    row = mx.where(ids == place, mx.array(fault, dtype=dtype), mx.array(1.5, dtype=dtype))
                    if summarize(host_row(row)).first != place:
                        missed.append(f"{fault} in {dtype} at {place} of {width}")
    detail = f"{tried} planted values found, none invented"
    if missed or flagged:
        detail = "; ".join(
            [*(f"missed {each}" for each in missed[:3]), *(f"flagged clean {each}" for each in flagged[:3])]
        )
    return Probe("finiteness detector", not missed and not flagged, detail)


def _metrics() -> Probe:
    """Hold l2 and mse against the closed form of a constant difference, at the report's own vocabulary."""
    import numpy as np

    from harness.metrics import measure

    width, step = 151_936, 0.75
    clean = np.zeros(width)
    l2 = measure("l2", clean, clean + step).value or 0.0
    wanted = step * width**0.5
    error = abs(l2 - wanted) / wanted
    return Probe("float64 metrics", error < 1e-12, f"l2 of {width:,} x {step}: {l2:.10g}, closed form {wanted:.10g}")


def _notes(early: bool) -> Iterator[str]:
    import mlx.core as mx

    row = mx.full((100_352,), 1.0, dtype=mx.float16)
    total = float(mx.sum(row))
    behaviour = "overflows to inf" if total == float("inf") else f"stalls at {total:g}, a plausible wrong number"
    yield f"a float16 sum of 100,352 ones {behaviour}; legacy results on this build look accordingly"
    if not bool(mx.isnan(mx.max(mx.where(mx.arange(4096) == 17, mx.array(float("nan")), mx.array(1.0))))):
        yield "mx.max drops NaN on this build; nothing here relies on it"
    if early and os.environ.get("MLX_ENABLE_TF32") == "0":
        yield "mlx was imported before the harness: if this is an M5, MLX_ENABLE_TF32=0 may have come too late"
