"""Why a reported number is wrong: another definition, too few bits, or neither; each with the ones it looks like."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest

from harness.engines.definitions import DEFINITIONS, LOST, Reported, definitions, mistake_of, narrow_values
from harness.metrics import host_row
from harness.vocabulary import AnswerTokens, Cell, Reading

POINTS = 0.5
IDS = AnswerTokens(3, 17)


def log_softmax(row):
    return row - row.max() - math.log(np.exp(row - row.max()).sum())


def kl(a, x):
    return float(np.sum(np.exp(log_softmax(a)) * (log_softmax(a) - log_softmax(x))))


RIGHT = {
    "l2": lambda a, x: float(np.linalg.norm(a - x)),
    "mse": lambda a, x: float(np.mean((a - x) ** 2)),
    "cosine": lambda a, x: float(1 - a @ x / np.linalg.norm(a) / np.linalg.norm(x)),
    "kl_divergence": kl,
    "logit_diff": lambda a, x: float(x[IDS.answer] - x[IDS.wrong]),
    "log_prob": lambda a, x: float(log_softmax(x)[IDS.answer]),
}


def rows(dtype=mx.float32, vocab=512, scale=4.0, size=1.0, cells=5):
    """Return a clean row, a corrupted one, and others between and beyond them."""
    rng = np.random.default_rng(0)
    clean, change = rng.standard_normal((2, vocab)) * scale
    far = [0.0, 1.0, *rng.uniform(0.05, 1.2, cells)]
    noise = rng.standard_normal((len(far), vocab)) * scale * 0.2
    noise[:2] = 0
    return [
        mx.array(clean + size * (part * change + each)).astype(dtype) for part, each in zip(far, noise, strict=True)
    ]


def recovery(measure, a, base, x):
    top, low = measure(a, a), measure(a, base)
    return 100 * (measure(a, x) - low) / (top - low)


def reported(metric, measure, made, change=lambda x: x, baseline=True):
    """Return what an engine reports that measures so; `change` is what it does to every recovery."""
    clean, corrupted, *others = made
    a, b, *xs = map(host_row, made)
    said = [Reading.of(change(recovery(measure, a, b, x))) for x in xs]
    right = [Reading.of(recovery(RIGHT[metric], a, b, x)) for x in xs]
    cells = [(Cell(at, "all", said[at], right[at]), raw) for at, raw in enumerate(others)]
    return Reported(metric, clean, corrupted, measure(a, b) if baseline else None, IDS, cells)


def kind(*args, **more):
    found = mistake_of(reported(*args, **more), POINTS)
    return found.kind if found else None


BITS = 1 / math.log(2)
OTHER = {
    "bits": ("kl_divergence", lambda a, x: BITS * kl(a, x)),
    "reversed": ("kl_divergence", lambda a, x: kl(x, a)),
    "reversed, bits": ("kl_divergence", lambda a, x: BITS * kl(x, a)),
    "symmetric": ("kl_divergence", lambda a, x: kl(x, a) + kl(a, x)),
    "symmetric mean": ("kl_divergence", lambda a, x: (kl(x, a) + kl(a, x)) / 2),
    "cross entropy": ("kl_divergence", lambda a, x: -float(np.sum(np.exp(log_softmax(a)) * log_softmax(x)))),
    "averaged over the vocabulary": ("kl_divergence", lambda a, x: kl(a, x) / a.size),
    "negated": ("kl_divergence", lambda a, x: -kl(a, x)),
    "squared": ("l2", lambda a, x: float(np.sum((a - x) ** 2))),
    "mse": ("l2", RIGHT["mse"]),
    "rms": ("l2", lambda a, x: math.sqrt(RIGHT["mse"](a, x))),
    "absolute differences": ("l2", lambda a, x: float(np.abs(a - x).sum())),
    "largest difference": ("l2", lambda a, x: float(np.abs(a - x).max())),
    "summed": ("mse", lambda a, x: float(np.sum((a - x) ** 2))),
    "root": ("mse", RIGHT["l2"]),
    "similarity": ("cosine", lambda a, x: 1 - RIGHT["cosine"](a, x)),
    "angle": ("cosine", lambda a, x: math.acos(min(1.0, 1 - RIGHT["cosine"](a, x)))),
    "one logit": ("logit_diff", lambda a, x: float(x[IDS.answer])),
    "probability": ("log_prob", lambda a, x: math.exp(log_softmax(x)[IDS.answer])),
    "the wrong answer": ("log_prob", lambda a, x: float(log_softmax(x)[IDS.wrong])),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_another_definition_is_named(name):
    metric, measure = OTHER[name]
    assert kind(metric, measure, rows()) == name


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("reversed", "reversed or reversed, bits"), ("squared", "squared or mse"), ("the wrong answer",) * 2],
)
def test_recoveries_alone_name_what_differs_by_more_than_a_factor(name, wanted):
    metric, measure = OTHER[name]
    assert kind(metric, measure, rows(), baseline=False) == wanted


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["bits", "reversed", "squared", "averaged over the vocabulary"])
def test_it_is_named_of_half_precision_logits_too(name, dtype):
    metric, measure = OTHER[name]
    assert kind(metric, measure, rows(dtype)) == name


@pytest.mark.parametrize("metric", RIGHT)
def test_the_metric_itself_is_no_mistake(metric):
    assert kind(metric, RIGHT[metric], rows()) is None


def narrow(metric, dtype, number=0):
    return lambda a, x: narrow_values(metric, mx.array(a), mx.array(x), IDS)[dtype, number]


LOSES = {
    "a float16 sum": ("l2", narrow("l2", "float16", 1), rows(mx.float16, 4096, 1.0)),
    "a bfloat16 sum": ("mse", narrow("mse", "bfloat16", 2), rows(mx.bfloat16, 4096, 1.0)),
    "1 - cos in float16": ("cosine", narrow("cosine", "float16"), rows(mx.float16, 512, 4.0, 0.2)),
    "float16 of float32 logits": ("mse", narrow("mse", "float16", 2), rows(mx.float32, 4096, 1.0)),
}


@pytest.mark.parametrize("name", LOSES)
def test_too_few_bits_are_lost_precision_and_no_definition(name):
    metric, measure, made = LOSES[name]

    def distances(a, x):
        return 0.0 if a is x else measure(a, x)

    found = mistake_of(reported(metric, distances, made), POINTS)
    assert found is not None
    assert (found.kind, found.proven) == (LOST, True)
    assert "widen" in found.remedy


def test_an_overflow_to_inf_is_lost_precision_and_an_inf_without_one_is_not():
    wide = rows(mx.float16, 4096, 8.0)
    assert max(narrow_values("l2", wide[0], wide[1]).values()) == math.inf
    nothing = [(Cell(i, "all", Reading.of(math.nan), Reading.of(50.0)), raw) for i, raw in enumerate(wide[2:])]
    assert mistake_of(Reported("l2", wide[0], wide[1], math.inf, None, nothing), POINTS).kind == LOST
    small = rows(mx.float32)
    nothing = [(Cell(i, "all", Reading.of(math.nan), Reading.of(50.0)), raw) for i, raw in enumerate(small[2:])]
    found = mistake_of(Reported("l2", small[0], small[1], math.inf, None, nothing), POINTS)
    assert found.kind == "nan where finite"
    assert "widen" not in found.remedy


@pytest.mark.parametrize(
    ("change", "wanted"),
    [(lambda x: x / 100, "factor 0.01"), (abs, None), (lambda x: x + 7, "offset"), (lambda x: 100 - x, "complement")],
)
def test_a_rule_over_the_recoveries_is_named_beside_a_right_baseline(change, wanted):
    assert kind("l2", RIGHT["l2"], rows(), change) == wanted


def test_a_constant_in_every_distance():
    def measure(a, x):
        return 0.0 if a is x else RIGHT["l2"](a, x) + 30

    assert kind("l2", measure, rows()) == "constant added"


def test_noise_is_neither():
    rng = np.random.default_rng(1)
    assert kind("kl_divergence", lambda a, x: kl(a, x) * rng.uniform(0.5, 2), rows()) is None
    assert kind("l2", lambda a, x: RIGHT["l2"](a[:100], x[:100]), rows()) is None


def test_a_baseline_alone_that_is_near_a_definition_is_not_called_one():
    made = rows()
    a, b = map(host_row, made[:2])
    assert mistake_of(Reported("kl_divergence", made[0], made[1], 1.0005 * BITS * kl(a, b)), POINTS) is None
    assert mistake_of(Reported("kl_divergence", made[0], made[1], BITS * kl(a, b)), POINTS).kind == "bits"


def test_a_definition_that_explains_the_baseline_and_not_the_cells_is_not_named():
    made = reported("kl_divergence", lambda a, x: BITS * kl(a, x), rows())
    spoilt = [
        (Cell(c.layer, "all", Reading.of(c.recovery.value + 9 * (-1) ** c.layer), c.oracle), r) for c, r in made.cells
    ]
    assert mistake_of(Reported("kl_divergence", made.clean, made.corrupted, made.baseline, IDS, spoilt), POINTS) is None


def test_every_definition_says_what_to_do():
    for metric in DEFINITIONS:
        kinds = [each.kind for each in definitions(metric)]
        assert len(kinds) == len(set(kinds))
        assert all(each.said and each.remedy for each in definitions(metric))
