"""A model of a few lines, whose parts can be exchanged for ill-behaved ones."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from harness.models.loaded import LoadedModel
from harness.vocabulary import ModelCard

WIDTH, VOCAB, LAYERS = 4, 12, 3
IDS = (1, 2, 3)


def weights(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32))


class Gain(nn.Module):
    """x -> x W."""

    def __init__(self, seed: int):
        super().__init__()
        self.weight = weights(seed, WIDTH, WIDTH)

    def __call__(self, x: mx.array) -> mx.array:
        return x @ self.weight


class ToyBlock(nn.Module):
    def __init__(self, seed: int):
        super().__init__()
        self.mlp = Gain(seed)

    def __call__(self, x: mx.array, mask: Any = None) -> mx.array:
        return x + self.mlp(x)


class Toy(nn.Module):
    """Token ids `[1, tokens]` in, logits `[1, tokens, 12]` out; `forwards` counts how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = weights(0, VOCAB, WIDTH)
        self.layers = [ToyBlock(seed) for seed in range(1, LAYERS + 1)]
        self.head = weights(9, WIDTH, VOCAB)
        self._forwards = 0

    def __call__(self, inputs: mx.array) -> mx.array:
        self._forwards += 1
        x = self.embedding[inputs]
        for layer in self.layers:
            x = layer(x)
        return x @ self.head


def loaded(module: nn.Module, vocab: int = VOCAB) -> LoadedModel:
    card = ModelCard("toy", "test", "toy", len(module.layers), vocab, "float32")
    return LoadedModel(card, module)


def portrait(module: nn.Module) -> list[Any]:
    """Everything about a model that a tap must leave alone: names in order, bits, classes, identities."""
    parameters = [(name, np.array(value).tobytes()) for name, value in tree_flatten(module.parameters())]
    modules = [(name, type(child), id(child)) for name, child in module.named_modules()]
    return [parameters, modules, np.array(module(mx.array([IDS]))).tobytes()]
