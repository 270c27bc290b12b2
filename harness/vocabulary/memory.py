"""Bytes that a sweep takes, as people write and read them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Memory:
    """Bytes that a sweep takes above the weights: what its walks may take, what their rows were predicted to, and the
    peak that MLX measured. A walk has `rows` rows at most, the two unpatched ones included."""

    budget: int
    predicted: int
    rows: int
    walks: int
    peak: int | None = None


def bytes_of(text: str) -> int:
    """Return the bytes that `2GB`, `512 MB` or `1.5GiB` stand for. Raises ValueError for anything else."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([kKMGT]?)(i?)B", text.strip())
    unit = (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " ") if found else 0
    size = int(float(found[1]) * unit) if found else 0
    if not size:
        raise ValueError(f"{text!r} is not an amount of memory such as '2GB' or '512MB'")
    return size


LARGE = 10**8
"""Bytes from which a sweep is announced before it starts."""


def prediction(memory: Memory) -> str | None:
    """Return what to say of a sweep before it starts, or None of a small one."""
    if memory.predicted < LARGE:
        return None
    walks = "one walk" if memory.walks == 1 else f"{memory.walks} walks"
    return (
        f"{walks} of up to {memory.rows} rows, about {size_text(memory.predicted)} above the weights "
        f"(allowed: {size_text(memory.budget)})"
    )


def size_text(size: int) -> str:
    """Return bytes as people read them: `1.3 GB`, `20 MB`."""
    return f"{size / 1e9:.2g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
