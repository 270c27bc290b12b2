"""A transformer of three blocks, and a patcher that computes it again by hand: the judge of the sweep."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map

from harness.models.loaded import LoadedModel
from harness.vocabulary import ModelCard

WIDTH, VOCAB, LAYERS = 8, 20, 3
CLEAN, CORRUPTED = (3, 5, 7, 11), (4, 5, 7, 12)
COMPONENTS = ("resid_pre", "attn_out", "mlp_out", "resid_post", "self_attn", "mlp", "output", "mlp.up")


class Attention(nn.Module):
    """Causal, one head."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def __call__(self, x: mx.array) -> mx.array:
        scores = self.q(x) @ self.k(x).swapaxes(1, 2)
        future = mx.triu(mx.full(scores.shape[1:], -1e9), k=1)
        return mx.softmax(scores + future, axis=-1) @ self.v(x)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down(mx.tanh(self.up(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(), Mlp()

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.self_attn(x)
        return x + self.mlp(x)


class Transformer(nn.Module):
    """Token ids `[1, tokens]` in, logits `[1, tokens, 20]` out; counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = mx.zeros((VOCAB, WIDTH))
        self.layers = [Block() for _ in range(LAYERS)]
        self.head = nn.Linear(WIDTH, VOCAB)
        random = np.random.RandomState(1)
        self.update(
            tree_map(lambda w: mx.array(random.uniform(-0.5, 0.5, w.shape).astype(np.float32)), self.parameters())
        )
        self._forwards = 0

    @property
    def forwards(self) -> int:
        return self._forwards

    def __call__(self, inputs: mx.array) -> mx.array:
        self._forwards += 1
        x = self.embedding[inputs]
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def loaded(module: nn.Module) -> LoadedModel:
    return LoadedModel(ModelCard("plain", "test", "plain", LAYERS, VOCAB, "float32"), module)


class ByHand:
    """Runs a transformer step by step; at one place `given` tokens take their value from a donor's run."""

    def __init__(self, model: Transformer):
        self.model = model

    def patched(
        self, ids: Sequence[int], donor: Sequence[int], component: str, layer: int, positions: Sequence[int]
    ) -> np.ndarray:
        """Return the last token's logits of a run over `ids` with the donor's activation at `positions`."""
        values: dict[tuple[str, int], mx.array] = {}

        def keep(name: str, at: int, value: mx.array) -> mx.array:
            values[name, at] = value
            return value

        def put(name: str, at: int, value: mx.array) -> mx.array:
            if (name, at) != (component, layer):
                return value
            rows = [(values[name, at] if i in positions else value)[:, i : i + 1] for i in range(len(ids))]
            return mx.concatenate(rows, axis=1)

        self._run(donor, keep)
        return self._run(ids, put)

    def _run(self, ids, see) -> np.ndarray:
        x = self.model.embedding[mx.array([list(ids)])]
        for i, block in enumerate(self.model.layers):
            x = see("resid_pre", i, x)
            x = x + self._named(("self_attn", "attn_out"), i, block.self_attn(x), see)
            up = see("mlp.up", i, block.mlp.up(x))
            x = x + self._named(("mlp", "mlp_out"), i, block.mlp.down(mx.tanh(up)), see)
            x = self._named(("resid_post", "output"), i, x, see)
        return np.array(self.model.head(x)[0, -1])

    def _named(self, names, layer, value, see) -> mx.array:
        for name in names:
            value = see(name, layer, value)
        return value
