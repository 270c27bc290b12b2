"""One forward pass per cell: slow, and obviously right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mlx.core as mx

from harness.intercept import HookPoint, Recording, replace
from harness.models.loaded import LoadedModel
from harness.vocabulary import Positions


def stepwise(
    model: LoadedModel, ids: Sequence[int], points: Sequence[HookPoint], source: Recording, positions: Positions
) -> Iterator[tuple[HookPoint, mx.array]]:
    """Yield, for each hook point, the last token's logits `[vocab]` of a run patched there and nowhere else."""
    for point in points:
        yield point, replace(model, ids, [point], source, positions)
