"""What rounding makes of a metric's gap, held against roundings that are drawn, and what follows for a recovery."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest

from harness.metrics import ends, host_row, measure
from harness.metrics.denominators import bar, resolution
from harness.vocabulary import METRICS, AnswerTokens, Denominator, State

DTYPES = {"float32": (10, 2.0**-23), "float16": (1, 2.0**-10), "bfloat16": (1, 2.0**-7)}
"""How many last digits a forward pass rounds away, and the spacing at 1."""
ANSWERS = AnswerTokens(3, 8)
VOCAB = 600
each_metric = pytest.mark.parametrize("metric", METRICS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def row(seed: int, dtype: str, size: float = 4.0) -> np.ndarray:
    """Return logits `[vocab]` of a dtype, widened to float64."""
    drawn = (size * np.random.default_rng(seed).standard_normal(VOCAB)).astype(np.float32)
    return host_row(mx.array(drawn).astype(getattr(mx, dtype)))


def digits(logits: np.ndarray, dtype: str) -> np.ndarray:
    count, spacing = DTYPES[dtype]
    return count * spacing * np.maximum(np.abs(logits), np.median(np.abs(logits)))


def state(metric: str, clean: np.ndarray, corrupted: np.ndarray, dtype: str) -> State:
    return ends(metric, clean, corrupted, dtype, ANSWERS).baseline.state


@each_dtype
@each_metric
def test_the_resolution_is_what_drawn_roundings_of_equal_runs_make(metric: str, dtype: str) -> None:
    """Distances: their mean over the draws, to a quarter. Scores: the largest of the draws comes near.

    Four logits may all err to one side, and no draw is beyond that; the many logits of a normaliser may not.
    """
    clean, generator = row(1, dtype), np.random.default_rng(2)
    moved = [clean + digits(clean, dtype) * generator.choice((-1, 1), VOCAB) for _ in range(400)]
    made = [
        abs(measure(metric, one, two, ANSWERS).value - measure(metric, one, one, ANSWERS).value)
        for one, two in zip(moved[::2], moved[1::2], strict=True)
    ]
    found = resolution(metric, clean, moved[0], dtype, ANSWERS)
    if METRICS[metric].needs_answers:
        assert np.sqrt(np.mean(np.square(made))) <= found
        assert 0.4 * found <= max(made) <= (1.001 if metric == "logit_diff" else 2) * found
    else:
        assert np.mean(made) == pytest.approx(found, rel=0.25)


@each_dtype
@each_metric
@pytest.mark.parametrize("steps", [1, -1])
def test_the_next_number_of_every_logit_is_no_difference(metric: str, dtype: str, steps: int) -> None:
    clean = row(3, dtype)
    bits = {"float32": np.int32, "float16": np.int16, "bfloat16": np.int16}[dtype]
    raw = mx.array(clean.astype(np.float32)).astype(getattr(mx, dtype))
    signs = steps * np.random.default_rng(4).choice((-1, 1), VOCAB)
    there = np.array(raw.view(getattr(mx, np.dtype(bits).name))) + signs.astype(bits)
    corrupted = host_row(mx.array(there).view(raw.dtype))
    assert (clean != corrupted).all()
    assert state(metric, clean, corrupted, dtype) is State.ILL_CONDITIONED


@each_dtype
@each_metric
@pytest.mark.parametrize("share", [1.0, 0.2])
def test_runs_that_differ_are_left_alone(metric: str, dtype: str, share: float) -> None:
    """Other logits, and a fifth of the way to other logits, whose answers are 10 logits apart."""
    clean, other = row(5, dtype), row(6, dtype)
    clean[[3, 8]], other[[3, 8]] = (12.0, 2.0), (2.0, 12.0)
    assert state(metric, clean, clean + share * (other - clean), dtype) is State.FINITE


@each_dtype
@each_metric
@pytest.mark.parametrize(("times", "wanted"), [(0.9, State.ILL_CONDITIONED), (1.1, State.FINITE)])
def test_both_sides_of_the_edge(metric: str, dtype: str, times: float, wanted: State) -> None:
    """The change of equal shape that makes the gap 0.9 and 1.1 times the resolution, found by bisection."""
    clean = row(7, dtype)
    change = digits(clean, dtype) * np.random.default_rng(8).choice((-1, 1), VOCAB)
    change[[3, 8]] = np.abs(change[[3, 8]]) * (1, -1)

    def gap(size: float) -> float:
        found = ends(metric, clean, clean + size * change, dtype, ANSWERS).denominator
        return abs(found.gap) / found.resolution

    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if gap(middle) < times else (low, middle)
    assert gap(low) == pytest.approx(times, rel=0.02)
    assert state(metric, clean, clean + low * change, dtype) is wanted


@each_metric
@pytest.mark.parametrize("mask", [-math.inf, -3.4e38, -1e4])
def test_what_is_masked_in_both_runs_has_no_digit(metric: str, mask: float) -> None:
    clean, corrupted = row(9, "float32"), row(10, "float32")
    bare = resolution(metric, clean[:500], corrupted[:500], "float32", ANSWERS)
    clean[500:] = corrupted[500:] = mask
    found = resolution(metric, clean, corrupted, "float32", ANSWERS)
    if metric == "mse" and math.isfinite(mask):
        bare *= 500 / VOCAB  # a mean over all ids that are not ruled out
    if metric == "cosine" and math.isfinite(mask):
        assert found < bare  # a long row turns by less
    else:
        assert found == pytest.approx(bare, rel=1e-9)


def test_one_logit_that_differs_is_a_difference() -> None:
    """Of 600 logits 599 are the same bits: they say that nothing was rounded."""
    clean = row(11, "float16")
    corrupted = clean.copy()
    corrupted[5] += 0.25
    assert state("l2", clean, corrupted, "float16") is State.FINITE


@each_metric
def test_logits_that_come_back_wider_than_they_were_computed_have_the_digits_they_had(metric: str) -> None:
    rows = row(12, "bfloat16"), row(13, "bfloat16")
    assert resolution(metric, *rows, "float32", ANSWERS) == resolution(metric, *rows, "bfloat16", ANSWERS)
    halves = row(12, "float16"), row(13, "float16")
    assert resolution(metric, *halves, "float32", ANSWERS) == resolution(metric, *halves, "float16", ANSWERS)
    one_more = (rows[0] + 2.0**-20 * (np.arange(VOCAB) == 0), rows[1])
    assert resolution(metric, *one_more, "float32", ANSWERS) < resolution(metric, *rows, "float32", ANSWERS)


def test_a_few_whole_numbers_are_no_grid() -> None:
    rows = np.array([0.0, 1, 2, 3]), np.array([3.0, 1, 2, 0])
    assert resolution("l2", *rows, "float32") < 1e-4


@pytest.mark.parametrize("metric", ["l2", "cosine", "kl_divergence", "logit_diff"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_huge_and_tiny_logits_are_measured_by_their_own_size(metric: str, dtype: str) -> None:
    for size in (1e17, 1e-14):
        clean, corrupted = row(14, dtype, size), row(15, dtype, size)
        assert state(metric, clean, corrupted, dtype) is State.FINITE


def test_no_digit_is_smaller_than_the_smallest_number() -> None:
    clean = np.arange(100) * 2.0**-149
    assert state("l2", clean, clean + 2.0**-149, "float32") is State.ILL_CONDITIONED
    assert state("l2", clean, clean[::-1].copy(), "float32") is State.FINITE


@each_metric
def test_logits_at_the_end_of_float64_raise_nothing(metric: str) -> None:
    clean = 1.5e308 * np.linspace(0.1, 1, 100)
    for corrupted in (-clean, clean[::-1], clean * (1 - 1e-15)):
        found = ends(metric, clean, corrupted, "float64", ANSWERS)
        assert found.denominator is None or math.isfinite(found.denominator.resolution)


@pytest.mark.parametrize(
    ("metric", "dtype", "spoiled"),
    [("os:getcwd", "float32", 0.0), ("l2", "int32", 0.0), ("l2", "float32", math.nan), ("l2", "float32", math.inf)],
    ids=["a metric of the user's own", "a dtype of no row", "NaN", "inf"],
)
def test_where_nothing_is_known_only_zero_is_refused(metric: str, dtype: str, spoiled: float) -> None:
    clean, corrupted = row(16, "float32"), row(17, "float32")
    corrupted[0] += spoiled
    assert resolution(metric, clean, corrupted, dtype) == 0.0


@each_metric
@pytest.mark.parametrize("percent", [-300.0, 0.0, 40.0, 100.0, 250.0])
@pytest.mark.parametrize("size", [0.5, 0.01])
def test_a_bar_is_what_independent_errors_of_the_three_readings_make(metric: str, percent: float, size: float) -> None:
    """Not less than two thirds of the root mean square of drawn errors, and not more than four times it."""
    scores, squares = METRICS[metric].needs_answers, metric in ("mse", "cosine", "kl_divergence")
    if squares and percent > 100:
        pytest.skip("a distance is never negative")
    clean, corrupted = (3.0, 2.0) if scores else (0.0, 1.0)
    patched, draws = corrupted + percent / 100 * (clean - corrupted), np.random.default_rng(18)

    def moved(value: float, exact: bool = False) -> np.ndarray:
        error = draws.choice((-1.0, 1.0), 4000) * (0.0 if exact else size / 2 if scores else 1.0)
        if squares and not exact:
            return (math.sqrt(value) + error * math.sqrt(size)) ** 2
        return value + error * (1 if scores else size)

    p, c, x = moved(patched), moved(clean, exact=not scores), moved(corrupted)
    first_order = 100 * ((p - patched) - (1 - percent / 100) * (x - corrupted) - percent / 100 * (c - clean))
    rms = float(np.sqrt(np.mean((first_order / (clean - corrupted)) ** 2)))
    found = bar(metric, Denominator(clean, corrupted, size), percent)
    assert 0.66 * rms <= found <= 4 * rms + 1e-9


def test_a_score_knows_what_the_clean_run_makes_of_the_wrong_answer() -> None:
    clean, corrupted = row(19, "float32"), row(20, "float32")
    for metric in ("logit_diff", "log_prob"):
        exchanged = measure(metric, clean, clean, AnswerTokens(ANSWERS.wrong, ANSWERS.answer)).value
        assert ends(metric, clean, corrupted, "float32", ANSWERS).denominator.wrong == exchanged
    assert ends("l2", clean, corrupted, "float32", ANSWERS).denominator.wrong is None
    outside = AnswerTokens(3, VOCAB)  # log_prob reads the answer alone
    assert ends("log_prob", clean, corrupted, "float32", outside).denominator.wrong is None
