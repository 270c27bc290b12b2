"""The names that results and snapshots have for what computed them, and how near they are to each other."""

from __future__ import annotations

BACKENDS = CPU, CPU_ARM64, METAL, CUDA = "cpu", "cpu-arm64", "metal", "cuda"
"""Nearest first: the processors on which most snapshots are made, then the GPUs."""


def is_meant(wanted: str, here: str) -> bool:
    """Return whether a backend is the one that is named: `cpu` means any processor, `cpu-arm64` only such a one."""
    return here == wanted or here.startswith(f"{wanted}-")
