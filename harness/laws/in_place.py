"""A law on a model of our own, written twice: once plainly, once overwriting its activations.

In MLX `x += y` gives the array that `x` names another value, under the hands of everybody who holds it. A patcher that
keeps what a module returned, and not a copy, finds there what the model made of it later, and patches that in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn

from harness.laws.answers import answers_apart, recoveries
from harness.laws.situation import Situation
from harness.metrics.tolerances import Work
from harness.models.loaded import LoadedModel
from harness.models.sources.weights import uniform
from harness.vocabulary import AnswerTokens, ModelCard, Question, Sweep, Tokens
from harness.vocabulary.errors import DoesNotApply, HarnessError, described_at, device_failed

_WIDTH, _VOCAB, _LAYERS, _GAIN = 8, 16, 2, 0.5
_DTYPE = "float32"
_COMPONENTS = ("resid_pre", "attn_out", "mlp_out", "resid_post", "self_attn", "attn", "mlp", "output")

Add = Callable[[mx.array, mx.array], mx.array]


def plainly(x: mx.array, branch: mx.array) -> mx.array:
    """Return x + branch / 2, in arrays of their own."""
    return x + branch * _GAIN


def in_place(x: mx.array, branch: mx.array) -> mx.array:
    """Return the same numbers, in the arrays that were given."""
    branch *= _GAIN
    x += branch
    return x


class _Linear(nn.Module):  # type: ignore[misc]  # mlx ships no complete types
    def __init__(self, name: str):
        super().__init__()
        self.weight = mx.array(uniform(name, (_WIDTH, _WIDTH), 0))

    def __call__(self, x: mx.array) -> mx.array:
        return x @ self.weight


class _Block(nn.Module):  # type: ignore[misc]  # mlx ships no complete types
    def __init__(self, layer: int, add: Add):
        super().__init__()
        self.self_attn, self.mlp = _Linear(f"attention {layer}"), _Linear(f"mlp {layer}")
        self.add = add

    def __call__(self, x: mx.array) -> mx.array:
        x = self.add(x, self.self_attn(x))
        return self.add(x, self.mlp(x))


class _Model(nn.Module):  # type: ignore[misc]  # mlx ships no complete types
    """Token ids `[batch, tokens]` in, logits `[batch, tokens, 16]` out; tokens keep to themselves."""

    def __init__(self, add: Add):
        super().__init__()
        self.embedding = mx.array(uniform("embedding", (_VOCAB, _WIDTH), 0))
        self.head = mx.array(uniform("head", (_WIDTH, _VOCAB), 0))
        self.layers = [_Block(layer, add) for layer in range(_LAYERS)]

    def __call__(self, inputs: mx.array) -> mx.array:
        x = self.embedding[inputs]
        for layer in self.layers:
            x = layer(x)
        return x @ self.head


def writing_in_place_changes_nothing(situation: Situation) -> str | None:
    """A model that overwrites its activations gives the recoveries of the same model that does not."""
    question = _question(situation.question)
    try:
        one = situation.ask(_loaded(plainly), question)
    except HarnessError:
        raise
    except Exception as error:
        if device_failed(error):
            raise
        # An engine may be made for other models than this one; then nothing can be compared.
        raise DoesNotApply(f"it cannot answer on a model of one file: {described_at(error)}") from error
    other = situation.ask(_loaded(in_place), question)
    what = "a small model written plainly, and with `x += y`"
    return answers_apart(what, recoveries(one), recoveries(other), Work.SAME, _DTYPE)


def _loaded(add: Add) -> LoadedModel:
    return LoadedModel(ModelCard("in-place", "law", "in-place", _LAYERS, _VOCAB, _DTYPE), _Model(add))


def _question(asked: Question) -> Question:
    """Return what was asked, for the small model: stepwise, because that is where activations are kept."""
    components = tuple(name for name in asked.sweep.components if name in _COMPONENTS) or ("mlp_out",)
    positions = asked.sweep.positions if isinstance(asked.sweep.positions, str) else (0,)
    sweep = Sweep(components, None, asked.sweep.direction, positions, "stepwise")
    return replace(
        asked, clean=Tokens((1,), ("1",)), corrupted=Tokens((2,), ("2",)), sweep=sweep, answers=AnswerTokens(1, 2)
    )
