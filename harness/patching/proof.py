"""Proof: some cells of a walk, held against a forward pass that shares nothing with it.

The chosen cells, the target run and the source run are the rows of one batch, in the opposite order of a walk's and of
another size, and the activations of the source's row are put into the others from the outside. A walk lets its batch
grow, leaves rows out of modules and tokens out of the last one and of the head; none of this is used here. What is
shared is the model's code, and that rows of a batch keep to themselves: that is asked as well, by rows that are NaN as
long as nothing else is asked of them, which makes every row NaN that sees them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import mlx.core as mx

from harness import intercept
from harness.metrics.tolerances import Work, equal, relative_difference
from harness.models.loaded import LoadedModel
from harness.patching.layout import OnePassImpossible
from harness.patching.patch import Patch
from harness.vocabulary.errors import described
from harness.vocabulary.raised import refuse_device_failure


def missing(model: LoadedModel, patches: Sequence[Patch], shared: int) -> list[Patch]:
    """Return the patches of the components that this process has not proven on this model."""
    return [patch for patch in patches if _name(patch, shared) not in model.proven]


def unproven(model: LoadedModel, patches: Sequence[Patch], shared: int) -> list[Patch]:
    """Return where to prove the components not yet proven on this model: each one's last cell, and a random one of the
    upper half, whose row shows up to its block whether rows see each other."""
    by_component: dict[str, list[Patch]] = {}
    for patch in sorted(missing(model, patches, shared), key=lambda patch: patch.point.layer):
        by_component.setdefault(patch.point.component, []).append(patch)
    chosen: list[Patch] = []
    for component, those in by_component.items():
        # Seeded: the same sweep is proven at the same cells, so that a failure can be seen again.
        other = random.Random(f"{component} {len(those)}").choice(those[len(those) // 2 : -1] or those[:-1] or those)
        chosen += dict.fromkeys((other, those[-1]))
    return chosen


def prove(
    model: LoadedModel,
    source: Sequence[int],
    target: Sequence[int],
    ends: mx.array,
    rows: Mapping[Patch, mx.array],
    shared: int,
) -> None:
    """Hold both unpatched rows `[2, vocab]` and some patched ones against forward passes.

    Raises OnePassImpossible where they differ; otherwise the components are proven on this model.
    """
    if not rows:
        return
    try:
        one, other, patched = intercept.run_together(model, source, target, list(rows))
    except Exception as error:
        refuse_device_failure(error)
        # Stepwise goes on, and decides whose fault it is.
        raise OnePassImpossible(f"it cannot be proven: {described(error)}") from error
    wanted = {"the source run": one, "the target run": other} | dict(zip(map(str, rows), patched, strict=True))
    most = min(_tellable(one, other), _tellable(*ends))
    for (where, row), walked in zip(wanted.items(), (*ends, *rows.values()), strict=True):
        if not equal(row, walked, Work.OTHER_BATCH, most, card=model.card):
            apart = relative_difference(row, walked)
            far = f"{apart:.1e} of the largest logit" if math.isfinite(apart) else "NaN: rows of a batch see each other"
            raise OnePassImpossible(f"{where}: one-pass and stepwise logits differ by {far}")
    model.proven.update(_name(patch, shared) for patch in rows)
    if shared:
        model.proven.add(SHARING)


SHARING = "a shared prefix"


def prove_sharing(model: LoadedModel, target: Sequence[int], ends: mx.array) -> None:
    """Hold the target run of a walk's unpatched rows `[2, vocab]` over a shared prefix against the bare model, once a
    model, proof or no proof.

    Attention that is not causal would show here: the prefix has not seen what follows it.
    """
    if SHARING in model.proven:
        return
    source, row = ends
    bare, most = intercept.forward(model, target), _tellable(source, row)
    if not equal(bare, row, Work.OTHER_BATCH, most, card=model.card):
        raise OnePassImpossible("a prefix run by itself gives other logits than one run with what follows")
    model.proven.add(SHARING)


def _tellable(source: mx.array, target: mx.array) -> float:
    """Return what two rows may differ by, as a share of the largest logit, where these are to be told apart.

    Where the unpatched runs of a sweep are hardly apart, rows that are wrong differ by less than rounding may.
    """
    return relative_difference(source, target) / 4


def _name(patch: Patch, shared: int) -> str:
    """A walk over a shared prefix is another claim than one over the whole prompt."""
    return f"{patch.point.component} after a shared prefix" if shared else patch.point.component
