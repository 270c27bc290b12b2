"""Self-test: is this machine fit to judge? Its versions, its releases known to be bad, detectors, metrics, products.

`detectors.py` shows planted values to everything that looks for NaN and infinity; a build on which a primitive misses
one is not fit, and the probe says which numbers need that primitive. `products.py` asks whether float32 is multiplied
as float32.

How fast the machine multiplies is measured too. A sweep is matrix products, and MLX's Linux wheel brings the reference
BLAS, 20 to 80 times slower than what the same processor can do.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness.environment import known_bad
from harness.environment.facts import environment
from harness.support import blas
from harness.vocabulary import MachineReport, SelfTest

SLOW_GFLOPS = 20.0
"""Float32 GFLOP/s below which one core is held back by its BLAS: the reference one reaches 0.5 to 3 on processors
where an optimised one reaches 40 to 160."""


def examine(folder: Path | None = None) -> MachineReport:
    """Examine this process and the machine it runs on, and, of a model's folder, whether mlx-lm reads its config.json.

    Raises UsageError where that is not JSON.
    """
    # Asked before anything here imports mlx: afterwards the answer would always be yes.
    early = "mlx.core" in sys.modules
    env = environment()
    speed = gflops()
    facts = {
        "harness": env.harness,
        "python": env.python,
        "platform": env.platform,
        "backend": env.backend,
        "device": env.device,
        "memory": memory(),
        "remembered proofs": proofs(),
        **env.packages,
        "MLX_ENABLE_TF32": os.environ.get("MLX_ENABLE_TF32", "unset"),
        "float32 GFLOP/s": f"{speed:.3g}",
    }
    advice = faster_blas(speed, env.backend)
    known = tuple(f"known bad release: {row}" for row, _ in known_bad.installed())
    probes = [_detector(), _metrics(), _products(), *([_config(folder)] if folder else [])]
    return MachineReport(facts, tuple(probes), (*known, *_notes(early), *([advice] if advice else [])))


def memory() -> str:
    """Return how much memory there is, and how much of it a sweep may take now."""
    from harness.patching.memory import free_bytes

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{total / 2**30:.1f} GiB, {free_bytes() / 2**30:.1f} GiB available"


def proofs() -> str:
    """Return how many proofs of walks are remembered, and where."""
    from harness.patching import remembered

    return f"{len(remembered.kept())} in {remembered.folder()}"


def gflops(rows: int = 128, width: int = 512, seconds: float = 0.2) -> float:
    """Return the float32 GFLOP/s of `[rows, width] x [width, width]` on MLX's default device.

    The best of the products that fit into `seconds`, after one that is not counted: another process can only make a
    product slower. 128 rows are what a layer sees in the middle of a sweep of 8 tokens over 28 layers.
    """
    import mlx.core as mx

    left = mx.full((rows, width), 0.5, dtype=mx.float32)
    right = mx.full((width, width), 0.25, dtype=mx.float32)
    mx.eval(left, right, left @ right.T)
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        mx.eval(left @ right.T)
        best = min(best, time.perf_counter() - start)
    return 2 * rows * width * width / best / 1e9


def faster_blas(speed: float, backend: str) -> str | None:
    """Return one line that says how to get an optimised BLAS, or None where it would not help.

    Only the CPU backend on Linux calls a BLAS that can be replaced from outside.
    """
    if speed >= SLOW_GFLOPS or not backend.startswith("cpu") or sys.platform != "linux":
        return None
    return f"{speed:.2g} GFLOP/s is a slow BLAS; to multiply 20 times faster or more: {blas.advice()}"


def _detector() -> SelfTest:
    from harness.environment import detectors

    verdict = detectors.examine()
    return SelfTest("finiteness detector", verdict.safe, str(verdict))


def _metrics() -> SelfTest:
    """Hold l2 and mse against the closed form of a constant difference, at the report's own vocabulary."""
    import numpy as np

    from harness.metrics import measure

    width, step = 151_936, 0.75
    clean = np.zeros(width)
    l2 = measure("l2", clean, clean + step).value or 0.0
    wanted = step * width**0.5
    error = abs(l2 - wanted) / wanted
    return SelfTest("float64 metrics", error < 1e-12, f"l2 of {width:,} x {step}: {l2:.10g}, closed form {wanted:.10g}")


def _products() -> SelfTest:
    from harness.environment import products

    kept = products.examine()
    return SelfTest("float32 products", kept.whole, str(kept))


def _config(folder: Path) -> SelfTest:
    """Look for keys that mlx-lm drops and that change what the model computes."""
    from harness.models.config_keys import ignored_keys

    found = ignored_keys(folder)
    detail = "; ".join(map(str, found)) or "no key that changes the arithmetic is ignored"
    return SelfTest("config.json", not found, detail)


def _notes(early: bool) -> Iterator[str]:
    import mlx.core as mx

    row = mx.full((100_352,), 1.0, dtype=mx.float16)
    total = float(mx.sum(row))
    behaviour = "overflows to inf" if total == float("inf") else f"stalls at {total:g}, a plausible wrong number"
    yield f"a float16 sum of 100,352 ones {behaviour}; legacy results on this build look accordingly"
    if unheeded := blas.unheeded():
        yield unheeded
    if early and os.environ.get("MLX_ENABLE_TF32") == "0":
        yield "mlx was imported before the harness, which sets MLX_ENABLE_TF32=0; on an M5, set it before Python starts"
