"""The architectures that the installed mlx-lm brings."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def architectures() -> list[str]:
    """Return every architecture of the installed mlx-lm, without importing it."""
    spec = importlib.util.find_spec("mlx_lm")
    if spec is None or spec.origin is None:
        return []
    files = (Path(spec.origin).parent / "models").glob("*.py")
    return sorted(file.stem for file in files if "class ModelArgs" in file.read_text(encoding="utf-8"))
