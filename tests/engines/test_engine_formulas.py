"""Engines on the dial, whose baselines and recoveries are known by hand: who is right, who is wrong, and where.

What a broken formula reports depends on the version of MLX (inf, NaN, or a plausible wrong number), so a test never
asks for a symptom: it asks whether the number is near the true one.
"""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest

from harness import models
from harness.engines import ENGINES, answer, engine_named
from harness.models.spec import DialRow
from harness.vocabulary import Answer, Cell, Curve, Direction, Question, Reading, State, Sweep, Tokens
from harness.vocabulary.errors import UnknownName

WEIGHTS = (0.25, 0.5, 0.75, 1.0)
DISTANCES = ("l2", "mse", "cosine")
A, B = Tokens((0,), ("a",)), Tokens((1,), ("b",))
QWEN = 151_936


def dial(vocab: int, dtype: str = "float16", scale: float = 1.0, logits: str = "plain"):
    return models.load(
        DialRow(id="dial", source="groundtruth", kind="dial", vocab=vocab, weights=WEIGHTS, logits=logits, scale=scale,
                dtype=dtype)
    )  # fmt: skip


def asked(engine, model, metrics=DISTANCES, direction=Direction.DENOISING, clean=A, corrupted=B) -> Answer:
    return answer(engine_named(engine), model, Question(clean, corrupted, Sweep(("mlp",), None, direction), metrics))


def curve_of(given: Answer, metric: str) -> Curve:
    return next(curve for curve in given.curves if curve.metric == metric)


def right(curve: Curve) -> bool:
    """Within 0.5 % of the true baseline and 0.5 points of every true recovery."""
    said, true = curve.baseline.value, curve.oracle_baseline.value
    return said is not None and math.isclose(said, true, rel_tol=0.005) and all(map(near, curve.cells))


def near(cell: Cell) -> bool:
    return cell.recovery.finite and abs(cell.recovery.value - cell.oracle.value) <= 0.5


@pytest.fixture(scope="module")
def report():
    """The report's own situation: 151,936 float16 logits, rms difference 0.805, so L2 313.7 and MSE 0.648."""
    return dial(QWEN, scale=0.805)


def test_native_finds_the_reports_own_baselines(report):
    given = asked("native", report)
    assert curve_of(given, "l2").baseline.value == pytest.approx(313.7, abs=0.1)
    assert curve_of(given, "mse").baseline.value == pytest.approx(0.648, abs=0.001)
    assert curve_of(given, "cosine").baseline.value == pytest.approx(0.0078, abs=0.0001)


@pytest.mark.parametrize("metric", DISTANCES)
def test_legacy_is_wrong_on_151936_float16_logits(report, metric):
    assert not right(curve_of(asked("legacy", report), metric))


@pytest.mark.parametrize("metric", DISTANCES)
def test_legacy_is_right_on_a_small_vocabulary_in_float32(metric):
    assert right(curve_of(asked("legacy", dial(64, "float32")), metric))


@pytest.mark.parametrize("metric", ["l2", "mse"])
def test_published_is_right_on_plain_logits(report, metric):
    assert right(curve_of(asked("published", report), metric))


def test_published_l2_is_wrong_where_a_float16_difference_overflows():
    given = asked("published", dial(2048, logits="extreme"))
    assert not right(curve_of(given, "l2"))
    assert right(curve_of(given, "mse"))


def test_published_cosine_is_wrong_near_100_percent_on_a_sequential_accumulator(report):
    if mx.default_device() != mx.cpu:
        pytest.skip("the accumulator in question is the CPU's")
    cells = curve_of(asked("published", report), "cosine").cells
    assert cells[-1].oracle.value == pytest.approx(100, abs=1e-6)
    assert not near(cells[-1])


def test_published_cosine_cancels_on_nearly_parallel_logits():
    """A mean of 10 with differences of 0.01: 1 - cos is 5e-7, a few roundings of a float32."""
    curve = curve_of(asked("published", dial(2048, "float32", 0.1, "mean10")), "cosine")
    assert curve.oracle_baseline.value == pytest.approx(5e-7, rel=0.05)
    assert not right(curve)


