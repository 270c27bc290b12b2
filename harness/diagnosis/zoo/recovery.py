"""Questions without an answer: no baseline, a baseline that is not finite, positions that do not correspond."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from harness.diagnosis.zoo.fault import PlantedFault, on
from harness.diagnosis.zoo.models import CLEAN, both, build, names_in
from harness.diagnosis.zoo.surgery import at, change_output, put
from harness.models.sources import groundtruth
from harness.models.spec import DialRow

Arguments = Mapping[str, Any]

LAST, ID = len(CLEAN) - 1, 77


@contextmanager
def _same_prompt(architecture: str) -> Iterator[Arguments]:
    yield {"model": build(architecture, "float32"), "clean": CLEAN, "corrupted": CLEAN}


@contextmanager
def _same_arrays(architecture: str) -> Iterator[Arguments]:
    logits = np.linspace(-4, 4, 256, dtype=np.float32)
    yield {"logits": (logits, logits.copy())}


def _guarded(engine: str) -> Callable[[str], AbstractContextManager[Arguments]]:
    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        model = build(architecture, "float32")
        change_output(at(model.module, names_in(architecture)["head"]), put(float("nan"), (LAST, ID)))
        yield both(model, engine=engine, metric="l2", component="mlp_out")

    return plant


@contextmanager
def _guarded_dial(architecture: str) -> Iterator[Arguments]:
    """One NaN in the row of logits that the corrupted token selects."""
    row = DialRow(id="zoo", source="groundtruth", kind="dial", vocab=256, weights=(0.5,), logits="nan")
    yield {"model": groundtruth.load(row), "clean": (0,), "corrupted": (1,), "engine": "published",
           "metric": "l2", "component": "mlp"}  # fmt: skip


@contextmanager
def _two_lengths(architecture: str) -> Iterator[Arguments]:
    """6 and 8 tokens, equal in the first two."""
    yield {"model": build(architecture, "float32"), "clean": CLEAN, "corrupted": (*CLEAN[:2], 12, 1, *CLEAN[2:])}


_RECOVERY = {"step": "recovery", "run": "recovery"}
_HEAD = {"run": "clean", "module": "{head}", "layer": None, "token": LAST, "dimension": ID}

FAULTS = (
    PlantedFault(
        "F02", "clean and corrupted give the same logits", "transformers#16711", "S",
        "zero baseline: the recovery is undefined, not 0 %",
        (
            *on("arrays", _same_arrays, place=_RECOVERY, words=("zero", "undefined")),
            *on("llama qwen3 gpt2 gemma2", _same_prompt, place=_RECOVERY, words=("zero", "undefined")),
        ),
    ),
    PlantedFault(
        "F03", "non-finite baseline turned into a number by a guard",
        "mlxterp: `> 1e-10 else 0.0`; `max(0.0, nan)`", "X",
        "the baseline is not finite, and the engine reported 0.0 for it; the place is where the NaN appears",
        (
            *on("llama qwen3", _guarded("published"), "published", place=_HEAD, numbers=(0,), words=("nan",)),
            *on("llama qwen3", _guarded("legacy"), "legacy", place=_HEAD, numbers=(0,), words=("nan",)),
            *on("dial", _guarded_dial, numbers=(0,), words=("nan",),
                place={"run": "weights", "module": "table", "token": 1, "dimension": 255}),
        ),
    ),
    PlantedFault(
        "F21", "prompts of different token length", "mlxterp aligns them at the end, silently", "S",
        "positions do not correspond, and where they first differ",
        on("llama qwen3 gpt2", _two_lengths, place={"token": 2}, numbers=(6, 8, 2)),
    ),
)  # fmt: skip
