"""A sweep by as few walks over the layers as the memory allows.

A row depends on the others only through what is handed over, so the logits are those of `stepwise`, up to the rounding
of a kernel that treats batches differently. What cannot grow this way (a block called twice, an input whose batch axis
is not clear) raises OnePassImpossible, before or during the walk. What a walk cannot see itself, such as rows that a
model mixes, is for the proof (`proof.py`) to find.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mlx.core as mx

from harness.intercept import resolve_positions
from harness.intercept.hookpoints import mixers_of
from harness.models.architectures import blocks_of
from harness.models.loaded import LoadedModel
from harness.models.prefix import run_prefix
from harness.patching.layout import OnePassImpossible, Prefix, layout_of
from harness.patching.patch import Patch
from harness.patching.rows import FIRST, TARGET
from harness.patching.walker import Walker
from harness.vocabulary.errors import described
from harness.vocabulary.raised import refuse_device_failure


def one_pass(
    model: LoadedModel,
    source: Sequence[int],
    target: Sequence[int],
    patches: Sequence[Patch],
    limit: int,
    shared: int = 0,
) -> Iterator[tuple[mx.array, dict[Patch, mx.array]]]:
    """Walk a sweep and yield, for each walk over the layers, the unpatched rows `[2, vocab]` and the patched ones.

    A walk has at most `limit` patched rows. The first `shared` tokens, which both prompts have in common, are run once.
    Raises OnePassImpossible where the model does not lend itself to it.
    """
    try:
        blocks = blocks_of(model.module)
        prefix = _prefix(model, len(blocks), target[:shared])
        layout = layout_of(model, blocks, target, [patch.point for patch in patches], prefix)
        quiet = layout.after(len(blocks) - 1, mixers_of(model, blocks[-1]))
        walked = [
            patch
            for patch in patches
            if not _idle(patch, len(blocks), len(target), shared, late=layout.moment(patch.point) >= quiet)
        ]
        ordered = sorted(walked, key=lambda patch: patch.point.layer)
        chunks = [ordered[i : i + limit] for i in range(0, len(ordered), limit)] or [[]]
        for i, chunk in enumerate(chunks):
            walker = Walker(model, blocks, chunk, len(target), layout, prefix)
            logits = walker.run(source, target)
            rows = {patch: logits[row] for patch, row in walker.rows.items()}
            if i == 0:
                rows |= {patch: logits[TARGET] for patch in patches if patch not in set(walked)}
            ends = logits[:FIRST]
            mx.eval(ends)
            del logits, walker  # the rows own what is left: once they are read, the next walk has the memory
            yield ends, rows
            del rows
    except OnePassImpossible:
        raise
    except Exception as error:
        refuse_device_failure(error)
        # Whatever a model does with a batch it did not expect: stepwise decides whose fault it is.
        raise OnePassImpossible(described(error)) from error


_PER_TOKEN = frozenset({"mlp_post", "mlp_out", "mlp", "resid_post", "output"})
"""Components after which no block mixes tokens, where they come after its attention. Attention is not among them: some
blocks attend twice (longcat_flash), some shift tokens in their MLP (rwkv7)."""


def _idle(patch: Patch, layers: int, tokens: int, shared: int, *, late: bool) -> bool:
    """Return whether a patch cannot reach the last token.

    Before the prompts' first difference it puts in what is there; after the last MLP, tokens keep to themselves, if the
    last block was `late` by then: had called what mixes them.
    """
    places = resolve_positions(patch.positions, tokens)
    at_the_end = late and patch.point.layer == layers - 1 and patch.point.component in _PER_TOKEN
    return max(places) < shared or (at_the_end and tokens - 1 not in places)


def _prefix(model: LoadedModel, blocks: int, ids: Sequence[int]) -> Prefix:
    if not ids:
        return Prefix()
    caches = run_prefix(model, blocks, ids)
    if caches is None:
        raise OnePassImpossible("the model's cache holds more than keys and values")
    return Prefix(len(ids), caches)
