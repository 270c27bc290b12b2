"""Paths as a person types them."""

from __future__ import annotations

import os
from pathlib import Path


def near(path: str | Path) -> str:
    """Return a path as seen from the current folder where it lies below, as it is otherwise."""
    try:
        seen = os.path.relpath(path)
    except (OSError, ValueError):  # the current folder is gone; another drive
        return str(path)
    return str(path) if seen.startswith(os.pardir) else seen
