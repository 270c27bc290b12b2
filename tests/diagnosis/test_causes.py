"""The causes of what is not finite: each rule on its fault, on its nearest look-alike, and on the sound twin."""

from __future__ import annotations

import re

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from planting import CLEAN, behave, build, module_of, put, returning

from harness.diagnosis import diagnose
from harness.diagnosis.causes import arithmetic as in_float64
from harness.diagnosis.causes.arithmetic import INVALID, OVERFLOW, UNEXPLAINED, number, verdict_of
from harness.diagnosis.causes.cause import RULES
from harness.diagnosis.causes.facts import facts_of
from harness.diagnosis.causes.origin import origin_of
from harness.diagnosis.trail.flow import trail
from harness.diagnosis.trail.operations import replay
from harness.diagnosis.zoo import ZOO, arithmetic
from harness.diagnosis.zoo import models as zoo_models
from harness.diagnosis.zoo.clean import subjects

MLP, ATTENTION, BLOCK = "model.layers.1.mlp", "model.layers.1.self_attn", "model.layers.1"


def changed(path, call, dtype="float16", architecture="llama", **row):
    """A small model in which `call(own, *args)` stands for one module."""
    model = build(architecture, dtype, **row)
    behave(module_of(model, path), call)
    return model


def zoo(fault, variant="", architecture="llama"):
    """The diagnosis of a planting of the zoo."""
    (planting,) = (p for p in ZOO[fault].plantings if (p.architecture, p.variant) == (architecture, variant))
    with planting.plant(architecture) as arguments:
        return diagnose(**arguments)


def on(model, **asked):
    return diagnose(model, prompt=CLEAN, **asked)


# -- faults that look like another one ---------------------------------------------------------------------------------


def tied_head_overflows():
    model = build("gemma2")
    module_of(model, "model.embed_tokens").weight[11] = 6e4
    behave(module_of(model, "model.norm"), lambda own, x: mx.abs(own(x)) + 1)
    return on(model)


def a_nan_is_added_to_the_residual():
    nan = mx.where(mx.arange(64) == 5, mx.nan, 0.0).astype(mx.float16)
    return on(changed(BLOCK, lambda own, x, *a, **k: own(x, *a, **k) + nan))


def every_score_of_a_row_overflows():
    def attention(own, x, *args, **kwargs):
        large = mx.abs(x) / mx.abs(x).max() * 230 + 30
        return mx.softmax(-(large @ large.swapaxes(-1, -2)), axis=-1) @ x

    return on(changed(ATTENTION, attention))


def a_slot_that_is_read_by_rights():
    return on(returning(build(), f"{ATTENTION}.v_proj", ((0, 2, 3), np.nan)))


def a_lost_epsilon_that_harms_nobody():
    def mlp(own, x):
        normed = x * mx.rsqrt(mx.mean(x * x, axis=-1, keepdims=True) + 1e-8)
        return own(normed) + x / (x * 0)

    return on(changed(MLP, mlp))


def a_difference_beside_a_negative_root():
    def mlp(own, x):
        small = (x + 1e4) - 1e4 if x.dtype != mx.float16 else (x + 100) - 100
        return own(x) + small * 0 + mx.sqrt(-1 - mx.abs(x))

    return on(changed(MLP, mlp))


def a_quantised_product_of_large_inputs():
    model = build(dtype="float16", quantize="4bit")
    behave(module_of(model, f"{MLP}.down_proj"), lambda own, x: own(mx.full(x.shape, 6e4, x.dtype)))
    return on(model)


def the_last_projection_of_attention_overflows():
    model = build()
    layer = module_of(model, f"{ATTENTION}.o_proj")
    layer.weight = put(layer.weight, ((3,), 6e4))
    behave(module_of(model, f"{ATTENTION}.v_proj"), lambda own, x: own(x) * 0 + 40)
    return on(model)


def an_inf_in_a_table():
    return on(changed(MLP, lambda own, x: own(x) * mx.array([1.0] * 63 + [np.inf], x.dtype)))


