"""Numbers that are wrong though the logits are right: the metric's own arithmetic, and metrics that mislead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np

from harness.diagnosis.outcome.nouns import SUSPECTED
from harness.diagnosis.zoo.fault import PACKED, RANGE, Plant, PlantedFault, on
from harness.diagnosis.zoo.models import CLEAN, CORRUPTED, both, build, names_in
from harness.diagnosis.zoo.surgery import at, behave, change_output
from harness.engines.formula import Engine, Formula
from harness.engines.guard import guarded_recovery
from harness.metrics.host import host_row
from harness.models.sources import groundtruth
from harness.models.spec import DialRow

Arguments = Mapping[str, Any]

WIDE = 151_936
RMS = 0.66015625
"""A multiple of 2^-10, so that 1 + RMS is a float16."""
LIMIT = math.sqrt(65520)
"""The first L2 whose square rounds to inf in float16: 255.97."""


def _pattern(size: int, dtype: type) -> np.ndarray[Any, Any]:
    """Return logits that are 0 and 1 in turn."""
    return (np.arange(size) % 2).astype(dtype)


@contextmanager
def _wide_arrays(architecture: str) -> Iterator[Arguments]:
    clean = _pattern(WIDE, np.float16)
    yield {"logits": (clean, clean + np.float16(RMS) * _signs(WIDE)), "engine": "legacy", "metric": "l2"}


def _signs(size: int) -> np.ndarray[Any, Any]:
    """Return +1 where `_pattern` is 1 and -1 elsewhere, half and half, so that the change is no uniform shift."""
    return (2 * _pattern(size, np.float16) - 1).astype(np.float16)


@contextmanager
def _wide_dial(architecture: str) -> Iterator[Arguments]:
    row = DialRow(id="zoo", source="groundtruth", kind="dial", vocab=WIDE, weights=(0.5,), scale=RMS, dtype="float16")
    yield {"model": groundtruth.load(row), "clean": (0,), "corrupted": (1,), "engine": "legacy", "component": "mlp"}


@contextmanager
def _wide_model(architecture: str) -> Iterator[Arguments]:
    model = build(architecture, vocab=WIDE, layers=1)
    yield both(model, engine="legacy", metric="l2", component="mlp_out")


def _naive_kl(metric: str, clean: mx.array, x: mx.array) -> float:
    p, q = mx.softmax(clean, axis=-1), mx.softmax(x, axis=-1)
    return float(mx.sum(p * (mx.log(p) - mx.log(q))))


NAIVE_KL = Engine(
    "naive-kl",
    "KL divergence as a sum of p (log p - log q)",
    Formula(_naive_kl, guarded_recovery),
    frozenset({"kl_divergence"}),
)


@contextmanager
def _log_zero_arrays(architecture: str) -> Iterator[Arguments]:
    logits = (np.array(row, np.float32) for row in ([0, -200, -300], [0, -1, -300]))
    yield {"logits": tuple(logits), "engine": NAIVE_KL, "metric": "kl_divergence"}


@contextmanager
def _log_zero_model(architecture: str) -> Iterator[Arguments]:
    """Logits of some hundreds, whose softmax is 0 in float32 for most ids."""
    model = build(architecture, "float32", logit_scale=150.0)
    yield both(model, engine=NAIVE_KL, metric="kl_divergence", component="mlp_out")


@contextmanager
def _suppressed_arrays(architecture: str) -> Iterator[Arguments]:
    """-inf at ids 0 and 3 of both; over the other ids the distance is 5."""
    rows = ([-np.inf, 1, 2, -np.inf, 1, 1], [-np.inf, 4, 6, -np.inf, 1, 1])
    yield {"logits": tuple(np.array(row, np.float32) for row in rows), "engine": "legacy", "metric": "l2"}


@contextmanager
def _suppressed_head(architecture: str) -> Iterator[Arguments]:
    model = build(architecture, "float32")

    def suppress(out: mx.array) -> mx.array:
        out[..., mx.array([7, 9])] = -mx.inf
        return out

    change_output(at(model.module, names_in(architecture)["head"]), suppress)
    yield both(model, engine="legacy", metric="l2", component="mlp_out")


@contextmanager
def _suppressed_by_design(architecture: str) -> Iterator[Arguments]:
    """phi3small rules out the 91 ids of its vocabulary that stand for nothing."""
    yield both(build(architecture, "float32"), engine="legacy", metric="l2", component="mlp_out")


def _cancelling(offset: float, noise: float, size: int) -> tuple[Any, Any]:
    """Return m + e and m - e, e orthogonal to the constant m: 1 - cos is 2 noise^2 / (offset^2 + noise^2)."""
    signs = _signs(size).astype(np.float32)
    return np.float32(offset) + np.float32(noise) * signs, np.float32(offset) - np.float32(noise) * signs


@contextmanager
def _offset(architecture: str) -> Iterator[Arguments]:
    yield {"logits": _cancelling(1e6, 1.0, 1024), "engine": "published", "metric": "cosine"}


@contextmanager
def _mean_of_ten(architecture: str) -> Iterator[Arguments]:
    clean, corrupted = (row.astype(np.float16) for row in _cancelling(10.0, 0.0625, 64))
    yield {"logits": (clean, corrupted), "engine": "legacy", "metric": "cosine"}


@contextmanager
def _parallel(architecture: str) -> Iterator[Arguments]:
    """Two rows that point nearly the same way, from the model table."""
    row = DialRow(id="zoo", source="groundtruth", kind="dial", vocab=WIDE, weights=(0.5,), logits="parallel")
    yield {"model": groundtruth.load(row), "clean": (0,), "corrupted": (1,), "engine": "published",
           "metric": "cosine", "component": "mlp"}  # fmt: skip


@contextmanager
def _shifted_arrays(architecture: str) -> Iterator[Arguments]:
    clean = _pattern(WIDE, np.float32)
    yield {"logits": (clean, clean + np.float32(5)), "metric": "l2"}


@contextmanager
def _shifted_model(architecture: str) -> Iterator[Arguments]:
    """The two prompts mean the same to the model, but for a constant added to every logit."""
    model = build(architecture, "float32")
    table = at(model.module, names_in(architecture)["embedding"]).weight
    for clean, corrupted in zip(CLEAN, CORRUPTED, strict=True):
        table[corrupted] = table[clean]

    def with_constant(own: Any, ids: mx.array, *args: Any, **kwargs: Any) -> Any:
        return own(ids, *args, **kwargs) + 5.0 * mx.any(ids == CORRUPTED[1])

    behave(model.module, with_constant)
    yield both(model, metric="l2", component="mlp_out")


def _of_another_definition(kind: str) -> Plant:
    """Return a planting of an engine whose formula is another definition of the metric."""

    @contextmanager
    def plant(architecture: str) -> Iterator[Arguments]:
        metric, made = OTHER_DEFINITIONS[kind]
        yield both(build(architecture, "float32"), engine=made, metric=metric, component="mlp_out")

    return plant


def _kl(clean: mx.array, x: mx.array) -> float:
    """KL(clean || x) in nats, as it is written down in float64."""
    p, q = (each - np.logaddexp.reduce(each) for each in map(host_row, (clean, x)))
    return float(np.sum(np.exp(p) * (p - q)))


def _l2(clean: mx.array, x: mx.array) -> float:
    return float(np.linalg.norm(host_row(clean) - host_row(x)))


def _engine(name: str, metric: str, distance: Callable[[mx.array, mx.array], float], part: float = 100.0) -> Engine:
    """Return an engine of one metric; `part` is what it calls a whole recovery."""

    def recovery(baseline: float, patched: float) -> float:
        return part * (baseline - patched) / baseline

    formula = Formula(lambda _, clean, x: distance(clean, x), recovery)
    return Engine(name, f"{metric}, {name}", formula, frozenset({metric}))


OTHER_DEFINITIONS: Mapping[str, tuple[str, Engine]] = {
    "bits": ("kl_divergence", _engine("bits", "kl_divergence", lambda a, x: _kl(a, x) / math.log(2))),
    "reversed": ("kl_divergence", _engine("reversed", "kl_divergence", lambda a, x: _kl(x, a))),
    "averaged": ("kl_divergence", _engine("averaged", "kl_divergence", lambda a, x: _kl(a, x) / a.size)),
    "negated": ("kl_divergence", _engine("negated", "kl_divergence", lambda a, x: -_kl(a, x))),
    "squared": ("l2", _engine("squared", "l2", lambda a, x: _l2(a, x) ** 2)),
    "not squared": ("mse", _engine("not-squared", "mse", _l2)),
    "fraction": ("l2", _engine("fraction", "l2", _l2, part=1.0)),
}
"""Kind -> the metric, and an engine that computes something else under its name."""

AS_DEFINED: Mapping[str, tuple[str, Engine]] = {
    "KL in nats": ("kl_divergence", _engine("nats", "kl_divergence", _kl)),
    "distance": ("l2", _engine("distance", "l2", _l2)),
    "mean square": ("mse", _engine("mean-square", "mse", lambda a, x: _l2(a, x) ** 2 / a.size)),
}
"""The same formulas as they are defined, which nobody is to be blamed for."""

_SAID = {
    "bits": "bits", "reversed": "KL(x || clean)", "averaged": "divided by the number of tokens", "negated": "sign",
    "squared": "sum of squares", "not squared": "distance (l2)", "fraction": "fractions",
}  # fmt: skip


# An engine that makes NaN of a baseline goes on to make 0 % of it.
_GUARDED = ("F03",)
_METRIC = {"step": "metric", "run": "metric"}

FAULTS = (
    PlantedFault(
        "F01", "the metric accumulates in float16", "mlxterp on Qwen3-30B; numpy#7930", "H",
        "the metric overflows while the outputs are finite: the true value, the limit of 255.97, the remedy",
        (
            *on("arrays", _wide_arrays, place=_METRIC, numbers=(LIMIT, RMS * math.sqrt(WIDE)), words=("finite",)),
            *on("dial", _wide_dial, place=_METRIC, numbers=(LIMIT, RMS * math.sqrt(WIDE)), words=("finite",)),
            *on("llama qwen3", _wide_model, place=_METRIC, numbers=(LIMIT,), words=("finite",), without=RANGE),
        ),
    ),
    PlantedFault(
        "F04", "log(0) in KL", "torchmetrics#1029", "H",
        "0 x log 0 must be 0, and at which ids it was not",
        (
            *on("arrays", _log_zero_arrays, place=_METRIC, numbers=(1, 2), words=("log",)),
            *on("llama qwen3", _log_zero_model, place=_METRIC, besides=_GUARDED, words=("log",)),
        ),
    ),
    PlantedFault(
        "F05", "-inf minus -inf over suppressed or padded ids", "heretic#348 (Gemma 4); phi3small", "H",
        "the legal -inf ids, and the metric over the others",
        (
            *on("arrays", _suppressed_arrays, place=_METRIC, numbers=(0, 3, 5), words=("-inf",)),
            *on("llama qwen3", _suppressed_head, place=_METRIC, besides=_GUARDED, numbers=(7, 9), words=("-inf",)),
            *on("phi3small", _suppressed_by_design, place=_METRIC, besides=_GUARDED, numbers=(91,), words=("-inf",)),
        ),
    ),
    PlantedFault(
        "F07", "cancellation in 1 - cos", "mlx#1302, mlx#4379", "S",
        "the relative error against float64, the bits lost",
        (
            *on("arrays", _offset, "offset 1e6", place=_METRIC, numbers=(2e-12,), words=("float64", "bits")),
            *on("arrays", _mean_of_ten, "mean 10", place=_METRIC, numbers=(2 / (160**2 + 1),),
                words=("float64", "bits")),
            *on("dial", _parallel, place=_METRIC, words=("float64", "bits"), confidence=SUSPECTED),
        ),
    ),
    PlantedFault(
        "F29", "the metric is another definition: bits, reversed, averaged, a fraction, squared",
        "llm-compressor#2031", "S",
        "which definition the number is of, and not that digits were lost",
        tuple(
            planting
            for kind in OTHER_DEFINITIONS
            for planting in on("llama qwen3", _of_another_definition(kind), kind, place=_METRIC, words=(_SAID[kind],))
        ),
    ),
    PlantedFault(
        "F23", "the metric moves though softmax does not", "logits + 5: L2 1,949, the same distribution", "S",
        "the change is a uniform shift, so there is nothing to recover",
        (
            *on("arrays", _shifted_arrays, place=_METRIC, numbers=(5, 5 * math.sqrt(WIDE)), words=("uniform shift",)),
            *on("llama qwen3", _shifted_model, place=_METRIC, numbers=(5,), words=("uniform shift",),
                without=PACKED),
        ),
    ),
)  # fmt: skip
