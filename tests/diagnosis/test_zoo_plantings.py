"""Every planting does what the fault is about, seen by a dumb tracer and by arithmetic, without any diagnoser."""

from __future__ import annotations

import json
from pathlib import Path

import dumb_tracer
import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from harness.diagnosis.zoo import ZOO
from harness.diagnosis.zoo.models import CLEAN, CORRUPTED, build
from harness.diagnosis.zoo.patching import Proxy, instance_call, proxied_blocks, proxied_head, saving_float32
from harness.diagnosis.zoo.trial import required_place
from harness.engines import engine_named

LAYERS = list(range(4))
VISIBLE = ("F03", "F06", "F08", "F09", "F10", "F12", "F13", "F18")


def plantings(*names, where=lambda planting: True):
    chosen = [(ZOO[name], planting) for name in names for planting in ZOO[name].plantings if where(planting)]
    ids = [f"{fault.id} {planting.name}" for fault, planting in chosen]
    return pytest.mark.parametrize(("fault", "planting"), chosen, ids=ids)


def in_a_run(planting):
    return planting.variant not in ("boolean", "by us") and planting.place.get("run") != "weights"


def logits(root, ids=CLEAN):
    return np.array(root(mx.array([list(ids)]))[0, -1].astype(mx.float32)).astype(np.float64)


def l2(a, b):
    return float(np.linalg.norm(a.astype(np.float64) - b.astype(np.float64)))


def weights_of(folder):
    return mx.load(str(Path(folder) / "model.safetensors"))


# -- where a value stops being finite ----------------------------------------------------------------------------------


@plantings(*VISIBLE, where=in_a_run)
def test_a_value_that_is_not_finite_appears_where_the_planting_says(fault, planting):
    required = required_place(planting)
    with planting.plant(planting.architecture) as arguments:
        root = arguments["model"].module
        calls = dumb_tracer.trace(root, arguments.get("prompt", CLEAN))
        first = dumb_tracer.first_place(calls)
        assert first is not None
        assert first.path == required["module"]
        seen = dumb_tracer.elements(first, calls)
        assert any(required.get("token", token) == token for token, _ in seen)
        assert any(required.get("dimension", dimension) == dimension for _, dimension in seen)
        assert dumb_tracer.parameters_finite(first.module)
        assert not dumb_tracer.finite(dumb_tracer.replayed(first))
        assert not np.isfinite(logits(root)).all()