def inf_over_inf():
    return on(changed(MLP, arithmetic.routed(subtract=False)))


def a_token_that_is_not_finite_anywhere():
    model = build()
    seen = {}
    behave(module_of(model, "model"), lambda own, ids, *a, **k: own(seen.setdefault("ids", ids), *a, **k))

    def mlp(own, x):
        bad = (seen.pop("ids", mx.zeros((1, x.shape[1]))) == CLEAN[4])[..., None]
        return own(x) + mx.where(bad, mx.nan, 0.0).astype(x.dtype)

    behave(module_of(model, MLP), mlp)
    return on(model)


CASES = {
    "DIA202": (lambda: zoo("F10"), tied_head_overflows),
    "DIA203": (lambda: zoo("F08"), a_nan_is_added_to_the_residual),
    "DIA204": (lambda: zoo("F09"), inf_over_inf),
    "DIA205": (lambda: zoo("F12", "additive"), every_score_of_a_row_overflows),
    "DIA206": (lambda: zoo("F13"), a_slot_that_is_read_by_rights),
    "DIA207": (lambda: zoo("F06"), a_lost_epsilon_that_harms_nobody),
    "DIA208": (lambda: on(changed(MLP, cancelling)), a_difference_beside_a_negative_root),
    "DIA211": (lambda: zoo("F14", "beyond the range"), a_quantised_product_of_large_inputs),
    "DIA212": (lambda: zoo("F34", "scores"), the_last_projection_of_attention_overflows),
    "DIA214": (lambda: zoo("F34", "router, float16"), an_inf_in_a_table),
    "DIA215": (lambda: zoo("F31", "guarded exp"), inf_over_inf),
    "DIA218": (lambda: zoo("F36", "position"), a_token_that_is_not_finite_anywhere),
}


def cancelling(own, x):
    """A variance as the mean of squares less the square of the mean, of values that hardly differ."""
    large = mx.full(x.shape, 20.0, x.dtype) + mx.arange(x.shape[-1]).astype(x.dtype) * 0.001
    variance = mx.mean(large * large, axis=-1, keepdims=True) - mx.square(mx.mean(large, axis=-1, keepdims=True))
    return own(x) * mx.rsqrt(variance)


def test_every_rule_is_here_and_what_no_rule_explains_is_suspected_only():
    assert set(CASES) == {*RULES, "DIA218"}
    found = on(returning(build(), MLP, ((0, 2, 3), np.nan)))
    assert (found.cause.code, found.cause.confidence) == ("DIA201", "suspected")


@pytest.mark.parametrize("code", CASES)
def test_a_rule_names_its_fault(code):
    assert CASES[code][0]().cause.code == code


@pytest.mark.parametrize("code", CASES)
def test_a_look_alike_is_another_fault(code):
    found = CASES[code][1]()
    assert found.cause is not None
    assert code not in [each.code for each in found.findings]


@pytest.mark.parametrize("code", CASES)
def test_one_rule_at_most_applies(code, monkeypatch):
    """A rule does not lean on the ones that stand before it."""
    applied = []
    noted = lambda *a: applied.append(facts_of(*a)) or applied[-1]  # noqa: E731
    monkeypatch.setattr("harness.diagnosis.causes.cause.facts_of", noted)
    for found in CASES[code]:
        applied.clear()
        found()
        for facts in applied:
            named = [rule for rule, (applies, finding) in RULES.items() if applies(facts) and finding(facts)]
            assert len(named) <= 1


@pytest.mark.parametrize("name", arithmetic.TWINS)
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_the_sound_twin_is_left_alone(name, architecture):
    (twin,) = (each for each in subjects() if each.name == f"{architecture}, {name}")
    arguments = twin.arguments()
    assert diagnose(arguments["model"], prompt=arguments["clean"]).findings == ()


