"""Estimates: a gradient is the slope of the exact sweep, right where the model is linear, and told where not."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from harness import intercept, metrics
from harness.engines import answer, engine_named
from harness.engines.estimate import EstimateEngine
from harness.intercept.capture import resolve_positions, slice_of
from harness.laws.conformance.rows import CLEAN, CORRUPTED, architecture
from harness.metrics.gradients import gradient
from harness.models import load
from harness.patching import patches_of, slopes
from harness.vocabulary import METRICS, AnswerTokens, Direction, Question, State, Sweep, Tokens
from harness.vocabulary.errors import TapError

IDS = AnswerTokens(2, 5)
SCORES = ("logit_diff", "log_prob")


PAIR = (CLEAN, CORRUPTED)


def question(components, positions="all", metrics=tuple(METRICS), direction=Direction.DENOISING, ids=PAIR):
    clean, corrupted = (Tokens(each, tuple(map(str, each))) for each in ids)
    return Question(clean, corrupted, Sweep(components, None, direction, positions), metrics, IDS)


@pytest.mark.parametrize("metric", METRICS)
def test_a_gradient_is_the_slope_of_its_metric(metric):
    rng = np.random.default_rng(3)
    clean, row = rng.normal(size=(2, 11)) * 3
    ids = IDS if metric in SCORES else None
    step = 1e-5
    slope = [
        (metrics.measure(metric, clean, row + step * one, ids).value
         - metrics.measure(metric, clean, row - step * one, ids).value) / (2 * step)
        for one in np.eye(11)
    ]  # fmt: skip
    assert gradient(metric, clean, row, IDS) == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_a_gradient_of_huge_logits_is_finite(metric):
    steep = gradient(metric, np.array([1e200, -2e200, 3e200]), np.array([2e200, 1e200, 3e200]))
    assert np.isfinite(steep).all()
    assert steep.any()


def test_a_distance_of_a_row_to_itself_has_no_gradient():
    row = np.arange(4.0)
    assert all(gradient(metric, row, row) is None for metric in METRICS if metric not in SCORES)
    assert gradient("log_prob", row, row, AnswerTokens(1, 2)) is not None


# -- against runs ------------------------------------------------------------------------------------------------------


def slope_by_runs(model, made, patch, metric, clean, step=0.002):
    """Return how fast a metric changes as the patch is put in bit by bit, by two runs on either side."""
    point, pairs = patch.point, zip(made.hooks, made.apart, strict=True)
    apart = next(each for hook, each in pairs if hook.module is point.module and hook.is_input == point.is_input)
    tokens = resolve_positions(patch.positions, len(made.ids))
    here = mx.array([token in tokens for token in range(len(made.ids))])[None, :, None]
    moved = mx.where(here & slice_of(patch.point, apart.shape[-1]), apart, 0)

    def of(share):
        logits = intercept.edited(model, made.ids, [(patch.point, lambda value: value + share * moved)])
        return metrics.measure(metric, clean, metrics.host_row(logits), IDS if metric in SCORES else None).value

    return (of(step) - of(-step)) / (2 * step)


@pytest.mark.parametrize("metric", ["l2", "logit_diff"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mamba2", "qwen3_moe"])
def test_an_estimate_is_the_slope_at_the_unpatched_run(name, metric):
    model = architecture(name, "float32").build()
    inside = {"llama": ("mlp_out", "z", "k", "mlp_post"), "gemma2": ("mlp_out", "z", "q"), "gpt2": ("q", "k", "v")}
    components = ("resid_pre", "attn_out", *inside.get(name, ()))
    asked = question(components, "each")
    patches = patches_of(intercept.resolve(model, asked.sweep), "each", len(CLEAN))
    made = slopes(model, CLEAN, CORRUPTED, patches)
    clean, row = metrics.host_row(made.source), metrics.host_row(made.target)
    found = made.changes(lambda logits: gradient(metric, clean, row, IDS), patches)
    largest = max(map(abs, found))
    for patch, change in list(zip(patches, found, strict=True))[::5]:
        assert change == pytest.approx(slope_by_runs(model, made, patch, metric, clean), abs=0.01 * largest), patch


def curves_of(engine, model, asked):
    given = answer(engine if isinstance(engine, EstimateEngine) else engine_named(engine), model, asked)
    return {(curve.component, curve.metric): [cell.recovery for cell in curve.cells] for curve in given.curves}, given


@pytest.mark.parametrize(("metric", "direction"), [
    ("l2", Direction.DENOISING), ("logit_diff", Direction.DENOISING), ("logit_diff", Direction.NOISING),
])  # fmt: skip
def test_an_estimate_of_a_linear_model_is_exact(metric, direction):
    model = load("dial-152k-f32")
    asked = question(("mlp", "resid_post"), metrics=(metric,), direction=direction, ids=((0, 1), (2, 1)))
    (ours, _), (exact, _) = curves_of("attribution", model, asked), curves_of("native", model, asked)
    for key, readings in exact.items():
        assert [each.value for each in ours[key]] == pytest.approx([each.value for each in readings], abs=1e-3)


def test_the_mean_gradient_adds_up_to_the_whole_change():
    """Integrated gradients are complete: the first residual carries everything."""
    model = architecture("llama", "float32").build()
    asked = question(("resid_pre",), metrics=("logit_diff", "log_prob", "l2"))
    once, _ = curves_of("attribution", model, asked)
    for steps, within in ((20, 5.0), (80, 0.5)):
        engine = EstimateEngine("mean", "", steps=steps)
        for key, readings in curves_of(engine, model, asked)[0].items():
            assert readings[0].value == pytest.approx(100, abs=within), key
            assert abs(once[key][0].value - 100) > 20


def test_positions_add_up_and_one_pass_of_gradients_serves_all():
    model = architecture("qwen3", "float32").build()
    whole, _ = curves_of("attribution", model, question(("mlp_out",), metrics=SCORES))
    each, given = curves_of("attribution", model, question(("mlp_out",), "each", SCORES))
    some, _ = curves_of("attribution", model, question(("mlp_out",), (1, -1), SCORES))
    tokens = len(CLEAN)
    for key, readings in whole.items():
        grid = np.array([reading.value for reading in each[key]]).reshape(-1, tokens)
        assert grid.sum(axis=1) == pytest.approx([reading.value for reading in readings], abs=1e-3)
        assert grid[:, [1, -1]].sum(axis=1) == pytest.approx([reading.value for reading in some[key]], abs=1e-3)
    assert given.strategy == "backward"
    assert all(cell.oracle.state is State.UNKNOWN for curve in given.curves for cell in curve.cells)


def test_a_distance_is_not_answered_when_noising():
    model = architecture("llama", "float32").build()
    curves, given = curves_of("attribution", model, question(("mlp_out",), direction=Direction.NOISING))
    assert set(curves) == {("mlp_out", "logit_diff"), ("mlp_out", "log_prob")}
    assert {each.metric for each in given.unanswered} == {"l2", "mse", "cosine", "kl_divergence"}


def test_prompts_that_are_equal_have_no_recovery():
    model = architecture("llama", "float32").build()
    curves, _ = curves_of("attribution", model, question(("mlp_out",), ids=(CLEAN, CLEAN)))
    assert not any(reading.finite for readings in curves.values() for reading in readings)


def test_quantised_weights_have_gradients():
    model = load("qwen3-152k-q4")
    curves, _ = curves_of("attribution", model, question(("attn_out", "mlp_out"), metrics=SCORES))
    assert all(reading.finite for readings in curves.values() for reading in readings)


def test_a_module_that_runs_twice_is_refused():
    model = architecture("iquestloopcoder", "float32").build()
    with pytest.raises(TapError, match="called more than once in a pass"):
        curves_of("attribution", model, question(("mlp",), metrics=SCORES))
