"""What a patch puts in, where that is not the other run's activation: zeros, or a mean over prompts.

A value is made of the activation that the other run has at the place, so that it has its shape and dtype; everything
else about a sweep stays as it is. Recoveries keep their two ends: 100 is the clean output, 0 the corrupted one. To
ablate a component of a sound run, ask for `noising`: what is left of 100 % is what the run does without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np

from harness.intercept import HookPoint, Recording, record
from harness.models.loaded import LoadedModel
from harness.vocabulary import VALUES, Question
from harness.vocabulary.errors import TapError, UnknownName, UsageError
from harness.vocabulary.words import number_of

PutIn = Callable[[mx.array], mx.array]


def with_values(model: LoadedModel, question: Question, points: Sequence[HookPoint]) -> tuple[HookPoint, ...]:
    """Return the hook points of a sweep with what a patch puts in at each. A mean takes a forward pass a prompt.

    Raises what `check_value` raises, and TapError for the mean of a module that runs more than once in a pass.
    """
    check_value(question)
    value = question.sweep.value
    if value == "other":
        return tuple(points)
    if value == "zero":
        return tuple(replace(point, put_in=mx.zeros_like) for point in points)
    means = _means(points, [record(model, each.ids, points)[1] for each in question.mean_of])
    return tuple(replace(point, put_in=_broadcast(means[point])) for point in points)


def check_value(question: Question) -> None:
    """Raise UnknownName for a value that there is none of, and UsageError for a mean of no prompts."""
    value = question.sweep.value
    if value not in VALUES:
        raise UnknownName("value", value, VALUES)
    if value == "mean" and not question.mean_of:
        raise UsageError("the value 'mean' needs the prompts that it is the mean over; give `mean_of`")


def _means(points: Sequence[HookPoint], recordings: Sequence[Recording]) -> Mapping[HookPoint, mx.array]:
    """Return for each hook point the mean `[width]` over every token of every prompt, made in float64."""
    return {point: _mean([_once(point, each) for each in recordings]) for point in points}


def _once(point: HookPoint, recording: Recording) -> mx.array:
    if len(recording[point]) != 1:
        raise TapError(
            f"{point}: it runs {number_of(len(recording[point]), 'time')} in a forward pass, and has no one mean"
        )
    return recording[point][0]


def _mean(activations: Sequence[mx.array]) -> mx.array:
    tokens = np.concatenate([np.array(each[0].astype(mx.float32), np.float64) for each in activations])
    return mx.array(tokens.mean(axis=0).astype(np.float32))


def _broadcast(mean: mx.array) -> PutIn:
    return lambda activation: mx.broadcast_to(mean.astype(activation.dtype), activation.shape)
