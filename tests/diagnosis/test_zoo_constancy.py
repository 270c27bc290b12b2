"""Models that are no function of their input, and their look-alikes: diagnosed, run as a job, in a notebook."""

from __future__ import annotations

import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "checks"))

from bench import codes, run
from planting import behave, build, module_of

from harness import InterpretableModel
from harness.diagnosis import diagnose
from harness.diagnosis.zoo import ZOO
from harness.diagnosis.zoo.constancy import LOOKALIKES, lora
from harness.diagnosis.zoo.models import CLEAN, CORRUPTED, alone, both
from harness.intercept import forward
from harness.intercept.constancy import Constancy, another
from harness.intercept.inconstancy import Cause
from harness.intercept.swap import plant
from harness.metrics.tolerances import same_bits
from harness.vocabulary.raised import InconstantModelError

BY_LENGTH = ("a table of the first length", "a mask of the first length", "a cache by length")


def plantings(*names):
    chosen = [
        (name, planting) for name in names for planting in ZOO[name].plantings if planting.architecture == "llama"
    ]
    return pytest.mark.parametrize(
        ("name", "planting"), chosen, ids=[f"{name} {each.variant}" for name, each in chosen]
    )


def logits(model, ids):
    return np.array(model.module(mx.array([list(ids)]))[0, -1].astype(mx.float32))


def job(model, **written):
    return run(model, prompts={"clean": CLEAN, "corrupted": CORRUPTED}, sweep={"components": ("mlp_out",)}, **written)


@plantings("F25", "F26")
def test_a_planted_model_answers_a_prompt_in_two_ways(name, planting):
    with planting.plant(planting.architecture) as arguments:
        model = arguments["model"]
        if planting.variant in BY_LENGTH:
            with planting.plant(planting.architecture) as other:
                alone = logits(other["model"], CLEAN)
            logits(model, CORRUPTED if planting.variant == "a cache by length" else CLEAN[:1])
            assert not np.array_equal(alone, logits(model, CLEAN))
            return
        rows = [logits(model, ids) for ids in [CLEAN, CORRUPTED] * 12]
        assert len({row.tobytes() for row in rows[::2]}) > 1


@plantings("F25", "F26")
def test_a_job_and_a_notebook_blame_the_model_and_nobody_else(name, planting):
    with planting.plant(planting.architecture) as arguments:
        assert codes(job(arguments["model"])) == {"MOD001"}
    with planting.plant(planting.architecture) as arguments, pytest.raises(InconstantModelError, match="MOD001"):
        InterpretableModel(arguments["model"].module).activation_patching(CLEAN, CORRUPTED)


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_look_alike_is_left_alone(name):
    with LOOKALIKES[name]("llama") as arguments:
        assert diagnose(**arguments).verdict == "clean"
    with LOOKALIKES[name]("llama") as arguments:
        assert codes(job(arguments["model"])) == set()
    with LOOKALIKES[name]("llama") as arguments:
        assert len(InterpretableModel(arguments["model"].module).activation_patching(CLEAN, CORRUPTED)) == 4


def counted(model):
    seen = []

    def note(call, args, kwargs):
        seen.append(args[0].shape)
        return call(*args, **kwargs)

    plant(model.module, note)
    return seen


def test_a_b_a_costs_a_job_and_a_diagnosis_of_two_prompts_nothing():
    """A job of laws makes three forward passes of more than one token: the bare run, the walk, and the run with its own
    activations put back. A diagnosis of two prompts makes 8, of one prompt 3."""
    model = build(dtype="float32")
    seen = counted(model)
    job(model)
    seen.clear()
    job(model)
    assert len([shape for shape in seen if shape != (1, 1)]) == 3
    model = build(dtype="float32")
    seen = counted(model)
    diagnose(**both(model))
    assert len(seen) == 8
    seen.clear()
    diagnose(**alone(model))
    assert len(seen) == 3


