"""The common beginning of prompts, run once and read by every row of a batch.

Under causal attention the tokens before the first difference are the same in every run of a sweep, whatever is patched.
mlx-lm's own key-value cache hands them over, as it does in generation; here it is read and never written.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

from harness.models.loaded import LoadedModel
from harness.models.sources.installed import code_of


def run_prefix(model: LoadedModel, blocks: int, ids: Sequence[int]) -> list[Any] | None:
    """Run `ids` and return a cache for every block, to be given to calls with what follows, in batches of any size.

    None where the model takes no cache, or keeps anything but the keys and values of every token in it (a window, a
    state, a block without attention).
    """
    import mlx.core as mx

    if "cache" not in inspect.signature(type(model.module).__call__).parameters:
        return None
    kinds = code_of("cache")
    caches = kinds.make_prompt_cache(model.module)
    if len(caches) != blocks or any(type(cache) is not kinds.KVCache for cache in caches):
        return None
    model.module(mx.array([list(ids)]), cache=caches)
    if any(cache.keys is None or cache.offset != len(ids) for cache in caches):
        return None
    shared = [_shared_cache()(*cache.keys_and_values()) for cache in caches]
    mx.eval([(cache.keys, cache.values) for cache in shared])
    return shared


@functools.cache
def _shared_cache() -> Any:
    import mlx.core as mx

    def after(prefix: mx.array, more: mx.array) -> mx.array:
        shape = (more.shape[0], *prefix.shape[1:])
        return mx.concatenate([mx.broadcast_to(prefix, shape), more], axis=2)

    class SharedPrefix(code_of("cache").KVCache):  # type: ignore[misc]  # mlx-lm ships no types
        """Keys and values `[1, heads, tokens, width]` of a prefix; what follows is attended to and not kept."""

        def __init__(self, keys: mx.array, values: mx.array):
            super().__init__()
            self.keys, self.values, self.offset = mx.contiguous(keys), mx.contiguous(values), keys.shape[2]

        def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
            return after(self.keys, keys), after(self.values, values)

    return SharedPrefix