@plantings("F08")
def test_a_residual_stream_beyond_float16_is_finite_in_bfloat16(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        root = arguments["model"].module
        calls = dumb_tracer.trace(root, CLEAN)
        before = next(call for call in calls if call.path == required_place(planting)["module"]).args[0].values
        assert 5.9e4 < np.abs(before).max() < 65504
        root.set_dtype(mx.bfloat16)
        assert np.isfinite(logits(root)).all()


@plantings("F09")
def test_an_mlp_overflows_between_its_projections(fault, planting):
    mlp = required_place(planting)["module"]
    with planting.plant(planting.architecture) as arguments:
        calls = {call.path: call for call in dumb_tracer.trace(arguments["model"].module, CLEAN)}
        for part in ("gate_proj", "up_proj"):
            assert calls[f"{mlp}.{part}"].out.values[0, 2, 5] == pytest.approx(300, rel=5e-3)
        product = calls[f"{mlp}.down_proj"].args[0].values
        assert [tuple(index) for index in np.argwhere(~np.isfinite(product))] == [(0, 2, 5)]


@plantings("F10")
def test_two_infs_in_the_embedding_make_every_logit_nan(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        first = dumb_tracer.first_place(dumb_tracer.trace(arguments["model"].module, CLEAN))
        assert np.isposinf(first.out.values).sum() == 2
        assert np.isnan(logits(arguments["model"].module)).all()


@plantings("F12", where=lambda planting: planting.variant == "boolean")
def test_an_empty_boolean_row_gives_a_finite_average_over_all_tokens(fault, planting):
    """A uniform softmax makes row 2 the mean of all values, those of later tokens among them."""
    with planting.plant(planting.architecture) as arguments:
        root, path = arguments["model"].module, required_place(planting)["module"]
        calls = {call.path: call for call in dumb_tracer.trace(root, CLEAN)}
        name, projection = ("c_attn", "c_proj") if planting.architecture == "gpt2" else ("v_proj", "o_proj")
        values = calls[f"{path}.{name}"].out.values[0]
        heads = 4
        width = 64 if planting.architecture == "gpt2" else 32
        mean = values[:, -width:].mean(axis=0).reshape(-1, 16).repeat(heads * 16 // width, axis=0)
        assert np.isfinite(logits(root)).all()
        np.testing.assert_allclose(calls[f"{path}.{projection}"].args[0].values[0, 2], mean.reshape(-1), atol=5e-3)


@plantings("F13")
def test_a_slot_that_nobody_may_see_reaches_every_token_those_before_it_too(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        calls = {call.path: call for call in dumb_tracer.trace(arguments["model"].module, CLEAN)}
        attention = required_place(planting)["module"].rpartition(".")[0]
        mask = calls[attention].args[1].values
        assert not np.delete(mask, 2, axis=0)[:, 2].any()
        assert np.isnan(calls[attention].out.values[0]).any(axis=-1).all()


# -- weights -----------------------------------------------------------------------------------------------------------


@plantings("F11")
def test_a_cast_to_float16_loses_exactly_the_planted_weights(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        over, flushed = {}, {}
        for name, array in weights_of(arguments["model"]).items():
            wide = np.array(array.astype(mx.float32))
            with np.errstate(over="ignore", under="ignore"):
                half = wide.astype(np.float16)
            over[name], flushed[name] = int(np.isinf(half).sum()), int(((half == 0) & (wide != 0)).sum())
        name = required_place(planting)["module"]
        assert {key: count for key, count in over.items() if count} == {name: 3}
        assert {key: count for key, count in flushed.items() if count} == {name: 5}


@plantings("F14")
def test_one_group_has_a_broken_scale(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        if planting.variant == "beyond the range":
            assert all(map(dumb_tracer.parameters_finite, arguments["model"].module.modules()))
            assert not np.isfinite(logits(arguments["model"].module)).all()
            return
        scales = dict(tree_flatten(arguments["model"].module.parameters()))[required_place(planting)["module"]]
        broken = ~np.isfinite(np.array(scales)) | (np.array(scales) == 0)
        assert [tuple(index) for index in np.argwhere(broken)] == [(3, 1)]
        assert np.isfinite(logits(arguments["model"].module)).all() == (planting.variant == "zero")


@plantings("F15")
def test_quantising_leaves_nothing_of_the_nan_to_be_seen(fault, planting):
    required = required_place(planting)
    with planting.plant(planting.architecture) as arguments:
        before = weights_of(arguments["before"])
        index = np.argwhere(np.isnan(np.array(before[required["module"]])))
        assert [tuple(each) for each in index] == [(required["token"], required["dimension"])]
        quantised = (
            weights_of(arguments["model"])
            if isinstance(arguments["model"], str)
            else dict(tree_flatten(arguments["model"].module.parameters()))
        )
        floating = [array for array in quantised.values() if mx.issubdtype(array.dtype, mx.floating)]
        assert all(np.isfinite(np.array(array.astype(mx.float32))).all() for array in floating)
        if not isinstance(arguments["model"], str):
            assert np.isfinite(logits(arguments["model"].module)).all()


@plantings("F16")
def test_a_tensor_is_missing_cut_off_zero_or_as_initialised(fault, planting):
    name = required_place(planting).get("module")
    with planting.plant(planting.architecture) as arguments:
        if planting.variant == "missing":
            names = json.loads((arguments["model"] / "config.json").read_text())
            assert names["model_type"] == planting.architecture
            assert name not in weights_of(arguments["model"])
        elif planting.variant == "truncated":
            with pytest.raises(RuntimeError):
                mx.eval(weights_of(arguments["model"]))
        else:
            weight = np.array(dict(tree_flatten(arguments["model"].module.parameters()))[name])
            bound = 0 if planting.variant == "zero" else weight.shape[-1] ** -0.5
            assert np.abs(weight).max() <= bound
            assert np.isfinite(logits(arguments["model"].module)).all()


# -- metrics and recoveries --------------------------------------------------------------------------------------------


def rows_of(arguments):
    """The two rows of logits a planting is about, as the model or the sender has them."""
    if "logits" in arguments:
        return [mx.array(row) for row in arguments["logits"]]
    runs = (arguments["clean"], arguments["corrupted"])
    return [arguments["model"].module(mx.array([list(ids)]))[0, -1] for ids in runs]


def host(row):
    return np.array(row.astype(mx.float32)).astype(np.float64)


def reported(arguments):
    engine = arguments["engine"] if not isinstance(arguments["engine"], str) else engine_named(arguments["engine"])
    return engine.formula.distance(arguments.get("metric", "l2"), *rows_of(arguments))


@plantings("F01")
def test_finite_logits_whose_float16_l2_is_not(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        clean, corrupted = map(host, rows_of(arguments))
        assert np.isfinite(clean).all()
        assert np.isfinite(corrupted).all()
        assert l2(clean, corrupted) > 65520**0.5
        assert len(planting.numbers) < 2 or l2(clean, corrupted) == pytest.approx(planting.numbers[1], rel=2e-3)
        assert reported(arguments) == np.inf


@plantings("F04", "F05")
def test_a_formula_that_makes_nan_of_legal_logits(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        rows = [host(row) for row in rows_of(arguments)]
        assert not np.isnan(rows).any()
        assert not np.isposinf(rows).any()
        assert np.array_equal(*map(np.isneginf, rows))
        assert np.isnan(reported(arguments))


@plantings("F05")
def test_suppressed_ids_are_those_stated(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        clean, corrupted = map(host, rows_of(arguments))
        ids = np.flatnonzero(np.isneginf(clean))
        if planting.architecture == "phi3small":
            assert len(ids) == 91
        else:
            assert set(planting.numbers) >= set(ids)
        if planting.architecture == "arrays":
            kept = np.isfinite(clean)
            assert l2(clean[kept], corrupted[kept]) == 5


@plantings("F07")
def test_a_cosine_distance_that_cancels(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        clean, corrupted = (host(row).astype(np.longdouble) for row in rows_of(arguments))
        units = [row / np.sqrt((row * row).sum()) for row in (clean, corrupted)]
        true = float(np.square(units[0] - units[1]).sum() / 2)
        assert not planting.numbers or true == pytest.approx(planting.numbers[0], rel=1e-6)
        assert abs(reported(arguments) - true) > 0.5 * true


@plantings("F23")
def test_a_shift_that_softmax_does_not_see(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        clean, corrupted = map(host, rows_of(arguments))
        np.testing.assert_allclose(corrupted - clean, 5, atol=1e-5)


@plantings("F02")
def test_two_runs_that_are_one(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        assert np.array_equal(*map(host, rows_of(arguments)))


@plantings("F03")
def test_a_guard_answers_zero_to_a_baseline_of_nan(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        assert np.isnan(reported(arguments))
        formula = engine_named(arguments["engine"]).formula
        assert formula.recovery(reported(arguments), 1.0) == 0.0


@plantings("F21")
def test_prompts_of_6_and_8_tokens(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        clean, corrupted = arguments["clean"], arguments["corrupted"]
        assert (len(clean), len(corrupted)) == (6, 8)
        assert next(i for i, pair in enumerate(zip(clean, corrupted, strict=False)) if len(set(pair)) == 2) == 2


# -- builds and engines ------------------------------------------------------------------------------------------------


@plantings("F17")
def test_a_module_is_wrong_from_38_tokens_on(fault, planting):
    sound = build(planting.architecture, "float32").module
    with planting.plant(planting.architecture) as arguments:
        ids = (np.arange(64) % 200).tolist()
        same = [
            np.allclose(*(logits(root, ids[:length]) for root in (arguments["model"].module, sound)), atol=1e-4)
            for length in (1, 6, 36, 37, 38, 39, 64)
        ]
        assert same == [True] * 4 + [False] * 3


@plantings("F18")
def test_only_the_compiled_block_is_wrong(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        root, ids = arguments["model"].module, mx.array([list(CLEAN)])
        assert np.isfinite(logits(root)).all() == (planting.variant == "by us")
        assert np.isnan(np.array(mx.compile(root)(ids))).any()
        mx.disable_compile()
        try:
            assert np.isfinite(logits(root)).all()
        finally:
            mx.enable_compile()


@plantings("F19")
def test_a_primitive_that_does_not_see_nan(fault, planting):
    with planting.plant(planting.architecture):
        primitive = getattr(mx, planting.variant)
        assert not np.isnan(np.array(primitive(mx.array([1.0, mx.nan])))).any()
        assert not np.array(primitive(mx.array([1.0, mx.nan]))).astype(bool)[()].any() or planting.variant != "isnan"
    assert np.array(mx.isnan(mx.max(mx.array([1.0, mx.nan]))))


@plantings("F20", "F22")
def test_an_engine_leaves_the_model_as_it_was_and_reports_every_layer(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        root = arguments["model"].module
        before = [logits(root, ids) for ids in (CLEAN, CORRUPTED)]
        if callable(arguments.get("engine")):
            found = arguments["engine"](root, CLEAN, CORRUPTED, arguments["component"], LAYERS, "l2")
            assert sorted(found) == LAYERS
        assert np.array_equal(before, [logits(root, ids) for ids in (CLEAN, CORRUPTED)])


def planted(name, index=0):
    planting = ZOO[name].plantings[index]
    return planting.plant(planting.architecture)


def test_a_patch_of_saved_float32_widens_the_run():
    with planted("F20") as arguments:
        root, seen = arguments["model"].module, set()
        norm = root.model.norm
        original = type(norm)

        def watching(self, x):
            seen.add(str(x.dtype))
            return original.__call__(self, x)

        norm.__class__ = type("Watching", (original,), {"__call__": watching})
        saving_float32(root, CLEAN, CORRUPTED, "mlp", LAYERS, "l2")
        assert seen == {"mlx.core.float16", "mlx.core.float32"}


def test_a_call_set_on_an_instance_never_happens():
    with planted("F20", 2) as arguments:
        found = instance_call(arguments["model"].module, CLEAN, CORRUPTED, "mlp", LAYERS, "l2")
        assert set(found.values()) == {0.0}


@plantings("F20", where=lambda planting: planting.variant == "a module nobody calls")
def test_an_mlp_whose_parts_work_without_it(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        called = {call.path for call in dumb_tracer.trace(arguments["model"].module, CLEAN)}
        mlp = required_place(planting)["module"]
        assert mlp not in called
        assert any(path.startswith(f"{mlp}.") for path in called)


@pytest.mark.parametrize(("index", "engine"), [(0, proxied_blocks), (1, proxied_head)], ids=["isinstance", "in"])
def test_a_traced_run_that_is_another_model(index, engine, monkeypatch):
    with planted("F22", index) as arguments:
        root, traced = arguments["model"].module, []
        call = Proxy.__call__
        monkeypatch.setattr(Proxy, "__call__", lambda self, *a, **k: traced.append(call(self, *a, **k)) or traced[-1])
        bare = {ids: logits(root, ids) for ids in (CLEAN, CORRUPTED)}
        import harness.diagnosis.zoo.patching as patching

        own, rows = patching._logits, []
        monkeypatch.setattr(patching, "_logits", lambda module, ids: rows.append(own(module, ids)) or rows[-1])
        engine(root, CLEAN, CORRUPTED, arguments["component"], LAYERS, "l2")
        assert traced
        assert l2(host(rows[0]), bare[CLEAN]) > 0.1
