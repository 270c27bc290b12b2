"""The clean models: sound ones, on which no check may raise an error, and a warning only where it is true.

What is true is decided here again, with as little of the harness as possible: the limits are written out, the norms are
NumPy's, a pair of layers is compared with a pair of layers, and the float32 model is the same one, cast in place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from bench import dial, run
from faulty_models import Sound, loaded

from harness import models
from harness.models.loaded import LoadedModel
from harness.models.spec import CircuitRow, SyntheticRow
from harness.vocabulary import METRICS, Curve, JobResult

CIRCUIT = {"id": "c", "source": "groundtruth", "architecture": "llama", "vocab": 256, "layers": 4, "attention_layer": 0}
HALVES = ("float16", "bfloat16")


def llama(dtype: str) -> LoadedModel:
    row = {"id": "l", "source": "synthetic", "architecture": "llama", "vocab": 2048, "logit_scale": 4.0}
    return models.load(SyntheticRow(**row, dtype=dtype))


CLEAN_MODELS: Mapping[str, Callable[[], LoadedModel]] = {
    **{f"dial {dtype}": lambda dtype=dtype: dial(dtype=dtype) for dtype in ("float32", *HALVES)},
    "dial with suppressed tokens": lambda: dial(logits="suppressed", weights=(0.25, 0.5)),
    "dial of extreme float16 logits": lambda: dial(dtype="float16", logits="extreme"),
    "circuit": lambda: models.load(CircuitRow(**CIRCUIT, kind="circuit", factors={1: 0.75, 2: 0.5, 3: -0.25})),
    "gated circuit": lambda: models.load(CircuitRow(**CIRCUIT, kind="gated-circuit", factors={1: 0.5, 3: 0.5})),
    **{f"llama {dtype}": lambda dtype=dtype: llama(dtype) for dtype in ("float32", *HALVES)},
    "what the faulty models differ from": lambda: loaded(Sound()),
}

TRUE_WARNINGS: Mapping[tuple[str, str], frozenset[str]] = {
    ("dial float16", "denoising"): frozenset({"HED001"}),
    ("dial float16", "noising"): frozenset({"HED001"}),
    ("dial of extreme float16 logits", "denoising"): frozenset({"HED001"}),
    ("dial of extreme float16 logits", "noising"): frozenset({"HED001"}),
    ("llama float16", "denoising"): frozenset({"HED001"}),
    ("llama float16", "noising"): frozenset({"HED001"}),
    ("llama bfloat16", "denoising"): frozenset({"PRC001"}),
    ("llama bfloat16", "noising"): frozenset({"PRC001"}),
    ("what the faulty models differ from", "denoising"): frozenset({"BAS004"}),
    ("what the faulty models differ from", "noising"): frozenset({"BAS004"}),
}
"""What a clean model is warned of in a direction; whatever is not here is warned of nothing."""


def ask(name: str, direction: str, model: LoadedModel | None = None) -> JobResult:
    """Run a clean model with every metric and with error bars."""
    subject = name.endswith("circuit")
    plain = "dial" in name or "faulty" in name
    return run(
        CLEAN_MODELS[name]() if model is None else model,
        prompts={"clean": (1, 5, 6, 7), "corrupted": (2, 5, 6, 7)} if subject else {"clean": (0,), "corrupted": (1,)},
        sweep={
            "components": ("mlp", "resid_post") if plain else ("attn_out", "mlp_out", "resid_post"),
            "direction": direction,
        },
        metrics=tuple(METRICS),
        precision=True,
    )


def true_warnings(name: str, direction: str, result: JobResult) -> set[str]:
    """Return the warnings that are true of a job."""
    rows, dtype = _logits(CLEAN_MODELS[name](), result)
    truth = {
        "HED001": _near_the_limit(*rows, dtype),
        "SHF001": _mostly_a_shift(*rows),
        "MET001": any(_told_apart(*pair) for pair in itertools.combinations(result.curves, 2)),
        "BAS004": _turned(*rows),
        "PRC001": dtype in HALVES and _open_order(result, ask(name, direction, _in_float32(name))),
    }
    return {code for code, holds in truth.items() if holds}


def _logits(model: LoadedModel, result: JobResult) -> tuple[list[np.ndarray], str]:
    outs = [model.module(mx.array([prompt.ids]))[0, -1] for prompt in (result.clean, result.corrupted)]
    rows = [np.array(out.astype(mx.float32)).astype(np.float64) for out in outs]
    kept = np.isfinite(rows[0]) & np.isfinite(rows[1])
    return [row[kept] for row in rows], str(outs[0].dtype).removeprefix("mlx.core.")


def _near_the_limit(clean: np.ndarray, corrupted: np.ndarray, dtype: str) -> bool:
    largest = max(np.linalg.norm(each) for each in (clean, corrupted, clean - corrupted))
    return bool(largest > {"float16": 255.97, "bfloat16": 1.844e19, "float32": 1.844e19}[dtype] / 2)


def _mostly_a_shift(clean: np.ndarray, corrupted: np.ndarray) -> bool:
    change = corrupted - clean
    return bool(2 * np.linalg.norm(change - change.mean()) ** 2 < np.linalg.norm(change) ** 2)


def _turned(clean: np.ndarray, corrupted: np.ndarray) -> bool:
    """Whether the corrupted run gives the token that the clean run prefers a higher probability than the clean run."""
    answer = clean.argmax()
    shares = [np.exp(row - row.max())[answer] / np.exp(row - row.max()).sum() for row in (clean, corrupted)]
    return bool(shares[1] > shares[0])


def _told_apart(a: Curve, b: Curve) -> bool:
    """Whether fewer than two of three pairs stand in the same order, among those that stand in any."""
    if a.component != b.component:
        return False
    steps = [
        (_step(one.recovery.value - two.recovery.value), _step(other_one.recovery.value - other_two.recovery.value))
        for (one, other_one), (two, other_two) in itertools.combinations(zip(a.cells, b.cells, strict=True), 2)
    ]
    ordered = math.prod(sum(step[side] != 0 for step in steps) for side in (0, 1))
    return ordered > 0 and sum(x * y for x, y in steps) / math.sqrt(ordered) < 1 / 3


def _step(difference: float) -> int:
    """The case's tolerance of 0.05 points is a tie."""
    return 0 if abs(difference) <= 0.05 else 1 if difference > 0 else -1


def _in_float32(name: str) -> LoadedModel:
    model = CLEAN_MODELS[name]()
    model.module.set_dtype(mx.float32)
    model.known = None
    return model


def _open_order(narrow: JobResult, wide: JobResult) -> bool:
    largest_first = narrow.sweep.direction == "denoising"
    return any(_curve_is_open(*curves, largest_first) for curves in zip(narrow.curves, wide.curves, strict=True))


def _curve_is_open(narrow: Curve, wide: Curve, largest_first: bool) -> bool:
    pairs: list[Any] = [
        (a.recovery.value, abs(a.recovery.value - b.recovery.value))
        for a, b in zip(narrow.cells, wide.cells, strict=True)
    ]
    return any(
        bar_a + bar_b > max(0.05, abs(a - b))
        for (a, bar_a), (b, bar_b) in itertools.pairwise(sorted(pairs, reverse=largest_first)[:4])
    )
