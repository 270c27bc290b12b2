"""Rows of a sweep, kept to be measured again: what an engine's formula makes of the same logits in another unit, in
another order, or of fewer of them, is arithmetic, and takes no forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx

from harness.engines.formula import Engine, answer
from harness.models.loaded import LoadedModel
from harness.patching import Walk
from harness.patching.sweep import Runs
from harness.vocabulary import Answer, Direction, Question, Site

_MOST = 32
"""Cells that are kept: 20 MB of float32 at a vocabulary of 152,000."""


@dataclass
class KeptRows:
    """Both unpatched rows `[vocab]` of a sweep, and those of cells at its first, a middle and its last layer."""

    engine: Engine
    ends: tuple[Any, ...] = ()
    """Logits of the clean and of the corrupted run."""
    sites: Sequence[Site] = ()
    """The cells that are kept, in the sweep's order."""
    cells: dict[Site, Any] = field(default_factory=dict)
    """Their logits; empty where the sweep found nothing to recover and walked none."""

    @property
    def keeping(self) -> Engine:
        """The engine, of whose next sweep the rows are kept."""
        return replace(self.engine, walk=self._walk)

    def answer(self, model: LoadedModel, question: Question, factor: float = 1.0) -> Answer:
        """Return what the engine makes of the kept logits times `factor`, of the question's layers in its order."""

        def walk(model: LoadedModel, question: Question) -> Walk:
            clean, corrupted = (row * factor for row in self.ends)
            sites = _in_order(self.sites, question.sweep.layers)
            patched = ((site, self.cells[site] * factor) for site in sites if site in self.cells)
            noising = question.sweep.direction is Direction.NOISING
            source, target = (corrupted, clean) if noising else (clean, corrupted)
            return Walk(clean, corrupted, tuple(sites), patched, Runs(source, target, (), "kept"))

        return answer(replace(self.engine, walk=walk), model, question)

    def _walk(self, model: LoadedModel, question: Question) -> Walk:
        steps = self.engine.walk(model, question)
        self.ends = (_own(steps.clean), _own(steps.corrupted))
        self.sites = _chosen(steps.sites)
        chosen = set(self.sites)

        def patched() -> Iterator[tuple[Site, Any]]:
            for site, row in steps.patched:
                if site in chosen:
                    self.cells[site] = _own(row)
                yield site, row

        return replace(steps, patched=patched())


def _chosen(sites: Sequence[Site]) -> Sequence[Site]:
    """Return the cells of three layers, or of a grid's some, spread over it."""
    layers = sorted({site.layer for site in sites})
    few = {layers[0], layers[len(layers) // 2], layers[-1]} if layers else set()
    wanted = [site for site in sites if site.layer in few]
    return wanted[:: -(-len(wanted) // _MOST) or 1]


def _in_order(sites: Sequence[Site], layers: Sequence[int] | None) -> list[Site]:
    if layers is None:
        return list(sites)
    return [site for layer in layers for site in sites if site.layer == layer]


def _own(row: Any) -> Any:
    """Return a copy: a slice would hold the logits of its whole walk."""
    own = row * 1.0
    if isinstance(own, mx.array):
        mx.eval(own)
    return own
