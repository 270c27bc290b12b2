"""An engine wrong in exactly one declared thing fails, under the name of its mistake; right ones pass."""

from __future__ import annotations

import math

import library
import numpy as np
import pytest
import wide

from harness.engines.function import function_engine
from harness.laws.conformance.rows import architecture, known
from harness.laws.declared import declared_is_right
from harness.laws.forms import FEW
from harness.laws.subject import EngineUnderTest
from harness.vocabulary import METRICS

MISTAKES = {
    "fractions": "factor 0.01",
    "hundredfold": "factor 100",
    "reversed_sign": "factor -1",
    "thirds": "factor 0.333",
    "offset": "offset",
    "complement": "complement",
    "absolute": "absolute value",
    "clipped": "clipped",
    "zero": "constant",
    "stuck": "constant",
    "not_a_number": "nan where finite",
    "infinite": "inf where finite",
    "drops_a_layer": "missing",
    "grid_without_tokens": "missing",
    "swapped_prompts": "prompts exchanged",
    "noising_for_denoising": "direction",
    "last_for_all": "positions",
    "all_for_last": "positions",
    "all_for_list": "positions",
    "attention_for_mlp": "component",
    "output_for_input": "layer shifted",  # the output of a layer is the input of the next
    "next_layer": "layer shifted",
    "next_token": "position shifted",
    "next_head": "head shifted",
    "next_group": "head shifted",
    "values_for_keys": "component",
    "last_layer_wrong": "one layer",
    "l2_for_mse": "not squared",
    "mse_for_l2": "squared",
    "wrong_answer": "answers exchanged",
    "logit_for_difference": "one logit",
    "reversed_kl": "reversed or reversed, bits",
    "first_ids_only": "no pattern",
    "sum_of_absolutes": "absolute differences",
    "half_patched": "no pattern",
}
RIGHT = [
    "sound", "heads_only", "inside", "arrays", "logits_only", "logit_arrays", "logit_diff_only", "kl_only",
    "noising_only", "grids_only", "absolute_effects", "gap_of_scores", "corrupted_baseline",
]  # fmt: skip
QUICK = (
    "fractions", "complement", "last_for_all", "next_layer", "wrong_answer", "half_patched", "heads_only",
    "logits_only", "kl_only", "inside", "next_group", "values_for_keys",
)  # fmt: skip


def quick_or_slow(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


def asked(name, clean=(3, 7, 11, 9), corrupted=(3, 8, 11, 9)):
    engine = function_engine(getattr(wide, name), name)
    return EngineUnderTest(engine, architecture("llama").build, clean, corrupted)


@pytest.mark.parametrize("name", quick_or_slow(MISTAKES))
def test_the_mistake_is_named(name):
    found = declared_is_right(asked(name))
    assert MISTAKES[name] in [breach.kind for breach in found]
    # What else is said is that nothing explains some forms, never another cause.
    # A patch at the token after the last one is at the first, where the prompts agree: always 0, in truth.
    allowed = {MISTAKES[name], "constant"} if name == "next_token" else {MISTAKES[name]}
    others = {breach.kind for breach in found} - allowed
    assert others <= {"no pattern", "linear", "one position", "one layer"} or not others, found


@pytest.mark.parametrize("name", quick_or_slow(RIGHT))
def test_a_right_engine_passes(name):
    assert declared_is_right(asked(name)) == ()


def test_zero_in_every_cell_is_no_effect_that_is_small():
    """The squares of huge logits overflow in float32, and the distance reads 1 in every run."""
    row = known("dial-huge-bf16")
    subject = EngineUnderTest(function_engine(library.one_minus_cosine), row.build, row.clean, row.corrupted)
    assert "constant" in [breach.kind for breach in declared_is_right(subject)]


STATED = {
    "bits": ("kl_divergence", lambda right, n: right / math.log(2), "baseline, bits"),
    "averaged": ("kl_divergence", lambda right, n: right / n, "baseline, averaged over the vocabulary"),
    "squared": ("l2", lambda right, n: right**2, "baseline, squared"),
    "negative": ("mse", lambda right, n: -right, "baseline, negated"),
    "another": ("l2", lambda right, n: 1.37 * right, "baseline, another number"),
    "right": ("kl_divergence", lambda right, n: right, None),
    "rounded": ("l2", lambda right, n: float(np.float16(right)), None),
}  # fmt: skip


@pytest.mark.parametrize("name", STATED)
def test_a_baseline_that_is_stated_is_held_against_float64(name):
    metric, change, wanted = STATED[name]

    class Stating(wide.Wide):
        def reply(self, found):
            clean, corrupted = self.rows
            return {"baseline": change(wide.METRIC[metric](clean, corrupted, None), clean.size), "recoveries": found}

    engine = Stating()
    engine.harness = {**wide.DECLARED, "metrics": [metric], "positions": ["all"], "components": ["mlp_out"]}
    subject = EngineUnderTest(function_engine(engine, name), architecture("llama").build, (3, 7, 11), (3, 8, 11))
    assert [breach.kind for breach in declared_is_right(subject)] == ([wanted] if wanted else [])


def test_declared_things_that_can_meet_are_asked_together():
    """Positions are all, last, each and two lists: where the prompts differ, and the last token alone."""
    forms = asked("sound").declared.forms
    assert len(forms) < 80
    for axis, values in (("positions", 5), ("direction", 2)):
        for what in ("component", "metric"):
            met = {(getattr(form, what), getattr(form, axis)) for form in forms}
            assert len(met) == values * len({getattr(form, what) for form in forms})
    assert {form.metric for form in forms} == set(METRICS)


def test_every_declared_thing_is_in_the_sample_of_the_other_laws():
    declared = asked("sound").declared
    for axis, values in (
        ("component", declared.components), ("metric", declared.metrics), ("positions", declared.positions),
        ("direction", declared.directions),
    ):  # fmt: skip
        assert {getattr(form, axis) for form in declared.sample} == set(values)
    assert len(declared.sample) == max(len(declared.components), len(METRICS))


def test_a_small_declaration_is_asked_whole():
    forms = asked("kl_only").declared.forms
    assert {form.metric for form in forms} == {"kl_divergence"}
    assert {form.positions for form in forms} == {"last"}
    assert len(set(forms)) == len(forms)
    assert FEW >= 1
