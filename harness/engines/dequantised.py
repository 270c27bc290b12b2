"""Sweeps of a quantised model on a float32 copy of its weights, where that pays: on a CPU with another BLAS than the
reference one, within half of the free memory, and only for the harness's own patching.

The copy is another model, so nothing of it is believed: its logits of both prompts are held against the quantised
model's before a sweep, and where they differ by more than other kernels make of the same weights it is not used. It is
never given to somebody else's code, nor asked where the question is about the quantised weights themselves: in
diagnoses and in conformance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import mlx.core as mx

from harness.engines.formula import Engine
from harness.intercept import forward
from harness.metrics.layouts import dtype_name
from harness.metrics.tolerances import Work, relative_difference, row_tolerance
from harness.models.dequantised import dequantised, float32_size, not_dequantisable
from harness.models.loaded import LoadedModel
from harness.patching.memory import free_bytes
from harness.support import blas, progress
from harness.vocabulary import Answer, Dequantised, Question, size_text
from harness.vocabulary.errors import described
from harness.vocabulary.raised import SweepFailed, SweepInterrupted, refuse_device_failure

SHARE_OF_FREE = 2
"""The copy takes at most one part in so many of the memory that is free before it is made."""


@dataclass
class Float32Copy:
    """The float32 copy of one quantised model: made when a sweep first can use it, and kept as long as this is."""

    model: LoadedModel
    copy: LoadedModel | None = None

    def chosen(
        self, engine: Engine, question: Question, foreign: bool = False
    ) -> tuple[LoadedModel, Dequantised | None]:
        """Return the model that a sweep runs on, the copy or the model itself, and what the answer says of it.

        Nothing is said of a model that is not quantised. `foreign` says that somebody else's code has a hand in the
        sweep.
        """
        size = float32_size(self.model.module)
        if not size:
            return self.model, None
        if refused := _unsuited(engine, foreign) or not_dequantisable(self.model) or self._too_large(size):
            return self.model, Dequantised(size, refused=refused)
        try:
            return self._compared(size, question)
        except Exception as error:  # noqa: BLE001  the sweep of the model itself says whose fault it is
            refuse_device_failure(error)
            return self.model, Dequantised(size, refused=f"the copy cannot be run: {described(error)}")

    def _too_large(self, size: int) -> str:
        """Return why there is no room for the copy, or nothing, also where it was made already."""
        allowed = free_bytes() // SHARE_OF_FREE
        if self.copy is not None or size <= allowed:
            return ""
        return f"the copy takes {size_text(size)}, and half of the free memory is {size_text(allowed)}"

    def _compared(self, size: int, question: Question) -> tuple[LoadedModel, Dequantised]:
        if self.copy is None:
            progress.say(f"dequantising {self.model.card.id}")
            self.copy = dequantised(self.model)
        apart = 0.0
        for ids in (question.clean.ids, question.corrupted.ids):
            row = forward(self.model, ids)
            if row.dtype != mx.float32:
                return self.model, Dequantised(size, refused=f"the model's logits are {dtype_name(row)}")
            apart = max(apart, relative_difference(row, forward(self.copy, ids)))
        most = row_tolerance(Work.OTHER_KERNELS, mx.float32, self.model.card)
        if apart <= most:
            return self.copy, Dequantised(size, apart)
        return self.model, _differing(size, apart, most)


def _unsuited(engine: Engine, foreign: bool) -> str:
    """Return why no copy of whatever model is swept here, or nothing."""
    if not engine.is_native:
        return f"the engine is {engine.name}, and only native is given a copy"
    if foreign:
        return "somebody else's code has a hand in it"
    if mx.default_device() != mx.cpu:
        return "MLX does not compute on the CPU"
    # Measured at 90 and 280 rows: as long as the quantised kernel. The copy would only cost time and memory.
    slow = f"{blas.in_use()} multiplies no faster in float32; for another BLAS: {blas.advice()}"
    return slow if blas.is_reference() else ""


def _differing(size: int, apart: float, most: float) -> Dequantised:
    if math.isinf(apart):
        return Dequantised(size, refused="unpatched logits of the model or of the copy are not finite")
    said = f"its unpatched logits differ by {apart:.1e} of the largest, and rounding explains {most:.1e}"
    return Dequantised(size, apart, said)


def saying(said: Dequantised | None, sweep: Callable[[], Answer]) -> Answer:
    """Return what a sweep answers, with what became of the copy; so do the cells of one that ends early."""
    try:
        return replace(sweep(), dequantised=said)
    except (SweepFailed, SweepInterrupted) as stop:
        stop.answer = replace(stop.answer, dequantised=said)
        raise