@pytest.mark.parametrize("engine", ["legacy", "published"])
@pytest.mark.parametrize("metric", DISTANCES)
def test_the_guard_turns_a_nan_baseline_into_zero_percent(engine, metric):
    curve = curve_of(asked(engine, dial(2048, logits="nan")), metric)
    assert curve.baseline.state is State.NAN
    assert [cell.recovery for cell in curve.cells] == [Reading.of(0.0)] * len(WEIGHTS)
    assert {cell.oracle.state for cell in curve.cells} == {State.UNDEFINED}


@pytest.mark.parametrize("engine", ["legacy", "published"])
def test_the_guard_turns_a_zero_baseline_into_zero_percent(engine):
    curve = curve_of(asked(engine, dial(64, "float32"), ("l2",), corrupted=A), "l2")
    assert [cell.recovery for cell in curve.cells] == [Reading.of(0.0)] * len(WEIGHTS)
    assert {cell.oracle.state for cell in curve.cells} == {State.ZERO_BASELINE}


@pytest.mark.parametrize("logits", ["nan", "inf"])
def test_native_has_a_state_where_there_is_no_number(logits):
    given = asked("native", dial(2048, logits=logits))
    for curve in given.curves:
        assert not curve.baseline.finite
        assert {cell.recovery for cell in curve.cells} == {Reading.absent(State.UNDEFINED)}
    assert given.clean.finite
    assert given.corrupted.first == 2047
    assert not given.patched


CLOSED_FORMS = {
    ("l2", Direction.DENOISING): lambda w: 100 * (1 - abs(1 - w)),
    ("mse", Direction.DENOISING): lambda w: 100 * (1 - (1 - w) ** 2),
    ("l2", Direction.NOISING): lambda w: 100 * (1 - w),
    ("mse", Direction.NOISING): lambda w: 100 * (1 - w**2),
}


@pytest.mark.parametrize(("dtype", "points"), [("float32", 1e-4), ("float16", 0.01), ("bfloat16", 0.1)])
@pytest.mark.parametrize(("metric", "direction"), CLOSED_FORMS, ids=lambda value: str(value))
def test_native_reaches_the_closed_forms_of_the_dial(metric, direction, dtype, points):
    model = dial(2048, dtype)
    curve = curve_of(asked("native", model, direction=direction), metric)
    difference = np.diff(model.known.table[:2], axis=0)[0]
    size = {"l2": np.linalg.norm(difference), "mse": (difference**2).mean()}[metric]
    assert curve.baseline.value == pytest.approx(size, rel=1e-9)
    wanted = [CLOSED_FORMS[metric, direction](weight) for weight in WEIGHTS]
    assert [cell.recovery.value for cell in curve.cells] == pytest.approx(wanted, abs=points)


def test_scores_recover_linearly_and_name_their_answers():
    """A logit difference is linear in the mixture, so weight w recovers 100 w."""
    given = asked("native", dial(64, "float32"), ("logit_diff",))
    assert (given.answers.answer, given.answers.wrong) == (0, 1)
    assert [cell.recovery.value for cell in given.curves[0].cells] == pytest.approx([100 * w for w in WEIGHTS])


def test_suppressed_tokens_are_left_out_and_named():
    row = DialRow(id="dial", source="groundtruth", kind="dial", vocab=64, weights=(0.25, 0.5), logits="suppressed")
    given = asked("native", models.load(row))
    assert given.suppressed == (62, 63)
    assert given.clean.finite
    assert given.corrupted.finite
    assert [cell.recovery.value for cell in curve_of(given, "l2").cells] == pytest.approx([25, 50], abs=1e-4)


def test_the_table_of_engines():
    assert {"native", "legacy", "published"} <= set(ENGINES)
    assert all(engine.name == name for name, engine in ENGINES.items())
    with pytest.raises(UnknownName, match="'lagacy' is not an engine; did you mean 'legacy'"):
        engine_named("lagacy")
