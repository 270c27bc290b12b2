"""What an estimate owes: not the exact recovery, but to tend to it as the two prompts come closer.

Token ids come no closer, so their embeddings do: at the positions where the prompts differ, the corrupted token is
moved towards the clean one. The error of a first-order estimate shrinks with the distance; that of a wrong gradient
stays. This holds for scores: a distance bends as sharply at any scale, since it is measured from the other run.
"""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn

from harness.intercept import forward
from harness.laws.subject import EngineUnderTest, Shared, named
from harness.metrics import SCORES
from harness.metrics.tolerances import NEAR_ESTIMATE, same_bits
from harness.models.loaded import LoadedModel
from harness.vocabulary.errors import DoesNotApply

NEAR = (1 / 16, 1 / 256)
"""How much of the distance between two embeddings is left."""


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
    if near <= max(NEAR_ESTIMATE, far / 4):
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
    """Return the model anew with the corrupted tokens' embeddings moved towards the clean ones'.

    Raises DoesNotApply where no embedding is found that the logits depend on.
    """
    model = subject.build()
    before = forward(model, subject.corrupted)
    pairs = [pair for pair in zip(subject.clean, subject.corrupted, strict=True) if len(set(pair)) == 2]
    for _, module in model.module.named_modules():
        if type(module) is nn.Embedding and module.weight.shape[0] > max(*subject.clean, *subject.corrupted):
            kept, rows = module.weight, mx.array(module.weight)
            for clean, corrupted in pairs:
                rows[corrupted] = rows[clean] + share * (rows[corrupted] - rows[clean])
            module.weight = rows
            if not same_bits(before, forward(model, subject.corrupted)):
                return model
            module.weight = kept  # one of positions, say
    raise DoesNotApply("the model has no embedding of float weights whose tokens could come closer")
