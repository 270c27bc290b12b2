"""Activation patching as plainly as it can be written: the judge of the closed forms, sharing no code with the harness.

A module's class is swapped for a subclass, as Python ignores `__call__` set on an instance. Metrics are float64 NumPy.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np

MODULES = {
    "mlp_out": "mlp",
    "attn_out": "self_attn",
    "attn": "self_attn",
    "resid_pre": "",
    "resid_post": "",
    "output": "",
    "z": "self_attn.o_proj",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "mlp_post": "mlp.down_proj",
}
INPUTS = ("resid_pre", "z", "mlp_post")


def run(module: Any, ids: Sequence[int]) -> np.ndarray:
    """Return the last token's logits `[vocab]` in float64."""
    return np.array(module(mx.array([list(ids)]))[0, -1].astype(mx.float32)).astype(np.float64)


def run_patched(
    module: Any,
    base: Sequence[int],
    source: Sequence[int],
    component: str,
    layer: int,
    positions: Sequence[int],
    columns: slice = slice(None),
) -> np.ndarray:
    """Return the last token's logits of the base run with one activation of the source run at some positions, or some
    columns of it."""
    target = module.layers[layer]
    for name in filter(None, MODULES.get(component, component).split(".")):
        target = target[int(name)] if isinstance(target, list) else getattr(target, name)
    taken: list[mx.array] = []

    def record(value: mx.array) -> mx.array:
        taken.append(value)
        return value

    def replace(value: mx.array) -> mx.array:
        here = np.zeros(value.shape[1:], bool)
        here[np.array(positions, int), columns] = True
        return mx.where(mx.array(here)[None], taken[0], value)

    with swapped(target, record, on_input=component in INPUTS):
        run(module, source)
    with swapped(target, replace, on_input=component in INPUTS):
        return run(module, base)


@contextmanager
def swapped(module: Any, change: Callable[[mx.array], mx.array], on_input: bool) -> Iterator[None]:
    """Let `change` see, and give back, what the module returns, or what it is given."""
    original = type(module)

    class Swapped(original):
        def __call__(self, x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
            if on_input:
                return original.__call__(self, change(x), *args, **kwargs)
            return change(original.__call__(self, x, *args, **kwargs))

    module.__class__ = Swapped
    try:
        yield
    finally:
        module.__class__ = original


def l2(clean: np.ndarray, row: np.ndarray) -> float:
    return float(np.linalg.norm(row - clean))


def mse(clean: np.ndarray, row: np.ndarray) -> float:
    return float(((row - clean) ** 2).mean())


def cosine(clean: np.ndarray, row: np.ndarray) -> float:
    size = np.abs(clean).max()
    a, b = (np.asarray(x / size, np.longdouble) for x in (clean, row))
    return float(1 - a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


DISTANCES = {"l2": l2, "mse": mse, "cosine": cosine}


def percent(metric: str, clean: np.ndarray, corrupted: np.ndarray, patched: np.ndarray) -> float:
    """Return the recovery in percent."""
    distance = DISTANCES[metric]
    return 100 * (1 - distance(clean, patched) / distance(clean, corrupted))
