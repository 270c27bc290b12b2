"""A function of the user's own is asked as everywhere else, and blamed for what is its own fault and nothing else."""

from __future__ import annotations

import re
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from laws.conformance import defects
from planting import CLEAN, CORRUPTED, build
from test_diagnosis_steps import codes, declared

from harness.diagnosis import diagnose
from harness.diagnosis.zoo import ZOO
from harness.vocabulary.errors import EngineUnavailable, TapError, UsageError


def asked(engine, model=None, **more):
    return diagnose(model or build(dtype="float32"), clean=CLEAN, corrupted=CORRUPTED, engine=engine, **more)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("component", ["mlp_out", "resid_post", "self_attn"])
def test_a_function_that_is_right_is_not_blamed(architecture, component):
    if (architecture, component) == ("gpt2", "self_attn"):
        component = "attn"
    found = asked(defects.Engine(), build(architecture, "float32"), component=component)
    assert codes(found) == []
    assert found.subject["engine"] == "Engine"


WRONG = {
    "never fires": (defects.HookNeverFires, "DIA301"),
    "perturbs": (defects.NoisyTrace, "DIA209"),
    "half the vocabulary": (defects.FirstTokensOnly, "DIA404"),
    "an epsilon": (defects.ConstantInMetric, "DIA408"),
    "the next layer": (defects.WrongLayer, "DIA306"),
    "other tokens": (defects.OtherTokens, "DIA306"),
    "a layer left out": (defects.MissingLayer, "DIA306"),
    "fractions": (defects.Fraction, "DIA408"),
}


@pytest.mark.parametrize(("engine", "code"), WRONG.values(), ids=WRONG)
def test_a_function_that_is_wrong_is_named(engine, code):
    found = asked(engine())
    assert found.cause.code == code
    assert engine.__name__ in found.cause.message


def test_a_guard_of_a_function_is_named_where_there_is_no_baseline():
    found = diagnose(build(dtype="float32"), clean=CLEAN, corrupted=CLEAN, engine=defects.GuardedZero())
    assert codes(found) == ["DIA501", "DIA502"]


@declared
def blind(model, clean, corrupted, component, layers, metric):
    """Reports numbers and never runs the model."""
    return dict.fromkeys(layers, 50.0)


def test_a_number_behind_which_no_run_was_seen_is_no_guards():
    found = asked(blind)
    assert codes(found) == ["DIA306"]
    assert "the same 50 % in every cell" in found.cause.message


def raising(error):
    @declared
    def engine(model, clean, corrupted, component, layers, metric):
        raise error

    return engine


@declared
def returning_a_list(model, clean, corrupted, component, layers, metric):
    return [1, 2, 3]


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (raising(ZeroDivisionError("planted")), "engine raised ZeroDivisionError: planted"),
        (raising(TapError("planted")), "engine raised TapError: planted"),
        (raising(UsageError("planted")), "engine raised UsageError: planted"),
        (returning_a_list, "returning_a_list raised TypeError: it returned list"),
    ],
    ids=["any error", "a tap of ours", "a refusal of ours", "no mapping"],
)
def test_what_a_function_raises_is_its_own_fault(engine, said):
    found = asked(engine)
    assert found.cause.code == "DIA305"
    assert said in found.cause.message


def test_a_module_that_nobody_calls_is_not_the_functions_fault():
    (planting, *_) = (each for each in ZOO["F20"].plantings if each.variant == "a module nobody calls")
    with planting.plant(planting.architecture) as arguments:
        found = diagnose(**arguments, engine=defects.Engine())
    assert found.cause.code == "DIA301"
    assert "DIA305" not in codes(found)


def scaling(factor):
    @declared
    def engine(model, clean, corrupted, component, layers, metric):
        """Runs the corrupted prompt on logits of another size, and reports no baseline."""
        model(mx.array([clean]))
        norm = model.model.norm
        before = norm.weight
        try:
            norm.weight = before * factor
            for _ in (None, *layers):
                model(mx.array([corrupted]))
        finally:
            norm.weight = before
        return dict.fromkeys(layers, 0.0)

    return engine


