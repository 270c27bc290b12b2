"""What a circuit must answer, by algebra in a handful of coordinates instead of a forward pass.

A prompt with n tokens puts GAIN / n on the coordinate of each subject in it: `moved`. The MLPs of `factors` each add
f x moved to `answer`; a gated one adds f x relu(answer so far) x moved. The logits are shared + answer @ own. A patch
changes one term of this, which gives the patched logits, and those give the recovery.

For one subject changed into another and factors that add up to F, this says: MLP i recovers 100 (1 - |1 - f_i / F|)
in L2 and 100 (1 - (1 - f_i / F)^2) in MSE, attention 100 at its one layer, the whole residual 100 at every layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.models.sources.groundtruth import lattice
from harness.models.sources.groundtruth.closed_form import POINTS, patched_positions, recovery
from harness.models.sources.groundtruth.lattice import Steps
from harness.models.spec import CircuitRow
from harness.vocabulary import Direction, Question, Reading

Vector = NDArray[np.float64]

GAIN = 4
"""Undoes attention's division by the number of tokens, for prompts of 4."""

GATE = 128
"""How steep a gated MLP's gate is: silu(128 x) is 128 relu(x) to 1e-12 for |x| >= 1/4."""

ATTENTION = ("self_attn", "attn", "attn_out", "self_attn.o_proj")
MLP = ("mlp", "mlp_out")
INSIDE_MLP = ("mlp.down_proj", "mlp_post")
"""Of a dense MLP; the sum of experts has no such module."""
UNREAD = ("q", "k")
"""Zero in every run."""
MOVING_HEAD = 0
"""The head that writes MOVED, in the one layer that does."""
RESIDUAL = {"resid_pre": 0, "resid_post": 1, "output": 1}
"""Component -> which side of the block it is: 0 before, 1 after."""

ROUNDED = 40
"""How much further away an engine may be where the prompt's length makes the half precisions round.

Three roundings of half a unit (the mean, the factor, the sum), which MSE amplifies up to 2.5-fold, make 0.37 points
in float16 and 2.9 in bfloat16.
"""


@dataclass(frozen=True)
class Head:
    """The logits in steps of `unit`: `shared [vocab]` for every prompt, `own [subjects, vocab]` for each subject."""

    shared: Steps
    own: Steps
    unit: float

    @property
    def top(self) -> int:
        """Return the largest step of a prompt whose answer is 1 for one subject."""
        return int(np.abs(self.shared).max()) + 1

    def logits(self, answer: Vector) -> Vector:
        """Return the logits `[vocab]` of an answer `[subjects]`."""
        return np.asarray((self.shared + answer @ self.own) * self.unit)


@dataclass(frozen=True)
class Path:
    """One prompt's way through the circuit: subjects per position `[tokens, subjects]`, writes per MLP `[subjects]`."""

    subjects: Vector
    moved: Vector
    writes: Mapping[int, Vector] = field(default_factory=dict)

    @property
    def answer(self) -> Vector:
        return np.asarray(np.sum(list(self.writes.values()), axis=0))


