"""Every metric is right to 1e-9 of itself for every finite row of the logits' dtypes, however large, small or close."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import exact_metrics
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.metrics import measure
from harness.vocabulary import METRICS, AnswerTokens, State

DISTANCES = [name for name, metric in METRICS.items() if not metric.needs_answers]
Pair = tuple[np.ndarray, np.ndarray]
TOLERANCE = 1e-9


def f16(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float64)


def f32(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)


def bf16(values: np.ndarray) -> np.ndarray:
    """Return the values cut to the 8 significant bits of bfloat16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(np.float64)


def noisy(cast: Callable[[np.ndarray], np.ndarray], scale: float, change: float = 0.5, mean: float = 0.0):
    """Make pairs of rows: normal logits of a scale and a mean (in scales), the second one changed by a share."""

    def build(rng: np.random.Generator, width: int) -> Pair:
        clean = scale * (mean + rng.standard_normal(width))
        return cast(clean), cast(clean + scale * change * rng.standard_normal(width))

    return build


def one_step_apart(where: Callable[[np.ndarray], int]):
    """Make pairs b = 2a in which one value is moved to its neighbour in float32."""

    def build(rng: np.random.Generator, width: int) -> Pair:
        a = rng.standard_normal(width).astype(np.float32)
        b = 2 * a
        at = where(np.abs(a))
        b[at] = np.nextafter(b[at], np.float32(np.inf))
        return a.astype(np.float64), b.astype(np.float64)

    return build


def signs(rng: np.random.Generator, width: int) -> Pair:
    return tuple(np.where(rng.random(width) < 0.5, -40000.0, 40000.0) for _ in range(2))


def constant_change(rng: np.random.Generator, width: int) -> Pair:
    clean = f32(10 + rng.standard_normal(width))
    return clean, f32(clean + 0.1)


def twice_and_noise(rng: np.random.Generator, width: int) -> Pair:
    clean = f32(rng.standard_normal(width))
    return clean, f32(2 * clean + 1e-5 * rng.standard_normal(width))


def hidden_by_shift(rng: np.random.Generator, width: int) -> Pair:
    return f32(1e-3 * rng.standard_normal(width)), f32(1e9 + 64.0 * rng.integers(0, 2, width))


def mixed_scales(rng: np.random.Generator, width: int) -> Pair:
    return tuple(f32(rng.standard_normal(width) * 10.0 ** rng.integers(-40, 38, width)) for _ in range(2))


def opposite(rng: np.random.Generator, width: int) -> Pair:
    clean = f32(rng.standard_normal(width))
    return clean, f32(-3 * clean + 1e-3 * rng.standard_normal(width))


def as_is(values: np.ndarray) -> np.ndarray:
    return values


FAMILIES: dict[str, Callable[[np.random.Generator, int], Pair]] = {
    "f16-plain": noisy(f16, 3.0),
    "f16-extremes": signs,
    "f16-subnormal": noisy(f16, 1e-6),
    "bf16-1e17": noisy(bf16, 1e17),
    "bf16-1e-14": noisy(bf16, 1e-14),
    "f32-1e17": noisy(f32, 1e17),
    "f32-1e-14": noisy(f32, 1e-14),
    "f32-1e38": noisy(f32, 5e37),
    "f32-subnormal": noisy(f32, 1e-43),
    "f32-close": noisy(f32, 1.0, change=1e-6),
    "f32-mixed-scales": mixed_scales,
    "mean10-random": noisy(f32, 1.0, change=0.1, mean=10.0),
    "mean10-constant": constant_change,
    "offset-1e6": noisy(f32, 1.0, change=0.5, mean=1e6),
    "twice-and-noise": twice_and_noise,
    "one-step-at-smallest": one_step_apart(np.argmin),
    "one-step-at-largest": one_step_apart(np.argmax),
    "hidden-by-shift-1e9": hidden_by_shift,
    "opposite": opposite,
    "f64-close-1e-6": noisy(as_is, 3.0, change=1e-6),
}


def build(family: str, width: int) -> Pair:
    return FAMILIES[family](np.random.default_rng([width, *family.encode()]), width)


def assert_right(
    metric: str, clean: np.ndarray, row: np.ndarray, want: Decimal, answers: AnswerTokens | None = None
) -> None:
    reading = measure(metric, clean, row, answers)
    error = exact_metrics.relative_error(reading.value, want)
    assert error <= TOLERANCE, f"{metric}: got {reading}, exactly {want:.17e}, relative error {error:.1e}"