def test_an_unpatched_run_of_another_model_is_named_in_either_prompt():
    found = asked(scaling(1.5))
    assert codes(found) == ["DIA209"]
    assert (found.place.run, found.place.module) == ("corrupted", "model.norm")


def test_a_formula_is_not_blamed_for_a_baseline_that_nobody_reported():
    """Its runs differ from the bare ones by the rounding of bfloat16, the baseline by more than a formula may."""
    found = asked(scaling(1.01), build(dtype="bfloat16"))
    assert not {"DIA209", "DIA404", "DIA406"} & set(codes(found))


def old(module, clean, corrupted, component, metric):
    return {}


@pytest.mark.parametrize(
    ("engine", "more", "error", "said"),
    [
        (old, {}, UsageError, "old has no argument model, layers; it is called with model, clean"),
        (lambda **about: {}, {}, UsageError, "<lambda>.harness is missing: a dict of units"),
        (3, {}, UsageError, "3 is no engine; give a name, an Engine, or a function"),
        (defects.Engine(), {"metric": "log_prob"}, UsageError, "'log_prob' is not a metric of Engine"),
        ("legacy", {"metric": "log_prob"}, UsageError, "'log_prob' is not a metric of legacy"),
        (defects.Engine(), {"component": "resid_pre"}, EngineUnavailable, "'resid_pre' is not among its components"),
    ],
    ids=["other arguments", "no declaration", "no function", "metric", "metric of ours", "component"],
)
def test_what_a_function_does_not_claim_is_not_asked_of_it(engine, more, error, said):
    with pytest.raises(error, match=re.escape(said)):
        asked(engine, **more)


def test_the_model_is_afterwards_what_it_was_whatever_a_function_left():
    model = build(dtype="float32")
    before = [type(module) for _, module in model.module.named_modules()]
    logits = np.array(model.module(mx.array([CLEAN])))
    asked(defects.LeavesClasses(), model)
    assert [type(module) for _, module in model.module.named_modules()] == before
    assert np.array_equal(np.array(model.module(mx.array([CLEAN]))), logits)


def batched(part):
    """Return an engine that runs both prompts as one batch, and measures a part of the vocabulary, or all of it."""

    @declared
    def engine(model, clean, corrupted, component, layers, metric):
        def rows():
            out = np.array(model(mx.array([clean, corrupted]))[:, -1].astype(mx.float32))
            return out[:, : int(part * out.shape[-1])]

        def distance(a, b):
            return float(np.sqrt(np.sum((a - b) ** 2)))

        target, base = rows()
        baseline, found = distance(target, base), {}
        for layer in layers:
            module = dict(model.layers[layer].named_modules())[component]
            original = type(module)

            def patched(self, *args, original=original, **kwargs):
                out = original.__call__(self, *args, **kwargs)
                return mx.concatenate([out[:1], out[:1]])

            module.__class__ = type(original.__name__, (original,), {"__call__": patched})
            try:
                found[layer] = 100 * (1 - distance(target, rows()[1]) / baseline)
            finally:
                module.__class__ = original
        return {"baseline": baseline, "recoveries": found}

    return engine


@contextmanager
def rounding_by_the_batch():
    """Let a matrix product of several rows of a batch round otherwise than one of a single row, as GPU kernels do."""
    original = nn.Linear.__call__

    def call(self, x):
        out = original(self, x)
        return out if len(x) == 1 else (out.astype(mx.float32) * (1 + 2**-8)).astype(out.dtype)

    nn.Linear.__call__ = call
    try:
        yield
    finally:
        nn.Linear.__call__ = original


@pytest.mark.parametrize(("part", "code"), [(1.0, []), (0.5, ["DIA404"])], ids=["right", "half the vocabulary"])
def test_a_formula_is_held_against_the_logits_of_the_engine_and_not_of_the_trail(part, code):
    with rounding_by_the_batch():
        model = build(dtype="bfloat16")
        one, both = (model.module(mx.array(ids))[:, -1] for ids in ([CLEAN], [CLEAN, CORRUPTED]))
        assert not mx.array_equal(one[0], both[0])
        found = asked(batched(part), model, component="mlp")
    assert [each for each in codes(found) if each in ("DIA401", "DIA404", "DIA406", "DIA408")] == code
