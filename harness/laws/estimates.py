"""What an estimate owes: not the exact recovery, but to tend to it as the two prompts come closer.

Token ids come no closer, so their embeddings do: at the positions where the prompts differ, the corrupted token is
moved towards the clean one. The error of a first-order estimate shrinks with the distance; that of a wrong gradient
stays. This holds for scores: a distance bends as sharply at any scale, since it is measured from the other run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.nn as nn

from harness.laws.subject import EngineUnderTest, Shared, named
from harness.metrics import SCORES
from harness.models.loaded import LoadedModel
from harness.vocabulary.errors import DoesNotApply

NEAR = (1 / 16, 1 / 64)
"""How much of the distance between two embeddings is left."""

FLOOR = 0.5
"""Points that float32 may leave of an error at the smaller distance: rounding grows as the effect shrinks."""


def tends_to_the_exact_answer(subject: EngineUnderTest) -> str | None:
    """As the prompts come closer, an estimate's recoveries come closer to the exact ones."""
    if not subject.engine.is_estimate:
        raise DoesNotApply("its numbers are no estimates")
    if subject.model.card.dtype != "float32":
        raise DoesNotApply("half precision rounds small differences away")
    score = next((name for name in SCORES if subject.engine.knows(name)), None)
    if score is None:
        raise DoesNotApply("it has no metric that is a score")
    (_, far), (at, near) = (_worst(subject.under(score), share) for share in NEAR)
    if near <= max(FLOOR, far / 2):
        return None
    much, little = NEAR
    return (
        f"{score} at {at}: {far:.2f} points off with embeddings at {much:g} of their distance, {near:.2f} at {little:g}"
    )


def _worst(subject: EngineUnderTest, share: float) -> tuple[str, float]:
    """Return where an estimate of prompts that are so close is farthest from the exact answer, and by how many points.

    Raises DoesNotApply where nothing can be compared.
    """
    near = replace(subject, build=lambda: _closer(subject, share), shared=Shared())
    right = {(layer, head): reading.value for (layer, _, head), reading in near.right().items()}
    apart = {
        named(place): abs(said - wanted)
        for place, said in near.plain.finite.items()
        if (wanted := right.get((place.layer, place.head))) is not None
    }
    if not apart:
        raise DoesNotApply("prompts that are close have no recoveries to compare")
    worst = max(apart, key=lambda name: apart[name])
    return worst, apart[worst]


def _closer(subject: EngineUnderTest, share: float) -> LoadedModel:
    """Return the model anew with the corrupted tokens' embeddings moved towards the clean ones'."""
    model = subject.build()
    embedding = _embedding(model.module, model.card.vocab)
    for clean, corrupted in zip(subject.clean, subject.corrupted, strict=True):
        if clean != corrupted:
            rows = embedding.weight
            rows[corrupted] = rows[clean] + share * (rows[corrupted] - rows[clean])
            embedding.weight = rows
    return model


def _embedding(root: Any, vocab: int) -> Any:
    for _, module in root.named_modules():
        if isinstance(module, nn.Embedding) and module.weight.shape[0] >= vocab:
            return module
    raise DoesNotApply("the model has no embedding of float weights whose tokens could come closer")
