"""Small models with one planted fault each; none of them has a closed form to be held against."""

from __future__ import annotations

import os

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from harness.models.loaded import LoadedModel
from harness.vocabulary import ModelCard

VOCAB = 6
TABLE = np.random.RandomState(0).uniform(-1, 1, (8, VOCAB)).astype(np.float32)


class Same(nn.Module):
    def __call__(self, x: mx.array) -> mx.array:
        return x


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = Same()

    def __call__(self, x: mx.array) -> mx.array:
        return x + self.mlp(x) / 4


class Sound(nn.Module):
    """Token ids `[1, tokens]` in, logits `[1, tokens, 6]` out; what the faulty ones differ from."""

    block = Block

    def __init__(self) -> None:
        super().__init__()
        self.embedding = mx.array(TABLE)
        self.layers = [self.block() for _ in range(3)]

    def __call__(self, inputs: mx.array) -> mx.array:
        x = self.embedding[inputs]
        for layer in self.layers:
            x = layer(x)
        return x


class Overflowing(Sound):
    """Finite alone in float16: the two halves of a row are multiplied, and only a patch pairs large with large."""

    class block(Block):  # noqa: N801  stands in for the attribute
        def __call__(self, x: mx.array) -> mx.array:
            return x + x * self.mlp(x)[..., ::-1] / 64

    def __init__(self) -> None:
        super().__init__()
        self.embedding = mx.array([[3000.0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 3000.0]], dtype=mx.float16)
        self.layers = self.layers[:1]


class Dropping(Sound):
    """In training mode, as every module of MLX is born."""

    class block(Block):  # noqa: N801
        def __init__(self) -> None:
            super().__init__()
            self.mlp = nn.Dropout(0.5)


class LouderEachTime(Sound):
    class block(Block):  # noqa: N801
        calls = 0

        def __call__(self, x: mx.array) -> mx.array:
            self.calls += 1
            return super().__call__(x) * self.calls


class KeyedByLength(Sound):
    class block(Block):  # noqa: N801
        def __init__(self) -> None:
            super().__init__()
            self.kept = {}

        def __call__(self, x: mx.array) -> mx.array:
            return self.kept.setdefault(x.shape[:2], super().__call__(x))


class Flaky(Sound):
    """A few units in the last place, from no generator and no state: what a race between kernels does."""

    class block(Block):  # noqa: N801
        def __call__(self, x: mx.array) -> mx.array:
            return super().__call__(x) * (1 + int.from_bytes(os.urandom(1)) * 2.0**-30)


class ClassConscious(Sound):
    class block(Block):  # noqa: N801  stands in for the attribute
        def __init__(self) -> None:
            super().__init__()
            self.mlp = _Conscious()


class _Conscious(Same):
    def __call__(self, x: mx.array) -> mx.array:
        return x if type(self) is _Conscious else 1.001 * x


class Suspicious(Sound):
    """Gives another answer when its mlp's output is not the very array it expects."""

    class block(Block):  # noqa: N801  stands in for the attribute
        def __call__(self, x: mx.array) -> mx.array:
            out = self.mlp(x)
            return x + (out if out is x else 1.001 * out) / 4


class Shortcut(Sound):
    """Carries the embedding around the residual stream."""

    def __call__(self, inputs: mx.array) -> mx.array:
        return super().__call__(inputs) + self.embedding[inputs]


class Bypassing(Sound):
    """Has an mlp that nothing calls."""

    class block(Block):  # noqa: N801  stands in for the attribute
        def __call__(self, x: mx.array) -> mx.array:
            return x + x / 4


class Counting(Sound):
    """Keeps count in a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = mx.zeros((1,))

    def __call__(self, inputs: mx.array) -> mx.array:
        self.calls = self.calls + 1
        return super().__call__(inputs)


class Shifting(Sound):
    """Adds to every logit, beside what the token says, a number of the token's own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = self.embedding + 2.0 * mx.arange(8)[:, None]


class Offset(Sound):
    """Carries 1,024 through a float16 residual stream, where the spacing of numbers is 1 from there on.

    Without rounding each mlp recovers the same 20 percent, so whatever order there is, rounding made it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedding = mx.array(8 * TABLE).astype(mx.float16) + 1024

    def __call__(self, inputs: mx.array) -> mx.array:
        x = self.embedding[inputs]
        for layer in self.layers:
            x = 1024 + layer(x - 1024)
        return x - 1024


class Twins(Sound):
    """Token 1 has the logits of token 0, each `digits` roundings of a float32 forward pass away, up and down in turn.

    A rounding is 10 spacings, of the logit itself or of the row's median where that is larger.
    """

    digits = 0.5

    def __init__(self) -> None:
        super().__init__()
        row = TABLE[0].astype(np.float64)
        step = 10 * 2.0**-23 * np.maximum(np.abs(row), np.median(np.abs(row))) * (-1.0) ** np.arange(VOCAB)
        table = TABLE.copy()
        table[1] = row + self.digits * step
        self.embedding = mx.array(table)


class Cousins(Twins):
    """Far enough apart to have recoveries, and too near for them to have a digit: an l2 of 1.2 times its resolution."""

    digits = 1.2 * 2.0**0.5


class Strangers(Twins):
    """Apart by 30 times as much as rounding makes."""

    digits = 30 * 2.0**0.5


class TwoMinded(Sound):
    """Layer 0 decides between tokens 0 and 1; layers 1 and 2 move all other logits, the later the farther."""

    def __init__(self) -> None:
        super().__init__()
        for layer, (gain, ids) in enumerate(((1.0, (0, 1)), (3.0, (2, 3)), (9.0, (4, 5)))):
            self.layers[layer].mlp = _Some(gain, ids)


class _Some(nn.Module):
    def __init__(self, gain: float, ids: tuple[int, ...]):
        super().__init__()
        self.gains = gain * mx.array([float(i in ids) for i in range(VOCAB)])

    def __call__(self, x: mx.array) -> mx.array:
        return x * self.gains


class Backwards(Sound):
    """Runs its blocks from the last to the first, which no walk from the first to the last can follow."""

    def __call__(self, inputs: mx.array) -> mx.array:
        x = self.embedding[inputs]
        for layer in reversed(self.layers):
            x = layer(x)
        return x


def loaded(module: Sound) -> LoadedModel:
    dtype = str(module.embedding.dtype).removeprefix("mlx.core.")
    return LoadedModel(ModelCard("planted", "test", "planted", len(module.layers), VOCAB, dtype), module)