@pytest.mark.parametrize("width", [2, 7, 60])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("metric", DISTANCES)
def test_distance_equals_exact_arithmetic(metric: str, family: str, width: int) -> None:
    clean, row = build(family, width)
    assert_right(metric, clean, row, getattr(exact_metrics, metric)(clean, row))


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_exact_arithmetic(family: str) -> None:
    clean, row = build(family, 40)
    for answers in (AnswerTokens(0, 1), AnswerTokens(int(row.argmax()), int(row.argmin()))):
        want = Decimal(row[answers.answer]) - Decimal(row[answers.wrong])
        assert_right("logit_diff", clean, row, want, answers)
        assert_right("log_prob", clean, row, exact_metrics.log_prob(row, answers.answer), answers)


@pytest.mark.parametrize("width", [151_936, 262_144])
@pytest.mark.parametrize(
    "family", ["f16-plain", "f16-extremes", "mean10-random", "twice-and-noise", "one-step-at-largest"]
)
def test_wide_rows(family: str, width: int) -> None:
    clean, row = build(family, width)
    for metric in ("l2", "mse", "cosine"):
        assert_right(metric, clean, row, getattr(exact_metrics, metric)(clean, row))


@pytest.mark.parametrize("width", [151_936, 262_144])
@pytest.mark.parametrize("family", ["f16-plain", "mean10-random", "f32-1e-14", "f32-close", "hidden-by-shift-1e9"])
def test_wide_distributions(family: str, width: int) -> None:
    """Forty distinct pairs, shuffled over a whole vocabulary, keep the decimal oracle affordable."""
    pairs = np.stack(build(family, 40))
    clean, row = np.ascontiguousarray(pairs[:, np.random.default_rng(1).integers(0, 40, width)])
    assert_right("kl_divergence", clean, row, exact_metrics.kl_divergence(clean, row))
    assert_right("log_prob", clean, row, exact_metrics.log_prob(row, 7), AnswerTokens(7, 8))


@pytest.mark.skipif(not exact_metrics.LONG_DOUBLE_IS_WIDER, reason=exact_metrics.NO_LONG_DOUBLE)
def test_kl_of_wide_random_rows_against_long_double() -> None:
    clean, row = build("f16-plain", 151_936)
    logs = [values - values.max() for values in np.stack([clean, row]).astype(np.longdouble)]
    log_p, log_q = (values - np.log(np.sum(np.exp(values))) for values in logs)
    assert_right("kl_divergence", clean, row, Decimal(float(np.sum(np.exp(log_p) * (log_p - log_q)))))


@pytest.mark.parametrize("change", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("ids", [1, 20])
def test_kl_of_nearly_equal_distributions(change: float, ids: int) -> None:
    rng = np.random.default_rng(5)
    clean = 3 * rng.standard_normal(60)
    row = clean.copy()
    row[:ids] += change * rng.standard_normal(ids)
    assert_right("kl_divergence", clean, row, exact_metrics.kl_divergence(clean, row))


@pytest.mark.parametrize("gap", [1.0, 10.0, 27.6, 36.0, 200.0, 600.0])
def test_log_prob_near_certainty(gap: float) -> None:
    """The log of a probability 1 - e^-gap is -e^-gap, which 1 - e^-gap itself no longer shows."""
    row = np.array([0.0, gap, -1.0])
    for answer in range(3):
        assert_right("log_prob", row, row, exact_metrics.log_prob(row, answer), AnswerTokens(answer, 0))


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e300])
def test_norms_do_not_overflow_in_float64(scale: float) -> None:
    rng = np.random.default_rng(6)
    clean, row = (scale * rng.standard_normal(100) for _ in range(2))
    for metric in ("l2", "cosine"):
        assert_right(metric, clean, row, getattr(exact_metrics, metric)(clean, row))
    if scale > 1:
        assert measure("mse", clean, row).state is State.INF, "a mean square of 1e600 is no float64"
        assert measure("kl_divergence", clean, row).value == pytest.approx(
            float(exact_metrics.kl_divergence(clean, row)), rel=TOLERANCE
        )


