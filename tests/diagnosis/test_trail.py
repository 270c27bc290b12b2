"""The trail: order of execution, the flow of what is not finite, what it costs, and what it leaves behind."""

from __future__ import annotations

import time

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from planting import CLEAN, behave, build, module_of, put, returning

from harness import models
from harness.diagnosis.outcome.nouns import layer_of
from harness.diagnosis.trail.flow import trail
from harness.models.spec import SyntheticRow

FLOWS = ("", "APPEARS", "PROPAGATES", "DISAPPEARS")


def flows(found):
    return {frame.module: frame.flow for frame in found.frames}


def test_frames_are_in_the_order_of_execution_and_every_module_that_is_called_has_one():
    model = build()
    found = trail(model.module, CLEAN, "clean")
    names = [frame.module for frame in found.frames]
    assert names[0] == "model.embed_tokens"
    assert names[-1] == ""
    assert names.index("model.layers.1.mlp.up_proj") < names.index("model.layers.1.mlp.down_proj")
    assert (
        names.index("model.layers.1.mlp.down_proj") < names.index("model.layers.1.mlp") < names.index("model.layers.1")
    )
    assert {name for name, _ in model.module.named_modules()} - set(names) == set()
    assert found.suspect is None


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_frame_says_what_numpy_says_of_the_output(dtype):
    model, seen = build(dtype=dtype), []

    def keep(own, *args):
        seen.append(own(*args))
        return seen[0]

    behave(module_of(model, "model.layers.2.mlp.gate_proj"), keep)
    found = trail(model.module, CLEAN, "clean")
    (frame,) = [frame for frame in found.frames if frame.module == "model.layers.2.mlp.gate_proj"]
    wide = np.array(seen[0].astype(mx.float32))
    assert frame.absmax == np.abs(wide).max()
    assert (frame.dtype, frame.shape, frame.layer) == (dtype, (1, 6, 128), 2)
    assert frame.headroom == float(mx.finfo(getattr(mx, dtype)).max) / frame.absmax


def test_a_value_appears_propagates_and_disappears():
    model = returning(build(dtype="float32"), "model.layers.1.mlp.up_proj", ((0, 2, 3), np.nan))
    behave(module_of(model, "model.layers.1.mlp"), lambda own, x: mx.nan_to_num(own(x)))
    found = trail(model.module, CLEAN, "clean")
    seen = flows(found)
    assert seen["model.layers.1.mlp.up_proj"] == "APPEARS"
    assert seen["model.layers.1.mlp.down_proj"] == "PROPAGATES"
    assert seen["model.layers.1.mlp"] == "DISAPPEARS"
    assert seen["model.layers.2"] == ""
    assert found.hidden
    assert found.suspect.frame.first == (2, 3)


def test_what_appears_between_two_modules_is_placed_in_the_module_that_holds_both():
    model = build()
    behave(module_of(model, "model.layers.2.self_attn"), lambda own, *a, **k: put(own(*a, **k), ((0, 3, 9), 4e4)))
    returning(model, "model.layers.1", ((0, 3, 9), 4e4))
    suspect = trail(model.module, CLEAN, "clean").suspect
    assert suspect.module == "model.layers.2"
    assert suspect.between == ("model.layers.2.self_attn", "model.layers.2.post_attention_layernorm")


def test_inputs_by_keyword_and_inside_containers_are_seen():
    class Inner(nn.Module):
        def __call__(self, *, pair):
            return {"a": mx.nan_to_num(pair[0]["x"])}

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def __call__(self, ids):
            x = mx.zeros((1, ids.shape[1], 4))
            return self.inner(pair=({"x": x + mx.array(np.nan)}, None))["a"]

    found = trail(Outer(), CLEAN, "clean")
    assert flows(found)["inner"] == "DISAPPEARS"
    assert found.suspect.module == ""
    assert found.suspect.between == ("the start", "inner")


def test_an_addition_in_place_is_not_taken_for_the_value_before_it():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Identity(), nn.Identity()

        def __call__(self, ids):
            x = self.first(mx.ones((1, ids.shape[1], 4)))
            x += mx.array(np.inf)
            return self.second(x)

    found = trail(InPlace(), CLEAN, "clean")
    assert [(frame.module, frame.flow) for frame in found.frames if frame.flow == "APPEARS"] == [("", "APPEARS")]
    assert next(frame for frame in found.frames if frame.module == "first").finite