@dataclass(frozen=True)
class CircuitAnswers:
    """What every engine must find on a circuit; `subjects` are the token ids that carry one."""

    row: CircuitRow
    subjects: tuple[int, ...]
    head: Head
    linear: ClassVar[bool] = False
    """Norms scale by what comes in."""

    def recovery(
        self, question: Question, component: str, layer: int, metric: str, head: int | None = None
    ) -> Reading | None:
        """Return the recovery (percent) at a cell, or None for a component of which nothing is known."""
        clean, corrupted = (self._run(prompt.ids) for prompt in (question.clean, question.corrupted))
        denoising = question.sweep.direction is Direction.DENOISING
        base, source = (corrupted, clean) if denoising else (clean, corrupted)
        if question.sweep.value != "other":
            # A stream of zeros lacks what norms divide by, and nobody writes down what a mean over tokens is.
            if question.sweep.value != "zero" or component in RESIDUAL:
                return None
            source = self._from(np.zeros_like(base.subjects))
        positions = patched_positions(question.sweep.positions, len(question.clean.ids))
        if len(base.subjects) != len(source.subjects) or positions is None or not 0 <= layer < self.row.layers:
            return None
        patched = self._patched(base, source, component, layer, positions, head)
        if patched is None:
            return None
        logits = [self.head.logits(path.answer) for path in (clean, corrupted, patched)]
        return recovery(metric, logits[0], logits[1], logits[2], question.answers)

    def tolerance(self, question: Question, metric: str) -> float:
        """Return the percentage points a correct engine may be away.

        Attention divides by the number of tokens. Where that is no power of two, or so large that the dtype's bits
        run out, the half precisions round. A gate goes through exp, which each backend rounds in its own way.
        """
        gated = self.row.kind == "gated-circuit"
        exact_here = not gated and exact(self.row, self.head.top, len(question.clean.ids))
        exact_here = exact_here or self.row.dtype == "float32"
        return POINTS[self.row.dtype] * (1 if exact_here else ROUNDED)

    def _patched(
        self, base: Path, source: Path, component: str, layer: int, positions: frozenset[int], head: int | None
    ) -> Path | None:
        """Return the way of the base run with one activation of the source run."""
        reaches_end = len(base.subjects) - 1 in positions
        if component in RESIDUAL:
            if layer + RESIDUAL[component] <= self.row.attention_layer:
                return self._mixed(base, source, positions)
            return source if reaches_end else base
        if component in UNREAD:
            return base
        if component == "v":
            return self._mixed(base, source, positions) if layer == self.row.attention_layer else base
        if component in ATTENTION or component == "z":
            moves = layer == self.row.attention_layer and head in (None, MOVING_HEAD)
            return source if reaches_end and moves else base
        if component not in self._mlp_names():
            return None
        if not reaches_end or layer not in self.row.factors:
            return base
        return self._walk(base.subjects, base.moved, {layer: source.writes[layer]})

    def _mlp_names(self) -> tuple[str, ...]:
        return MLP if self.row.architecture == "qwen3_moe" else (*MLP, *INSIDE_MLP)

    def _mixed(self, base: Path, source: Path, positions: frozenset[int]) -> Path:
        """Return the run whose subjects at the patched positions are the source's: attention has yet to read them."""
        patched = [index in positions for index in range(len(base.subjects))]
        return self._from(np.where(np.array(patched)[:, None], source.subjects, base.subjects))

    def _run(self, ids: tuple[int, ...]) -> Path:
        return self._from(np.array([[float(token == subject) for subject in self.subjects] for token in ids]))

    def _from(self, subjects: Vector) -> Path:
        return self._walk(subjects, GAIN * subjects.mean(axis=0), {})

    def _walk(self, subjects: Vector, moved: Vector, replaced: Mapping[int, Vector]) -> Path:
        """Let the MLPs write in order, each its own term unless it is replaced."""
        writes: dict[int, Vector] = {}
        answer = np.zeros(len(self.subjects))
        for layer in sorted(self.row.factors):
            writes[layer] = replaced[layer] if layer in replaced else self._write(layer, moved, answer)
            answer = answer + writes[layer]
        return Path(subjects, moved, writes)

    def _write(self, layer: int, moved: Vector, answer: Vector) -> Vector:
        term = self.row.factors[layer] * moved
        if self.row.kind == "gated-circuit" and layer == max(self.row.factors):
            term = term * _silu(GATE * answer) / GATE
        return term


def exact(row: CircuitRow, top: int, tokens: int) -> bool:
    """Say whether the row's dtype holds every number on the way, for prompts of this many tokens.

    `top` is the largest step where the answer is 1; a gated MLP multiplies two numbers and needs the bits of both.
    """
    power_of_two = tokens & (tokens - 1) == 0
    finer = lattice.denominator(row.factors.values()) * math.ceil(tokens / GAIN)
    if row.kind == "gated-circuit":
        finer *= finer
    largest = top - 1 + math.ceil(_reach(row, GAIN / tokens))
    return power_of_two and lattice.exact(largest, lattice.unit_of(row.scale), finer, row.dtype)


def _reach(row: CircuitRow, moved: float) -> float:
    """Return how large an answer can get, when each MLP reads `moved`."""
    *linear, last = (abs(row.factors[layer]) * moved for layer in sorted(row.factors))
    return sum(linear) * (1 + last) if row.kind == "gated-circuit" else sum(linear) + last


def _silu(x: Vector) -> Vector:
    return np.asarray(x * (1 + np.tanh(x / 2)) / 2)