@pytest.mark.parametrize("factor", [2.0, 3.0, 0.1875, 2.0**100])
def test_parallel_rows_have_cosine_distance_zero(factor: float) -> None:
    """A zero baseline must read as zero: rounding noise of 1e-33 would give recoveries of noise by noise."""
    clean = f16(np.random.default_rng(7).standard_normal(50_000))
    assert measure("cosine", clean, factor * clean).value == 0.0
    assert measure("cosine", factor * clean, clean).value == 0.0


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("family", FAMILIES)
def test_distance_to_itself_is_zero(metric: str, family: str) -> None:
    for row in build(family, 300):
        assert measure(metric, row, row.copy()).value == 0.0


@pytest.mark.parametrize(
    ("metric", "clean", "row", "want"),
    [
        ("l2", [0, 0], [3, 4], 5.0),
        ("mse", [0, 0], [3, 4], 12.5),
        ("cosine", [1, 0], [0, 2], 1.0),
        ("cosine", [1, 0], [1, 1], 1 - 0.5**0.5),
        ("cosine", [1, -2], [-2, 4], 2.0),
        ("kl_divergence", [0, 0], [0, np.log(3)], np.log(2 / 3**0.5)),
        ("log_prob", [0, 0, 0, 0], [5, 5, 5, 5], -np.log(4)),
        ("logit_diff", [0, 0], [2.5, -1.0], 3.5),
    ],
)
def test_closed_forms(metric: str, clean: list[float], row: list[float], want: float) -> None:
    reading = measure(metric, np.array(clean, np.float64), np.array(row, np.float64), AnswerTokens(0, 1))
    assert reading.value == pytest.approx(want, rel=1e-14)


def test_rows_of_a_narrow_dtype_are_widened_first() -> None:
    """The rows of the report: a float16 sum of squares ends at 65,504."""
    clean = np.zeros(151_936, np.float16)
    assert measure("l2", clean, clean + np.float16(1)).value == pytest.approx(151_936**0.5, rel=1e-15)


floats = st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
rows = st.integers(2, 30).flatmap(lambda n: st.tuples(*(hnp.arrays(np.float64, n, elements=floats) for _ in range(2))))


@given(pair=rows)
@settings(max_examples=60, deadline=None)
def test_any_pair_equals_exact_arithmetic(pair: Pair) -> None:
    for metric in ("l2", "mse", "cosine"):
        if metric != "cosine" or (pair[0].any() and pair[1].any()):
            assert_right(metric, *pair, getattr(exact_metrics, metric)(*pair))


@given(pair=rows)
@settings(max_examples=60, deadline=None)
def test_l2_is_symmetric(pair: Pair) -> None:
    assert measure("l2", *pair) == measure("l2", *reversed(pair))


@given(pair=rows, power=st.integers(-40, 40))
@settings(max_examples=60, deadline=None)
def test_powers_of_two_scale_exactly(pair: Pair, power: int) -> None:
    """Multiplying by 2^k rounds nothing: l2 takes the factor, mse its square, and cosine does not move."""
    scaled = [row * 2.0**power for row in pair]
    assert measure("l2", *scaled).value == measure("l2", *pair).value * 2.0**power
    assert measure("mse", *scaled).value == measure("mse", *pair).value * 4.0**power
    assert measure("cosine", *scaled) == measure("cosine", *pair)


@given(pair=rows, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_order_of_the_vocabulary_does_not_matter(pair: Pair, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(pair[0].size)
    for metric in DISTANCES:
        here, there = measure(metric, *pair), measure(metric, pair[0][order], pair[1][order])
        assert there.state is here.state
        if here.value is not None:
            assert there.value == pytest.approx(here.value, rel=1e-12, abs=0.0)


@given(pair=rows, shift=st.integers(-(2**20), 2**20))
@settings(max_examples=60, deadline=None)
def test_softmax_ignores_a_uniform_shift(pair: Pair, shift: int) -> None:
    clean, row = (np.floor(values % 64 * 1024) / 1024 for values in pair)
    assert (row + shift - shift == row).all(), "a shift of such values rounds nothing"
    assert measure("kl_divergence", clean, row + shift) == measure("kl_divergence", clean, row)


@given(pair=rows)
@settings(max_examples=100, deadline=None)
def test_kl_is_never_negative(pair: Pair) -> None:
    reading = measure("kl_divergence", *pair)
    assert reading.value is not None
    assert reading.value >= 0