def test_what_is_put_over_a_value_later_does_not_change_what_was_seen():
    class Overwriting(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Identity()

        def __call__(self, ids):
            x = self.first(mx.full((1, ids.shape[1], 4), mx.array(np.inf)))
            x[...] = 1.0
            return x

    frames = trail(Overwriting(), CLEAN, "clean").frames
    seen = next(frame for frame in frames if frame.module == "first")
    assert (seen.pos_inf, seen.absmax) == (4 * len(CLEAN), None)


def test_a_nan_in_float64_is_seen_on_the_device_that_has_float64():
    with mx.stream(mx.cpu):
        model = build(dtype="float32")
        model.module.set_dtype(mx.float64)
        nan = mx.array([0.0, np.nan, *[0.0] * 62], mx.float64)
        behave(module_of(model, "model.layers.1.mlp"), lambda own, x: own(x) + nan)
        suspect = trail(model.module, CLEAN, "clean").suspect
    assert (suspect.module, suspect.counts.nan, suspect.frame.first) == ("model.layers.1.mlp", len(CLEAN), (0, 1))


MEANT = ["ids ruled out", "a causal mask", "a module that makes a mask", "scores into a softmax"]


@pytest.mark.parametrize("what", MEANT)
def test_an_inf_that_is_meant_is_no_alarm(what):
    model = build(dtype="float32")
    if what == "ids ruled out":
        behave(module_of(model, "lm_head"), lambda own, x: put(own(x), ((..., [7, 9]), -np.inf)))
    if what == "a causal mask":
        mask = mx.array(np.triu(np.full((6, 6), -np.inf, np.float32), 1))
        behave(module_of(model, "model.layers.1"), lambda own, x, *a, **k: own(x, mask, None))
    if what == "a module that makes a mask":
        mask = mx.array(np.triu(np.full((1, 6, 6), -np.inf, np.float32), 1))
        model.module.maker = nn.Identity()
        behave(module_of(model, "model.layers.1"), lambda own, x, *a, **k: own(x, model.module.maker(mask), None))
    if what == "scores into a softmax":
        mlp = module_of(model, "model.layers.1.mlp")
        mlp.softmax = nn.Softmax()
        behave(mlp, lambda own, x: own(x) * mlp.softmax(put(x, ((..., 2), -np.inf))))
    found = trail(model.module, CLEAN, "clean")
    assert found.suspect is None
    assert found.suppressed == ((7, 9) if what == "ids ruled out" else ())


def test_an_inf_alone_in_an_output_is_an_overflow():
    model = returning(build(dtype="float32"), "model.layers.1.mlp.gate_proj", ((0, 2, 3), -np.inf))
    assert trail(model.module, CLEAN, "clean").suspect.module == "model.layers.1.mlp.gate_proj"


def test_a_compiled_part_is_passed_over():
    model = returning(build(dtype="float32"), "model.layers.2.mlp", ((0, 1, 1), np.nan))
    layer = module_of(model, "model.layers.1")
    behave(layer, lambda own, x, *a, **k: mx.compile(lambda y: own(y, "causal", None))(x))
    found = trail(model.module, CLEAN, "clean")
    assert found.suspect.module == "model.layers.2.mlp"


def test_the_model_is_what_it_was_and_a_trail_changes_no_bit():
    model = build()
    before = {name: type(module) for name, module in model.module.named_modules()}
    bare = np.array(model.module(mx.array([CLEAN])))
    found = trail(model.module, CLEAN, "clean")
    assert {name: type(module) for name, module in model.module.named_modules()} == before
    assert np.array_equal(np.array(found.logits), bare[0])
    assert np.array_equal(np.array(model.module(mx.array([CLEAN]))), bare)


def test_a_trail_costs_at_most_three_forwards_and_a_tenth_more_memory():
    """Ratios of processor time and of MLX's own peak, in one process; the issue's limits."""
    row = {
        "architecture": "llama",
        "vocab": 32000,
        "layers": 4,
        "config": {"hidden_size": 256, "intermediate_size": 768},
    }
    model = models.load(SyntheticRow(id="m", source="synthetic", **row))
    ids = [i % 1000 for i in range(64)]
    mx.eval([array for _, array in tree_flatten(model.module.parameters())])

    def cost(work):
        work()
        times = []
        for _ in range(3):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        mx.clear_cache()
        mx.reset_peak_memory()
        work()
        return min(times), mx.get_peak_memory()

    plain = cost(lambda: mx.eval(model.module(mx.array([ids]))))
    traced = cost(lambda: trail(model.module, ids, "clean"))
    assert traced[0] <= 3 * plain[0]
    assert traced[1] <= 1.1 * plain[1] + (64 << 20)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("model.layers.3.mlp.down_proj", 3), ("transformer.h.11", 11), ("model.embed_tokens", None), ("", None),
     ("model.layers.2.mlp.experts.7", 2)],
)  # fmt: skip
def test_the_layer_is_read_off_the_name(name, layer):
    assert layer_of(name) == layer
