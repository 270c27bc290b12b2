"""What is not a number becomes a state, never a number; suppressed ids are left out; and the planted metric faults."""

from __future__ import annotations

import math

import exact_metrics
import numpy as np
import pytest

from harness.metrics import measure, suppressed
from harness.vocabulary import METRICS, AnswerTokens, State
from harness.vocabulary.errors import HarnessError, UnknownName

DISTANCES = [name for name, metric in METRICS.items() if not metric.needs_answers]
INF, NAN = math.inf, math.nan
ANSWERS = AnswerTokens(1, 2)


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("clean", "other", "state"),
    [
        pytest.param([0, 1, 2], [NAN, 1, 2], State.NAN, id="nan-in-row"),
        pytest.param([0, NAN, 2], [0, 1, 2], State.NAN, id="nan-in-clean"),
        pytest.param([NAN, 1, 2], [NAN, 1, 2], State.NAN, id="nan-in-both"),
        pytest.param([NAN, 1, 2], [0, 1, INF], State.NAN, id="nan-and-inf"),
        pytest.param([INF, 1, 2], [INF, 1, 2], State.NAN, id="inf-minus-inf"),
        pytest.param([0, 1, 2], [INF, 1, 2], State.INF, id="inf-in-row"),
        pytest.param([INF, 1, 2], [0, 1, 2], State.INF, id="inf-in-clean"),
        pytest.param([0, 1, 2], [-INF, 1, 2], State.INF, id="suppressed-in-row-only"),
        pytest.param([-INF, 1, 2], [0, 1, 2], State.INF, id="suppressed-in-clean-only"),
        pytest.param([-INF, 1, 2], [INF, 1, 2], State.INF, id="opposite-infs"),
        pytest.param([-INF, -INF, -INF], [-INF, -INF, -INF], State.UNDEFINED, id="all-suppressed"),
        pytest.param([], [], State.UNDEFINED, id="empty"),
    ],
)
def test_rows_that_are_not_finite_have_a_state(
    metric: str, clean: list[float], other: list[float], state: State
) -> None:
    if not clean and METRICS[metric].needs_answers:
        with pytest.raises(HarnessError, match="answer id 1"):
            measure(metric, row(), row(), ANSWERS)
        return
    assert measure(metric, row(*clean), row(*other), ANSWERS).state is state


@pytest.mark.parametrize("metric", METRICS)
def test_f05_suppressed_ids_are_left_out(metric: str) -> None:
    """phi3small writes -inf to 91 ids; -inf - -inf is NaN unless they are left out."""
    rng = np.random.default_rng(0)
    clean, other = rng.standard_normal((2, 50))
    padding = np.full(91, -INF)
    whole = measure(metric, np.append(clean, padding), np.append(other, padding), ANSWERS)
    assert whole.finite
    assert whole == measure(metric, clean, other, ANSWERS)


def test_suppressed_ids_are_named() -> None:
    assert suppressed(row(-INF, 0, -INF, INF, -INF), row(-INF, 0, 1, INF, -INF)) == (0, 4)


@pytest.mark.parametrize(
    ("metric", "answers", "state"),
    [
        ("log_prob", AnswerTokens(0, 1), State.UNDEFINED),
        ("log_prob", AnswerTokens(1, 0), State.FINITE),
        ("logit_diff", AnswerTokens(0, 1), State.UNDEFINED),
        ("logit_diff", AnswerTokens(1, 0), State.UNDEFINED),
    ],
)
def test_a_suppressed_answer_leaves_the_score_undefined(metric: str, answers: AnswerTokens, state: State) -> None:
    assert measure(metric, row(-INF, 0, 1), row(-INF, 1, 1), answers).state is state


@pytest.mark.parametrize("zero", ["clean", "row", "both"])
def test_cosine_of_a_zero_row_is_undefined(zero: str) -> None:
    clean, other = row(0, 0) if zero != "row" else row(1, 2), row(0, 0) if zero != "clean" else row(1, 2)
    assert measure("cosine", clean, other).state is State.UNDEFINED


@pytest.mark.parametrize("metric", DISTANCES)
def test_f04_zero_times_log_zero_is_zero(metric: str) -> None:
    """exp(-200) is 0 in float32 and exp(-800) in float64; KL of [0, -200, -300] is 0 x log 0 there."""
    for clean, other in ((row(0, -200, -300), row(0, -100, -300)), (row(0, -800, -900), row(0, -1, -9e4))):
        want = getattr(exact_metrics, metric)(clean, other)
        assert exact_metrics.relative_error(measure(metric, clean, other).value, want) < 1e-9


def test_f06_no_epsilon_changes_a_small_distance() -> None:
    """An eps of 1e-8 is 0 in float16, and is larger than these logits in float64."""
    assert measure("cosine", row(1e-12, 0), row(1e-12, 1e-12)).value == pytest.approx(1 - 0.5**0.5, rel=1e-14)
    assert measure("cosine", row(1e-12, 0), row(0, 1e-12)).value == 1.0


def test_f07_an_offset_does_not_cost_the_digits() -> None:
    """With offset m and changes +e, -e in turn, cos = m / sqrt(m² + e²): 1 - cos is 5e-21, far below 1's last digit."""
    clean = np.full(1000, 1e6)
    other = clean + np.tile([1e-4, -1e-4], 500)
    change = float(other[0] - 1e6)
    assert measure("cosine", clean, other).value == pytest.approx(change**2 / 2e12, rel=1e-9)


@pytest.mark.parametrize("vocab", [32_000, 151_936])
def test_f23_a_uniform_shift_moves_l2_and_not_kl(vocab: int) -> None:
    """logits + 5 is an l2 of 5 sqrt(vocab), 1,949 at 151,936, and the same distribution."""
    clean = np.random.default_rng(1).standard_normal(vocab).astype(np.float16).astype(np.float64)
    assert measure("l2", clean, clean + 5).value == pytest.approx(5 * math.sqrt(vocab), rel=1e-12)
    assert measure("kl_divergence", clean, clean + 5).value == 0.0


def test_a_value_beyond_float64_is_inf_not_an_error() -> None:
    assert measure("l2", row(-1.7e308, 0), row(1.7e308, 0)).state is State.INF
    assert measure("mse", row(0, 0), row(1e200, 0)).state is State.INF
    assert measure("logit_diff", row(0, 0), row(1.7e308, -1.7e308), AnswerTokens(0, 1)).state is State.INF


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(
            ("cosin", row(1), row(1)), UnknownName, "'cosin' is not a metric; did you mean 'cosine'", id="name"
        ),
        pytest.param(("l2", row(1, 2), row(1)), HarnessError, r"l2: rows of shape \(2,\) and \(1,\)", id="shape"),
        pytest.param(("l2", np.ones((1, 2)), np.ones((1, 2))), HarnessError, r"one row \[vocab\]", id="rank"),
        pytest.param(("log_prob", row(1), row(1)), HarnessError, "log_prob: no answers", id="no-answers"),
        pytest.param(
            ("logit_diff", row(1, 2), row(1, 2), AnswerTokens(0, 2)),
            HarnessError,
            "answer id 2; ids .* 0 to 1",
            id="beyond",
        ),
        pytest.param(
            ("log_prob", row(1, 2), row(1, 2), AnswerTokens(-1, 0)),
            HarnessError,
            "answer id -1; ids .* 0 to 1",
            id="negative",
        ),
    ],
)
def test_bad_requests_say_what_is_wrong(call: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        measure(*call)
