"""The dial: a token selects a row of logits, and block i replaces the share w_i of it.

    x <- (1 - w_i) x + w_i mlp(x)        mlp is the identity, so the hidden size is the vocabulary

Unpatched, every block gives x back. With the source run's value in block i's mlp the output is the mixture
(1 - w) base + w source, for any logits: denoising recovers 100 (1 - |1 - w|) percent in L2 and 100 (1 - (1 - w)^2)
in MSE, noising 100 (1 - w) and 100 (1 - w^2). So logits can be as nasty as wanted, and the answer stays known.

Eight rows, tokens a to h; a token id beyond them means its remainder modulo 8. Row r alone has its maximum at id r.
Rows nan and inf have their value in row 1 (token b) only, at the last id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from harness.models.loaded import LoadedModel
from harness.models.sources.groundtruth import lattice
from harness.models.sources.groundtruth.closed_form import POINTS, Row, patched_positions, recovery
from harness.models.sources.groundtruth.lattice import Lattice
from harness.models.sources.groundtruth.words import Words
from harness.models.spec import DialRow
from harness.vocabulary import Direction, ModelCard, Question, Reading
from harness.vocabulary.errors import UsageError

ROWS = 8
TOKENIZER = Words(tuple("abcdefgh"))


class Identity(nn.Module):  # type: ignore[misc]  # mlx ships no complete types
    """The block's mlp: x in, x out, `[batch, tokens, vocab]`."""

    def __call__(self, x: mx.array) -> mx.array:
        return x


class Block(nn.Module):  # type: ignore[misc]  # mlx ships no complete types
    """Replaces the share `weight` of the residual by the mlp's output."""

    def __init__(self, weight: float):
        super().__init__()
        self.weight = weight
        self.mlp = Identity()

    def __call__(self, x: mx.array) -> mx.array:
        return (1 - self.weight) * x + self.weight * self.mlp(x)


class Dial(nn.Module):  # type: ignore[misc]  # mlx ships no complete types
    """Token ids `[batch, tokens]` in, logits `[batch, tokens, vocab]` out."""

    def __init__(self, table: mx.array, weights: tuple[float, ...]):
        super().__init__()
        self.table = table
        self.layers = [Block(weight) for weight in weights]

    def __call__(self, inputs: mx.array) -> mx.array:
        x = self.table[inputs % ROWS]
        for layer in self.layers:
            x = layer(x)
        return x


@dataclass(frozen=True)
class DialAnswers:
    """What every engine must find on a dial; `table` is `[ROWS, vocab]` float64."""

    table: Row
    weights: tuple[float, ...]
    dtype: str
    linear: ClassVar[bool] = True

    def recovery(
        self, question: Question, component: str, layer: int, metric: str, head: int | None = None
    ) -> Reading | None:
        """Return the recovery (percent) at a cell, or None for a component the dial does not have."""
        share = None if question.sweep.value == "mean" else self._share(question, component, layer)
        if share is None:
            return None
        clean, corrupted = (self.table[prompt.ids[-1] % ROWS] for prompt in (question.clean, question.corrupted))
        denoising = question.sweep.direction is Direction.DENOISING
        base, source = (corrupted, clean) if denoising else (clean, corrupted)
        source = np.zeros_like(base) if question.sweep.value == "zero" else source
        return recovery(metric, clean, corrupted, _mix(base, source, share), question.answers)

    def tolerance(self, question: Question, metric: str) -> float:
        """Return the percentage points a correct engine may be away: the model itself does not round."""
        return POINTS[self.dtype]

    def _share(self, question: Question, component: str, layer: int) -> float | None:
        """Return how much of the last token's residual a patch replaces."""
        length = len(question.clean.ids)
        shares = {"mlp": self.weights, "mlp_out": self.weights} | dict.fromkeys(
            ("resid_pre", "resid_post", "output"), (1.0,) * len(self.weights)
        )
        where = patched_positions(question.sweep.positions, length)
        if length != len(question.corrupted.ids) or where is None or not 0 <= layer < len(self.weights):
            return None
        if component not in shares:
            return None
        return shares[component][layer] if length - 1 in where else 0.0


