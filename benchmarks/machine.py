"""What the machine can do, measured in the same run: product peak, read bandwidth, memory, and the products of a walk.

The roofline of a sweep is the time its matrix products would take if each ran at the peak, or its weights were read at
the full bandwidth, whichever is longer. Attention scores, norms and copies are not in it.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from harness.environment.doctor import gflops
from harness.models import LoadedModel
from harness.models.architectures import blocks_of
from harness.support import blas

THREAD_VARIABLES = ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "LD_PRELOAD", blas.VARIABLE)
BASE_ROWS = 2
"""The clean and the corrupted run, which every walk carries."""


@dataclass(frozen=True)
class Machine:
    """Peaks of one core on this machine, now."""

    blas: str
    gflops: float
    gigabytes_per_second: float
    settings: dict[str, str]
    load: tuple[float, ...]


def examine(seconds: float) -> Machine:
    """Measure the machine, `seconds` for each peak."""
    settings = {name: Path(value).name for name in THREAD_VARIABLES if (value := os.environ.get(name))}
    # An optimised BLAS peaks on large products, the reference one on those that stay in the cache.
    peak = max(gflops(rows, width, seconds / 3) for rows, width in ((512, 1024), (128, 512), (64, 128)))
    return Machine(blas.in_use(), peak, bandwidth(seconds), settings, os.getloadavg())


def bandwidth(seconds: float) -> float:
    """Return GB/s of reading 256 MiB, far more than any cache, with one thread."""
    block = np.ones(2**26, np.float32)
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        block.max()
        best = min(best, time.perf_counter() - start)
    return block.nbytes / best / 1e9


def products(loaded: LoadedModel, tokens: int) -> Iterator[tuple[Any, int]]:
    """Yield every linear layer of a walk over every layer's MLP with the rows `[rows, width]` it multiplies.

    Block k computes two runs and a cell for each layer before its own, at every token: what is replaced in it is not
    computed. The last MLP computes the last token of each, after two rows of the last block by way of trial; the head
    sees one token of each and of the last layer's own cell.
    """
    blocks = blocks_of(loaded.module)
    inside: set[int] = set()
    for layer, block in enumerate(blocks):
        last, rows = layer == len(blocks) - 1 and tokens > 1, BASE_ROWS + layer
        mlp = {id(module) for _, module in block.mlp.named_modules()}
        for _, module in block.named_modules():
            inside.add(id(module))
            if isinstance(module, nn.Linear):
                each = 1 if last and id(module) in mlp else tokens
                yield module, rows * each + (BASE_ROWS * tokens if last else 0)
    head = getattr(loaded.module, "lm_head", None) or loaded.module.model.embed_tokens
    yield (head if isinstance(head, nn.Linear) else head.as_linear), BASE_ROWS + len(blocks)


def roofline(loaded: LoadedModel, tokens: int, machine: Machine) -> float | None:
    """Return the seconds below which no walk can go, or None where products are not plain linear layers (experts)."""
    if loaded.card.architecture.endswith("moe"):
        return None
    total = 0.0
    for layer, rows in products(loaded, tokens):
        weight = _weight(layer)
        flops = 2 * rows * weight.size
        total += max(flops / machine.gflops, weight.nbytes / machine.gigabytes_per_second) / 1e9
    return total


def product_seconds(loaded: LoadedModel, tokens: int) -> float | None:
    """Return the seconds that the walk's own products take by themselves: what is left is not multiplication."""
    if loaded.card.architecture.endswith("moe"):
        return None
    total = 0.0
    for layer, rows in products(loaded, tokens):
        x = mx.full((rows, _weight(layer).shape[-1]), 0.5, dtype=mx.float32)
        mx.eval(x)
        start = time.perf_counter()
        mx.eval(layer(x))
        total += time.perf_counter() - start
    return total


def _weight(layer: Any) -> mx.array:
    owner = layer if isinstance(layer, nn.Module) else layer.__self__
    weight: mx.array = owner.weight
    return weight


@dataclass(frozen=True)
class Timing:
    """One run: seconds on the clock and on all cores, and the most memory it held above what was there before.

    In bytes: `mlx` of MLX's allocator, `resident` of the process, which is None where the system does not tell.
    """

    wall: float
    cpu: float
    mlx: int
    resident: int | None


def timed(run: Callable[[], Any]) -> tuple[Timing, Any]:
    """Run once and return what it took and what it returned."""
    gc.collect()
    mx.reset_peak_memory()
    held, resident = mx.get_active_memory(), _resident() if _forget_peak() else None
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    grown = None if resident is None else _resident("VmHWM") - resident
    # The peak stays 0 where a run, such as torch's, never asks MLX for memory.
    return Timing(wall, cpu, max(0, mx.get_peak_memory() - held), grown), result


def _resident(field: str = "VmRSS") -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def _forget_peak() -> bool:
    """Let Linux count the peak from here on; elsewhere there is only a peak of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