# -- what is said ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "has", "has_not"),
    [("float16", "bfloat16 or float32", "no wider"), ("bfloat16", "subtract the maximum", "run it"),
     ("float32", "subtract the maximum", "run it")],
)  # fmt: skip
def test_a_wider_dtype_is_a_remedy_only_where_one_holds_the_value(dtype, has, has_not):
    cause = on(changed(MLP, arithmetic.routed(subtract=False), dtype)).cause
    assert has in cause.hint
    assert has_not not in cause.hint
    assert f"beyond {dtype}'s" in cause.message
    assert cause.hint in on(changed(MLP, arithmetic.routed(subtract=False), dtype)).paragraph


def test_scores_that_fit_once_scaled_are_to_be_scaled_first():
    found = zoo("F34", "scores")
    value, scaled = (found.cause.evidence[key] for key in ("value", "scaled"))
    assert scaled == pytest.approx(abs(value) / 64)
    assert "scale before the product" in found.cause.hint
    assert re.search(r"-?[\d.]+ x -?[\d.]+ summed over 64 = [\d,]+, beyond float16's 65,504", found.cause.message)


def test_no_remedy_claims_more_than_the_evidence():
    assert "at least this" not in zoo("F09").paragraph


def test_the_group_is_named_with_its_scale_and_bias():
    cause = zoo("F14", "beyond the range").cause
    assert (cause.evidence["row"], cause.evidence["group"], cause.evidence["scale"]) == (3, 1, 6000)
    assert "quantise" in cause.hint


def test_a_value_that_is_thrown_away_by_a_child_is_not_the_cause():
    class Exponential(nn.Module):
        def __call__(self, x):
            return mx.exp(x)

    model = build()
    mlp = module_of(model, MLP)
    mlp.exponential = Exponential()

    def call(own, x):
        shares = mx.minimum(mlp.exponential(x * 0 + 20), mx.array(1, x.dtype)) - 1
        return own(x) * (shares / shares.sum(axis=-1, keepdims=True))

    behave(mlp, call)
    found = on(model)
    assert (found.cause.code, found.place.module) == ("DIA215", MLP)
    assert "0/0" in found.cause.message


def test_the_first_of_two_faults_that_both_reach_the_output_is_named():
    model = build()
    behave(module_of(model, MLP), arithmetic.rooted(-1.0))
    behave(module_of(model, "model.layers.2.mlp"), arithmetic.routed(subtract=False))
    assert on(model).place.module == MLP


def test_a_call_of_a_shared_module_is_counted():
    cause = zoo("F36", "second call").cause
    assert "call 2 of this forward (the first call is finite, this one is not)" in cause.message
    assert cause.confidence == "suspected"


# -- dtypes ------------------------------------------------------------------------------------------------------------


def widened(layers, path="mlp", dtype="float16"):
    model = build(dtype=dtype)
    for layer in layers:
        behave(module_of(model, f"model.layers.{layer}.{path}"), arithmetic.widening)
    return model


def test_a_layer_that_widens_the_residual_is_named():
    found = on(widened([2]))
    assert [(each.code, each.place.module) for each in found.findings] == [("DIA216", "model.layers.2.mlp")]
    assert "the residual stream is float32 from layer 2 on" in found.findings[0].message
    assert found.verdict == "clean"


def test_a_dtype_that_was_asked_for_and_is_left_is_an_error():
    found = on(widened([2], dtype="float32"), dtype="float16")
    assert [(each.code, each.place.module) for each in found.findings] == [("DIA217", "model.layers.2.mlp")]


@pytest.mark.parametrize("asked", [None, "float16"])
def test_what_every_layer_widens_is_how_the_architecture_computes(asked):
    model = build(dtype="float32" if asked else "float16")
    for layer in range(4):
        own_dtype = module_of(model, f"model.layers.{layer}.mlp")
        behave(own_dtype, lambda own, x: own(x.astype(mx.float32)).astype(x.dtype))
        behave(own_dtype.down_proj, arithmetic.widening)
    assert on(model, dtype=asked).findings == ()


# -- float64 -----------------------------------------------------------------------------------------------------------