def test_the_model_and_the_generators_are_left_as_they_were():
    model = build(dtype="float32")
    lora(0.2)(model, "llama")
    mx.random.seed(7)
    wanted = mx.random.uniform(shape=(4,))
    mx.random.seed(7)
    modules = model.module.named_modules()
    assert Constancy(model).judged(forward(model, CLEAN[:2]), CLEAN, CORRUPTED).cause is Cause.TRAINING
    assert all(module.training for _, module in modules)
    mx.random.seed(7)
    assert mx.array_equal(wanted, mx.random.uniform(shape=(4,)))


def test_dropout_is_quiet_as_soon_as_somebody_calls_eval():
    model = build(dtype="float32")
    lora(0.2)(model, "llama")
    interpretable = InterpretableModel(model.module)
    with pytest.raises(InconstantModelError, match=r"call model\.eval\(\)"):
        interpretable.activation_patching(CLEAN, CORRUPTED)
    model.module.eval()
    assert len(interpretable.activation_patching(CLEAN, CORRUPTED)) == 4


def test_state_that_a_batch_of_two_cannot_be_added_to_is_state_and_no_traceback():
    model = build(dtype="float32")
    module = module_of(model, "model.layers.1.mlp")

    def call(own, x):
        out = own(x)
        before = module.get("kept")
        module["kept"] = out
        return out if before is None else 0.5 * (out + before)

    behave(module, call)
    found = diagnose(**both(model))
    assert (found.cause.code, found.place.module) == ("DIA222", "model.layers.1.mlp")
    assert "kept" in found.cause.message


@pytest.mark.parametrize("kind", ["NumPy", "Python", "a key of its own", "closure", "class attribute"])
def test_draws_and_state_are_found_wherever_they_are(kind):
    import random

    model = build(dtype="float32")
    module = module_of(model, "model.layers.2.mlp")
    calls, key = 0, mx.random.key(3)

    def call(own, x):
        nonlocal calls, key
        if kind == "NumPy":
            return own(x) * float(np.random.uniform(1, 2))
        if kind == "Python":
            return own(x) * random.uniform(1, 2)
        if kind == "a key of its own":
            key, now = mx.random.split(key)
            return own(x) * mx.random.uniform(1, 2, key=now)
        if kind == "closure":
            calls += 1
            return own(x) * calls
        type(module).louder = getattr(type(module), "louder", 0) + 1
        return own(x) * type(module).louder

    behave(module, call)
    found = diagnose(**both(model)).cause
    assert found.code == ("DIA221" if kind in ("NumPy", "Python") else "DIA222")
    assert (found.place.module, found.confidence) == ("model.layers.2.mlp", "proven")


def test_what_nothing_explains_is_suspected_and_within_rounding_the_device_s():
    import os

    for size, code, confidence in ((1e-1, "DIA604", "suspected"), (1e-10, "DIA607", "proven")):
        model = build(dtype="float32")
        behave(
            module_of(model, "model.layers.2.mlp"),
            lambda own, x, size=size: own(x) * (1 + size * int.from_bytes(os.urandom(2))),
        )
        found = next(each for each in diagnose(**both(model)).findings if each.code.startswith("DIA6"))
        assert (found.code, found.confidence) == (code, confidence)


def test_another_prompt_is_another():
    assert another([3]) == [3, 3]
    assert another([3, 3]) == [3, 3, 3]
    assert another([3, 4, 5]) == [4, 5, 3]


def test_a_cache_that_is_born_in_the_first_call_is_put_back():
    model = build(dtype="float32")
    constancy = Constancy(model)
    row = forward(model, CLEAN)
    model.module.late = {"table": mx.ones(3)}
    model.module.layers[0].mlp.note = [1]
    assert {"late", "model.layers.0.mlp.note"} <= set(constancy.kept.moved())
    constancy.kept.put_back()
    assert constancy.kept.moved() == []
    assert "late" not in model.module
    assert same_bits(row, forward(model, CLEAN))


def test_training_mode_without_a_draw_is_no_fault():
    model = build(dtype="float32")
    model.module.train()
    assert isinstance(model.module, nn.Module)
    assert diagnose(**both(model)).verdict == "clean"
