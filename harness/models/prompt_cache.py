"""The cache with which a prompt can be read in pieces."""

from __future__ import annotations

from typing import Any

from harness.models.sources.installed import code_of


def prompt_cache(module: Any) -> Any:
    """Return a fresh cache for a module, as mlx-lm makes one."""
    return code_of("cache").make_prompt_cache(module)
