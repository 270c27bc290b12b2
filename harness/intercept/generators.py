"""The global random generators that a forward pass may draw from: MLX's, NumPy's and Python's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np


def states() -> tuple[Any, ...]:
    """Return the states of all three: where one moved, something drew."""
    key = tuple(int(word) for word in mx.random.state[0].tolist())  # type: ignore[index]
    numpy = np.random.get_state(legacy=False)
    return key, numpy["state"]["key"].tobytes(), numpy["state"]["pos"], random.getstate()


@contextmanager
def restored() -> Iterator[None]:
    """Give the generators the states back that they had before the block."""
    (high, low), numpy, python = states()[0], np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        mx.random.seed(high << 32 | low)
        np.random.set_state(numpy)
        random.setstate(python)


@contextmanager
def seeded() -> Iterator[None]:
    """Let the block draw the same each time it is entered."""
    with restored():
        mx.random.seed(0)
        np.random.seed(0)
        random.seed(0)
        yield
