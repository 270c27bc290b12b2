"""The cache with which a prompt can be read in pieces."""

from __future__ import annotations

from typing import Any


def prompt_cache(module: Any) -> Any:
    """Return a fresh cache for a module, as mlx-lm makes one."""
    from mlx_lm.models.cache import make_prompt_cache

    return make_prompt_cache(module)