def verdict(compute, *arrays):
    """What float64 says of the operation behind the first value that is not finite in `compute(*arrays)`."""

    class Model(nn.Module):
        def __call__(self, ids):
            return compute(*arrays)

    return verdict_of(origin_of(replay(Model(), [0], "", 1)))


def half(*values):
    return mx.array(values, mx.float16)


def test_a_product_of_matrices_is_said_with_its_largest_term_and_its_sum():
    a, b = np.full((1, 16), 1.0), np.full((16, 1), 1.0)
    a[0, 3], b[3, 0], a[0, 5], b[5, 0] = 226.75, 227.5, 139.0, 138.875
    found = verdict(lambda x, y: x @ y, mx.array(a).astype(mx.float16), mx.array(b).astype(mx.float16))
    assert found.kind == OVERFLOW
    assert found.value == pytest.approx(226.75 * 227.5 + 139 * 138.875 + 14)
    assert found.text == f"226.8 x 227.5 summed over 16 = {found.value:,.0f}"
    assert found.beyond() == "beyond float16's 65,504"


INVALIDS = {
    "0/0": lambda: verdict(lambda x: x / x, half(0.0)),
    "1/0": lambda: verdict(mx.reciprocal, half(0.0)),
    "0 x inf": lambda: verdict(lambda x: x * mx.log(x), half(0.0)),
    "log(0)": lambda: verdict(lambda x: mx.log(x), half(0.0)),
    "sqrt(-2)": lambda: verdict(lambda x: mx.sqrt(x), half(-2.0)),
    "inf - inf": lambda: verdict(lambda x, y: (mx.where(y > 0, x, -mx.inf)) - (-mx.inf), half(1.0), half(0.0)),
}


@pytest.mark.parametrize("text", ["0/0", "log(0)", "sqrt(-2)"])
def test_arithmetic_without_a_value_is_named(text):
    found = INVALIDS[text]()
    assert (found.kind, found.text) == (INVALID, text)


def test_a_logarithm_of_zero_is_behind_zero_times_infinity():
    assert INVALIDS["0 x inf"]().text == "log(0)"


@pytest.mark.parametrize(
    ("compute", "inside"),
    [(lambda x: mx.mean(x), "a partial sum"), (lambda x: mx.var(x * mx.arange(4).astype(x.dtype)), "a sum of squares")],
    ids=["mean", "var"],
)
def test_what_leaves_the_range_inside_an_operation_is_said(compute, inside):
    found = verdict(compute, half(3e4, 3e4, 1e4, 2e4) if inside == "a partial sum" else half(200.0, 200, 200, 200))
    assert (found.kind, found.inside) == (OVERFLOW, True)
    assert inside in found.text


def test_an_operation_that_float64_and_the_range_do_not_explain_is_no_overflow():
    """A kernel that is wrong in float16 only: the value would fit."""

    kept = replayed_sum()
    broken = lambda a: mx.sum(a) if a.dtype == mx.float64 else mx.array(mx.inf, a.dtype)  # noqa: E731
    object.__setattr__(kept.operation.kept.call, "function", broken)
    assert verdict_of(kept).kind == UNEXPLAINED


def replayed_sum():
    """The origin of an infinite sum; its operands are exchanged for ones of which the sum would fit."""

    class Model(nn.Module):
        def __call__(self, ids):
            return mx.sum(half(6e4, 6e4))

    origin = origin_of(replay(Model(), [0], "", 1))
    object.__setattr__(origin.operation.kept.call, "args", (half(1.0, 2.0),))
    return origin


@pytest.mark.parametrize(
    ("value", "text"), [(70911.25, "70,911"), (226.8, "226.8"), (3.4e38, "3.4e+38"), (0.0, "0"), (1e-8, "1e-08")]
)
def test_numbers_as_people_read_them(value, text):
    assert number(value) == text


def test_an_operation_in_place_and_one_through_a_view_are_followed():
    def compute(x):
        x += 6e4
        y = x.T
        y[0] = y[0] + 6e4
        return y.reshape(-1)

    found = verdict(compute, half(1.0, 2.0).reshape(1, 2))
    assert found.text == "60,000 + 60,000 = 120,000"