def load(row: DialRow) -> LoadedModel:
    """Build a dial; UsageError where its dtype would round the mixtures."""
    table = _table(row)
    module = Dial(mx.array(table.astype(np.float32)).astype(getattr(mx, row.dtype)), row.weights)
    mx.eval(module.parameters())
    card = ModelCard(row.id, row.source, row.kind, len(row.weights), row.vocab, row.dtype)
    return LoadedModel(card, module, TOKENIZER, DialAnswers(table, row.weights, row.dtype))


def _mix(base: Row, source: Row, share: float) -> Row:
    """Return the mixture; a share of 0 or 1 keeps one row, so that 0 x inf makes no NaN."""
    if share in (0.0, 1.0):
        return source if share else base
    return (1 - share) * base + share * source


def _table(row: DialRow) -> Row:
    """Return the logits `[ROWS, vocab]` in float64, each held exactly by the row's dtype."""
    factor = _factor(row.weights)
    points = _PROFILES[row.logits](row, factor)
    if not lattice.exact(points.top, points.unit, factor, row.dtype):
        raise UsageError(
            f"model {row.id!r}: {row.logits} logits mixed with weights {row.weights} are not exact in {row.dtype}; "
            "use weights with a smaller power of two as denominator, or float32"
        )
    return _mark(points.values(), row.logits)


def _factor(weights: tuple[float, ...]) -> int:
    """Return how much finer than its input a product gets: one block mixes the rows, the next mixes the mixture."""
    parts = lattice.denominator(weights)
    return max(1, parts * (parts - 1))


def _mark(table: Row, profile: str) -> Row:
    if profile == "suppressed":
        table[:, -2:] = -np.inf
    elif profile in ("nan", "inf"):
        table[1, -1] = float(profile)
    return table


def _plain(row: DialRow, factor: int) -> Lattice:
    """Logits like those of the report; where the dtype is too coarse, with less that all rows share."""
    unit = lattice.unit_of(row.scale)
    fits = (s for s in lattice.SPREADS if lattice.exact(lattice.top_of(row.scale, s), unit, factor, row.dtype))
    shared, own = lattice.subject_rows(row.seed, row.vocab, range(ROWS), row.scale, next(fits, 0.0))
    return Lattice(shared + own, unit)


def _mean10(row: DialRow, factor: int) -> Lattice:
    """A mean of 10 with differences of 0.1 x scale: where 1 - cos cancels."""
    scale = 0.1 * row.scale
    shared, own = lattice.subject_rows(row.seed, row.vocab, range(ROWS), scale, 0.0)
    unit = lattice.unit_of(scale)
    return Lattice(shared + own + round(10 / unit), unit)


def _spanning(largest: float) -> Callable[[DialRow, int], Lattice]:
    """Logits over the whole range up to +-largest, which two rows take with opposite signs at their own ids."""

    def profile(row: DialRow, factor: int) -> Lattice:
        steps = lattice.raw_steps(row.seed, (ROWS, row.vocab), 3)
        steps[:, :ROWS] = 8 * np.eye(ROWS, dtype=np.int64) - 4
        return Lattice(steps, largest / 4)

    return profile


def _parallel(row: DialRow, factor: int) -> Lattice:
    """Even rows are a + noise and odd rows 2 a + noise: cosine distances as small as the dtype allows."""
    reach = min(4096, (2 ** lattice.FORMATS[row.dtype].bits // factor - 2) // 2)
    shared = lattice.raw_steps(row.seed, (row.vocab,), max(reach, 1))
    noise = lattice.raw_steps(row.seed + 1, (ROWS, row.vocab), 1)
    noise[:, :ROWS] = 2 * np.eye(ROWS, dtype=np.int64)
    shared[:ROWS] = max(reach, 1)
    return Lattice(shared * np.array([[1], [2]] * (ROWS // 2)) + noise, 2.0**-8)


_PROFILES: Mapping[str, Callable[[DialRow, int], Lattice]] = {
    "plain": _plain,
    "nan": _plain,
    "inf": _plain,
    "suppressed": _plain,
    "mean10": _mean10,
    # 5 x 2^13, the value nearest to 40,000 that is exact in bfloat16 too; a difference of two overflows float16.
    "extreme": _spanning(40960.0),
    # Powers of two nearest to 1e-14 and 1e17; float16 has neither.
    "tiny": _spanning(2.0**-46),
    "huge": _spanning(2.0**57),
    "parallel": _parallel,
}