def test_methods_that_a_model_calls_on_a_module_are_in_the_trail():
    found = trail(build("gemma2").module, CLEAN, "clean")
    assert [frame.module for frame in found.frames if frame.method == "as_linear"] == ["model.embed_tokens"]


def test_a_norm_that_squares_in_half_precision_and_returns_zero_is_named_though_all_is_finite():
    def by_hand(own, x):
        return x * mx.rsqrt(mx.mean(x * x, axis=-1, keepdims=True) + 1e-5)

    for large, found in ((300, ["DIA214"]), (3, [])):
        model = changed(f"{BLOCK}.input_layernorm", by_hand)
        behave(module_of(model, "model.embed_tokens"), lambda own, ids, size=large: own(ids) + size)
        diagnosed = on(model)
        assert [each.code for each in diagnosed.findings] == found
        assert all(each.place.module == f"{BLOCK}.input_layernorm" for each in diagnosed.findings)


def test_an_embedding_that_leaves_the_dtype_that_was_asked_for():
    model = changed("model.embed_tokens", lambda own, ids: own(ids).astype(mx.float32), "float32")
    assert [(each.code, each.place.module) for each in on(model, dtype="float16").findings] == [
        ("DIA217", "model.embed_tokens")
    ]


def test_a_denominator_that_was_rounded_to_zero_is_told_from_one_that_is_zero():
    rounded = changed(MLP, lambda own, x: own(x) + 1e-6 / mx.square(mx.full(x.shape, 1e-5, x.dtype)))
    zero = changed(MLP, lambda own, x: own(x) + 1e-6 / mx.square(x * 0))
    assert "rounded one to 0" in on(rounded).cause.message
    assert "float32" in on(rounded).cause.hint
    assert "rounded" not in on(zero).cause.message


@pytest.mark.parametrize(
    ("hide", "named"),
    [(lambda gate: gate > 0, "gt"), (lambda gate: mx.minimum(gate, 4), "minimum"), (mx.isnan, ""),
     (lambda gate: mx.round(gate).astype(mx.uint8), "astype")],
    ids=["a comparison", "a minimum", "a function that was bound before", "a conversion"],
)  # fmt: skip
def test_what_hides_a_value_is_named_where_it_is_seen(hide, named):
    with arithmetic.hiding(hide, float("inf"))("llama") as arguments:
        found = diagnose(**arguments)
    (hidden,) = {each.message for each in found.findings if each.code == "DIA210" and "clean" in each.message}
    assert f"`{named}`" in hidden if named else "where" not in hidden


@pytest.mark.parametrize("quantize", [None, "4bit"])
def test_a_product_with_gathered_experts_is_repeated_in_float64(quantize):
    """Every element has the value of MLX's own kernel; with weights beyond the range, what float32 cannot hold."""
    model = zoo_models.build("qwen3_moe", "float32", **({"quantize": quantize} if quantize else {}))
    experts = model.module.model.layers[1].mlp.switch_mlp
    seen = replay(model.module, zoo_models.CLEAN, "model.layers.1.mlp.switch_mlp.up_proj", 1)
    (product,) = (each for each in seen.operations if each.name.startswith("gather_"))
    kernel = np.array(product.kept.result).reshape(-1)
    chosen = np.random.default_rng(0).integers(kernel.size, size=12)
    np.testing.assert_allclose(
        [in_float64._wide(product, int(i)) for i in chosen], kernel[chosen], rtol=1e-4, atol=1e-6
    )
    for layer, factor in ((experts.up_proj, 1e10), (experts.down_proj, 1e30)):
        for name in ("scales", "biases") if quantize else ("weight",):
            layer[name] = layer[name] * factor
    found = diagnose(**zoo_models.both(model)).cause
    assert (found.code, found.confidence, found.place.module) == (
        "DIA204", "proven", "model.layers.1.mlp.switch_mlp.down_proj",
    )  # fmt: skip
    assert found.evidence["limit"] < abs(found.evidence["value"]) < 1e42
