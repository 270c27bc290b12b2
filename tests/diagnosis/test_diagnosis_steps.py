"""The steps: which one names what, what is reported of the others, and the findings that the zoo has no fault for."""

from __future__ import annotations

import json
import math
import os
import re
import sys

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from laws.conformance import defects
from planting import CLEAN, CORRUPTED, behave, build, module_of, put, returning, save_folder

import harness
from harness import models
from harness.diagnosis import Diagnosis, comparisons, diagnose
from harness.diagnosis.outcome.nouns import STEP_NAMES
from harness.diagnosis.steps import STEPS
from harness.diagnosis.trail.shadow import minimal
from harness.diagnosis.zoo import ZOO
from harness.environment.known_bad import KnownBad
from harness.models.spec import DialRow
from harness.vocabulary import Finding, Site
from harness.vocabulary.errors import PromptError, UnknownName, UsageError
from harness.vocabulary.findings import FINDINGS, Severity
from harness.vocabulary.findings.diagnosis import FAULT_OF


def dial(**row):
    row = {"vocab": 64, "weights": (0.5, 0.25, 1.0), **row}
    return models.load(DialRow(id="dial", source="groundtruth", kind="dial", **row))


def codes(found: Diagnosis):
    return [each.code for each in found.findings]


# What the zoo has no fault for: (code, diagnosis, place).


def known_bad(monkeypatch):
    row = KnownBad("mlx", "<99", sys.platform, "planted", "nobody/nothing#1")
    monkeypatch.setattr("harness.environment.known_bad.KNOWN_BAD", (row,))
    return diagnose(build(), prompt=CLEAN), {}


def flushed(monkeypatch):
    model = build(dtype="bfloat16")
    layer = module_of(model, "model.layers.1.mlp.down_proj")
    layer.weight = put(layer.weight, ((4, 4), 1e-9))
    return diagnose(model, prompt=CLEAN, dtype="float16"), {}


def divided(monkeypatch):
    model = build(dtype="float32")
    behave(module_of(model, "model.layers.2.mlp"), lambda own, x: own(x) / (0 * x))
    return diagnose(model, prompt=CLEAN), {"run": "clean", "module": "model.layers.2.mlp", "layer": 2}


def brought_in(monkeypatch):
    return diagnose(returning(build(), "model.layers.2.mlp", ((0, 2, 3), np.nan)), prompt=CLEAN), {
        "module": "model.layers.2.mlp", "token": 2, "dimension": 3}  # fmt: skip


def hidden(monkeypatch):
    model = returning(build(dtype="float32"), "model.layers.1.mlp.up_proj", ((0, 2, 3), np.inf))
    behave(module_of(model, "model.layers.1.mlp"), lambda own, x: mx.nan_to_num(own(x)))
    return diagnose(model, prompt=CLEAN), {"module": "model.layers.1.mlp.up_proj", "token": 2, "dimension": 3}


def broken_scale_in_use(monkeypatch):
    """A scale that is finite in the weights and NaN when it is used, as a kernel would have it."""
    model = build(dtype="float32", quantize="4bit")

    layer = module_of(model, "model.layers.1.mlp.down_proj")
    sound, broken = layer.scales, put(layer.scales, ((3, 1), np.nan))

    def use(own, x):
        layer.scales = broken
        try:
            return own(x)
        finally:
            layer.scales = sound

    behave(layer, use)
    return diagnose(model, prompt=CLEAN), {"module": "model.layers.1.mlp.down_proj", "dimension": 3}


class WrittenOut(nn.Module):
    """Attention whose scores are made in float16 and are too large for it."""

    def __call__(self, x, mask=None, cache=None):
        scores = (x * 300) @ (x * 300).swapaxes(-1, -2)
        return mx.softmax(scores - scores.max(axis=-1, keepdims=True), axis=-1) @ x


def scores(monkeypatch):
    model = build()
    behave(module_of(model, "model.layers.1.self_attn"), lambda own, x, *a, **k: WrittenOut()(x))
    return diagnose(model, prompt=CLEAN), {"run": "clean", "module": "model.layers.1.self_attn", "layer": 1}


def only_patched(monkeypatch):
    """Each run keeps large and large apart; the patch brings them together."""
    model = build()
    block = module_of(model, "model.layers.1")
    clean_embedding = module_of(model, "model.embed_tokens")
    behave(clean_embedding, lambda own, ids: put(own(ids), ((0, 0, 0), 4e4 if int(ids[0, 0]) == CORRUPTED[0] else 0)))
    behave(block.self_attn, lambda own, x, *a, **k: put(own(x, *a, **k), ((0, 0, 0), 0)))
    behave(block.mlp, lambda own, x: put(own(x), ((0, 0, 0), 0 if float(x[0, 0, 0]) > 2 else 4e4)))
    return diagnose(model, clean=CLEAN, corrupted=CORRUPTED), {"run": "patched", "module": "model.layers.1", "layer": 1}


def declared(engine):
    """A function as `docs/engines.md` asks for, of l2 and any module."""
    engine.harness = {"units": "percent", "metrics": ["l2"], "components": ["paths"]}
    return engine


def failing_engine(monkeypatch):
    @declared
    def engine(model, clean, corrupted, component, layers, metric):
        raise RuntimeError("planted")

    return diagnose(build(), clean=CLEAN, corrupted=CORRUPTED, engine=engine), {"step": "patched"}


def next_layer(monkeypatch):
    found = diagnose(build(dtype="float32"), clean=CLEAN, corrupted=CORRUPTED, engine=defects.WrongLayer())
    assert "answers for layer k+1" in found.cause.message
    return found, {"step": "patched"}


def drowned_digits(monkeypatch):
    class Drowned(defects.Engine):
        def reply(self, baseline, found):
            return {"baseline": 1.002 * baseline, "recoveries": found}

    return diagnose(build(), clean=CLEAN, corrupted=CORRUPTED, engine=Drowned()), {}


def other_device(monkeypatch):
    """There is one device here: it is called the other, and its second run of a module is other than the first."""
    model, calls = build(dtype="float32"), []

    def second(own, x):
        calls.append(1)
        return own(x) * (2 if len(calls) > 1 else 1)

    def compared(*args):
        calls.clear()
        behave(module_of(model, "model.layers.2.mlp"), second)
        return devices(*args)

    devices = comparisons._devices
    monkeypatch.setattr(comparisons, "_devices", compared)
    monkeypatch.setattr(comparisons.mx, "default_device", lambda: "Device(gpu, 0)")
    found = diagnose(model, prompt=CLEAN, compare_device="cpu")
    return found, {"step": "comparisons", "module": "model.layers.2.mlp"}


def bad_arrays(monkeypatch):
    clean = np.zeros((3, 8), np.float16)
    clean[1, 5] = np.nan
    return diagnose(logits=(clean, np.ones((3, 8), np.float16))), {"run": "clean", "token": 1, "dimension": 5}


def moved_by_rounding(monkeypatch):
    model = build(dtype="bfloat16")
    # 1.002 is 1 in bfloat16 and is not in float32, in which the second summand is therefore missing.
    rounds = lambda x: mx.array(1.002, x.dtype) == 1  # noqa: E731
    behave(module_of(model, "model.layers.1.mlp"), lambda own, x: own(x) + rounds(x) * 5 * own(x[..., ::-1]))
    return diagnose(model, clean=CLEAN, corrupted=CORRUPTED), {}


def twins(digits, dtype="float32"):
    """A model that reads the corrupted token as the clean one, this many last digits of each number away."""
    model = build(dtype=dtype)
    embedding = module_of(model, "model.embed_tokens")
    spacing = {"float32": 2.0**-23, "bfloat16": 2.0**-7}[dtype]
    row = np.array(embedding.weight[CLEAN[0]].astype(mx.float32)).astype(float)
    row *= 1 + digits * spacing * np.random.RandomState(0).choice([-1, 1], row.size)
    embedding.weight = put(embedding.weight, (CORRUPTED[0], row))
    return model


def rounding_only(monkeypatch):
    return diagnose(twins(1), clean=CLEAN, corrupted=CORRUPTED), {"step": "recovery", "run": "recovery"}


def from_time_to_time(monkeypatch):
    model = build(dtype="float32")

    def by_what_nobody_wrote(own, x):
        return own(x) * (1 + os.urandom(1)[0] / 256)

    behave(module_of(model, "model.layers.1.mlp"), by_what_nobody_wrote)
    return diagnose(model, prompt=CLEAN, repeat=5), {"step": "comparisons", "module": "model.layers.1.mlp"}


PLANTED = {
    "DIA002": known_bad, "DIA108": flushed, "DIA201": brought_in, "DIA210": hidden, "DIA211": broken_scale_in_use,
    "DIA212": scores, "DIA303": only_patched, "DIA305": failing_engine, "DIA306": next_layer,
    "DIA406": drowned_digits, "DIA407": bad_arrays,
    "DIA503": moved_by_rounding, "DIA504": rounding_only, "DIA603": other_device, "DIA604": from_time_to_time,
}  # fmt: skip


@pytest.mark.parametrize("code", PLANTED)
def test_a_cause_outside_the_zoo_is_named_with_its_place(code, monkeypatch):
    found, place = PLANTED[code](monkeypatch)
    assert code in codes(found)
    error = FINDINGS[code].severity == "error"
    assert (found.verdict == "fault") == error
    if place:
        assert {key: getattr(found.place, key) for key in place} == place


@pytest.mark.parametrize("metric", ["l2", "mse", "cosine", "kl_divergence"])
@pytest.mark.parametrize(("digits", "dtype", "wanted"), [
    (1, "float32", ["DIA504"]), (1024, "float32", []), (40, "bfloat16", [])])  # fmt: skip
def test_a_difference_of_rounding_is_named_and_a_small_real_one_is_not(metric, digits, dtype, wanted):
    model = twins(digits, dtype)
    assert codes(diagnose(model, clean=CLEAN, corrupted=CORRUPTED, metric=metric)) == wanted


def test_two_arrays_that_rounding_tells_apart():
    clean = (4 * np.random.default_rng(0).standard_normal(512)).astype(np.float16)
    next_ones = np.nextafter(clean, np.float16(np.inf))
    found = diagnose(logits=(clean, next_ones))
    assert codes(found) == ["DIA504"]
    assert "and rounding alone makes" in found.cause.message
    assert "DIA504" not in codes(diagnose(logits=(clean, clean[::-1].copy())))


def test_every_code_is_of_the_zoo_or_planted_here():
    # Every random injection into a weight of the zoo's tests; what needs a folder or torch: test_reference.py; a device
    # that is not deterministic: test_zoo_constancy.py; a padded vocabulary: test_zoo_loading.py.
    apart = {"DIA101", "DIA213", "DIA223", "DIA605", "DIA607"}
    all_codes = {code for code in FINDINGS if code.startswith("DIA")}
    assert all_codes == {*PLANTED, *FAULT_OF, *apart}


# The report, and what must hold at the end.


def test_the_report_is_reproduced_with_its_numbers():
    clean, corrupted = "Paris is the capital of France", "London is the capital of France"
    found = diagnose("qwen3-152k-f16", clean=clean, corrupted=corrupted, engine="legacy")
    cause = found.findings[0]
    assert (cause.code, cause.fault, found.place.step) == ("DIA401", "F01", "metric")
    true = cause.evidence["true"]
    assert cause.evidence["limit"] == pytest.approx(math.sqrt(65520), abs=1e-9)
    assert f"{true:.6g}" in cause.message
    assert "255.97" in cause.message
    assert "widen before subtracting" in found.paragraph
    assert next(step.state for step in found.steps if step.name == "forward") == "ok"
    assert "proven" in found.paragraph


def test_two_infs_at_the_embedding_are_named_and_not_the_norm():
    model = returning(build("qwen3", vocab=2048), "model.embed_tokens", ((0, 2, 5), np.inf), ((0, 3, 7), np.inf))
    found = diagnose(model, prompt=CLEAN)
    assert found.place.module == "model.embed_tokens"
    assert found.findings[0].evidence["elements"] == [[2, 5, "+inf"], [3, 7, "+inf"]]
    assert found.findings[0].evidence["count"] == 2
    assert "NaN" in found.findings[0].evidence["logits"]


def with_nan(tensors):
    name = "model.layers.1.mlp.down_proj.weight"
    tensors[name] = put(tensors[name], ((3, 17), np.nan))


def test_a_nan_that_quantising_swallows_is_found_from_the_folder_and_from_the_pair(tmp_path):
    folder = save_folder(build(dtype="float32"), tmp_path / "before", with_nan)
    alone = diagnose(folder, prompt=CLEAN)
    assert (alone.place.module, alone.place.token, alone.place.dimension) == (
        "model.layers.1.mlp.down_proj.weight",
        3,
        17,
    )
    broken = models.load(models.PathRow(id="b", source="path", path=str(folder)))
    nn.quantize(broken.module, group_size=32, bits=4)
    assert diagnose(broken, prompt=CLEAN).verdict == "clean"  # nothing is left to be seen
    pair = diagnose(broken, prompt=CLEAN, before=folder)
    assert pair.findings[0].code == "DIA103"
    assert (pair.place.module, pair.place.token, pair.place.dimension) == ("model.layers.1.mlp.down_proj.weight", 3, 17)


# Steps and shapes.


def test_every_step_is_reported_and_none_after_a_proven_cause_is_taken(tmp_path):
    folder = save_folder(build(dtype="float32"), tmp_path / "m", with_nan)
    found = diagnose(folder, prompt=CLEAN)
    assert tuple(step.name for step in found.steps) == STEP_NAMES
    assert [step.state for step in found.steps] == ["ok", "fault", *["not reached"] * 6]


def test_a_clean_model_gives_no_finding_and_the_json_is_json():
    found = diagnose(build(dtype="float32"), clean=CLEAN, corrupted=CORRUPTED)
    assert (found.verdict, found.findings, found.place) == ("clean", (), None)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert set(document) >= {"verdict", "findings", "place", "rungs", "trail"}
    assert len(document["trail"]) == len(found.trail) > 100
    assert "No fault found" in document["paragraph"]


def test_the_json_of_a_fault_has_what_the_issue_names():
    model = returning(build(), "model.layers.1.mlp", ((0, 2, 3), np.nan))
    document = json.loads(json.dumps(diagnose(model, prompt=CLEAN).to_dict(), allow_nan=False))
    assert set(document["findings"][0]) >= {"code", "fault", "severity", "message", "evidence", "hint"}
    wanted = {"rung": "forward", "run": "clean", "module": "model.layers.1.mlp", "layer": 1, "token": 2, "dimension": 3}
    assert document["place"] == wanted


class Own(nn.Module):
    """A model of nobody's library: no `args`, and a tuple for an answer."""

    def __init__(self):
        super().__init__()
        self.embed, self.layers, self.head = nn.Embedding(64, 16), [nn.Linear(16, 16)], nn.Linear(16, 64)

    def __call__(self, ids):
        return self.head(self.layers[0](self.embed(ids))), None


@pytest.mark.parametrize(("make", "vocab"), [(Own, 64), (lambda: build().module, 512)], ids=["own", "mlx-lm"])
def test_an_id_that_a_given_module_does_not_have_is_refused(make, vocab):
    with pytest.raises(PromptError, match=f"token id 9999 is outside the vocabulary of {vocab}"):
        diagnose(make(), clean=[1, 2, 9999], corrupted=[2, 2, 9999])
    assert diagnose(make(), prompt=[1, 2, 3]).subject["vocab"] == vocab


def test_ids_may_be_an_array_and_are_never_rounded():
    model = build()
    for ids in (np.array([1, 2, 3]), mx.array([1, 2, 3])):
        assert diagnose(model, prompt=ids).subject["prompts"] == {"clean": [1, 2, 3]}
    with pytest.raises(PromptError, match="neither text nor a list of token ids"):
        diagnose(model, prompt=[1.5, 2])


def test_finite_float64_logits_are_never_called_infinite():
    clean = np.arange(8.0)
    with pytest.raises(UsageError, match="corrupted is float64, and 1 of its finite numbers are beyond float32"):
        diagnose(logits=(clean, np.where(clean == 5, 1e39, clean)))


def test_a_fault_of_the_corrupted_run_only_is_placed_there():
    model = build(dtype="float32")
    embedding = module_of(model, "model.embed_tokens")
    behave(embedding, lambda own, ids: put(own(ids), *[((0, 0, 4), np.nan)] * (int(ids[0, 0]) == CORRUPTED[0])))
    found = diagnose(model, clean=CLEAN, corrupted=CORRUPTED)
    assert (found.place.run, found.place.module, found.place.token, found.place.dimension) == (
        "corrupted", "model.embed_tokens", 0, 4,
    )  # fmt: skip


def test_the_weights_of_the_caller_are_what_they_were():
    model = build(dtype="float32")
    before = [id(array) for _, array in harness_parameters(model)]
    diagnose(model, clean=CLEAN, corrupted=CORRUPTED, dtype="float16")
    returning(model, "model.layers.1.mlp", ((0, 2, 3), np.nan))
    diagnose(model, prompt=CLEAN, dtype="float16")
    assert [id(array) for _, array in harness_parameters(model)] == before


def harness_parameters(model):
    from mlx.utils import tree_flatten

    return tree_flatten(model.module.parameters())


def test_nothing_of_mlx_stays_replaced():
    held = {name: getattr(mx, name) for name in dir(mx)} | {f"array.{n}": v for n, v in vars(mx.array).items()}
    fused = mx.fast.scaled_dot_product_attention
    diagnose(returning(build(), "model.layers.1.mlp", ((0, 2, 3), np.nan)), prompt=CLEAN)
    assert mx.fast.scaled_dot_product_attention is fused
    now = {name: getattr(mx, name) for name in dir(mx)} | {f"array.{n}": v for n, v in vars(mx.array).items()}
    assert all(now[name] is value for name, value in held.items())


def test_a_finding_of_a_diagnosis_is_a_finding_with_the_site_that_was_patched():
    planting = ZOO["F03"].plantings[0]
    with planting.plant(planting.architecture) as arguments:
        found = diagnose(**arguments)
    guarded = next(each for each in found.findings if each.code == "DIA502")
    assert isinstance(guarded, Finding)
    assert (guarded.severity, guarded.kind) == (Severity.ERROR, FINDINGS["DIA502"])
    assert guarded.site == Site(found.subject["component"], guarded.place.layer)
    assert str(guarded) == f"DIA502 the recovery: {guarded.message}; {FINDINGS['DIA502'].hint}"


# Shadow.


@pytest.mark.parametrize(
    "needed",
    [{0}, {7}, {2, 5}, {0, 1, 2, 3, 4, 5, 6, 7}, {3, 4, 5}],
    ids=["first", "last", "apart", "all", "run"],
)
def test_a_minimal_set_is_enough_and_cannot_lose_a_member(needed):
    found = minimal(list(range(8)), lambda kept: needed <= set(kept))
    assert set(found) == needed


def test_a_minimal_set_of_a_rule_that_is_not_monotone_cannot_lose_a_member_either():
    def enough(kept):
        # 0 is needed as long as 7 is there, and 7 can go only after 0 has been tried.
        return {3, 6} <= set(kept) and (0 in kept or 7 not in kept)

    found = minimal(list(range(8)), enough)
    assert enough(found)
    assert not any(enough([unit for unit in found if unit != left]) for left in found)


def test_the_blocks_after_an_overflow_of_the_stream_need_the_wider_dtype():
    model = returning(build(), "model.layers.1", ((0, 3, 9), 6e4))
    behave(module_of(model, "model.layers.2.self_attn"), lambda own, *a, **k: put(own(*a, **k), ((0, 3, 9), 1e4)))
    cause = diagnose(model, prompt=CLEAN).findings[0]
    assert cause.code == "DIA203"
    assert cause.evidence["shadow"] == {"float32": "finite", "bfloat16": "finite", "needs_float32": [2, 3, "rest"]}


# Requests that make no sense.


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({}, UsageError, "give a model, or logits"),
        ({"model": "no-such-model", "prompt": CLEAN}, UsageError, "neither a model, a folder nor a repository"),
        ({"model": "qwen3-152k-f61", "prompt": CLEAN}, UsageError, "did you mean 'qwen3-152k-f16'"),
        ({"model": 3, "prompt": CLEAN}, UsageError, "int is not a model"),
        ({"model": "dial-152k-f32", "clean": CLEAN}, UsageError, "clean and corrupted come together"),
        ({"model": "dial-152k-f32", "prompt": (1,), "clean": (1,), "corrupted": (1,)}, UsageError, "and not both"),
        ({"model": "dial-152k-f32", "prompt": (1,), "metric": "l3"}, UnknownName, "'l3' is not a metric"),
        ({"model": "dial-152k-f32", "prompt": (1,), "engine": "nativ"}, UnknownName, "did you mean 'native'"),
        ({"model": "dial-152k-f32", "prompt": (1,), "dtype": "float8"}, UsageError, "'float8' is not a dtype"),
        ({"model": "dial-152k-f32", "prompt": "text"}, PromptError, "is not a word of this model"),
        ({"model": "dial-152k-f32", "prompt": (99,)}, PromptError, "outside the vocabulary"),
        ({"model": "dial-152k-f32", "prompt": (1,), "before": "/nowhere"}, UsageError, "is not there"),
        ({"logits": ([1, 2], [1, 2])}, UsageError, "of floats is needed"),
        ({"logits": (np.zeros(3, np.float32), np.zeros(4, np.float32))}, UsageError, "one vocabulary"),
    ],
    ids=lambda value: None if not isinstance(value, str) else value[:20].replace(" ", "-"),
)
def test_a_request_that_makes_no_sense_is_refused_with_the_reason(arguments, error, said):
    if arguments.get("prompt") == (99,):
        arguments = {**arguments, "model": dial()}
    with pytest.raises(error, match=re.escape(said)):
        harness.diagnose(**arguments)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_diagnosis_without_a_prompt_runs_a_few_ids_and_says_so(architecture):
    found = diagnose(build(architecture, dtype="float32"))
    assert found.verdict == "clean"
    assert [step.state for step in found.steps][:3] == ["ok", "ok", "ok"]
    assert "no prompt was given: token ids [0, 1, 2, 3] were run" in found.steps[2].summary


def test_a_model_that_answers_only_nan_is_found_without_a_prompt():
    model = build("llama", dtype="float32")
    norm = model.module.model.norm
    norm.weight = mx.full(norm.weight.shape, float("nan"))
    assert diagnose(model).verdict == "fault"


def test_a_model_of_mixers_alone_is_patched_where_it_can_be():
    found = diagnose(build("mamba", dtype="float32"), clean=CLEAN, corrupted=CORRUPTED)
    assert found.verdict == "clean"
    assert "patched attn_out at" in next(step.summary for step in found.steps if step.name == "patched")


def test_a_length_at_which_an_earlier_token_fails_is_found_where_nothing_carries_it_to_the_last():
    class Tokenwise(nn.Module):
        """Logits `[batch, tokens, 16]` of each token by itself, and NaN at token 16 of what is longer."""

        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(16, 16)]

        def __call__(self, ids, cache=None):
            logits = self.layers[0](mx.eye(16)[ids % 16])
            broken = (mx.arange(ids.shape[1]) == 16)[None, :, None]
            return mx.where(broken, mx.array(np.nan), logits)

    found = diagnose(Tokenwise(), prompt=(1, 2, 3), lengths=(1, 40))
    assert ("DIA601" in codes(found), found.place.token) == (True, 16)
    assert next(step.summary for step in found.steps if step.name == "comparisons") == "16 tokens pass, 17 fail"


def test_a_model_that_returns_no_logits_is_told_what_is_needed():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(4, 4)]

        def __call__(self, ids):
            return {"logits": mx.zeros((1, ids.shape[1], 4))}

    with pytest.raises(UsageError, match=r"returned a dict; logits \[batch, tokens, vocab\] are needed"):
        diagnose(Named(), prompt=(1, 2))


def test_a_step_that_sees_no_number_is_not_ok():
    # An engine that honestly says of no layer what it recovers is blamed for nothing, and its step saw no number.
    found = diagnose("dial-nan-f16", clean=[0], corrupted=[1], component="mlp", engine=defects.Engine())
    step = next(step for step in found.steps if step.name == "recovery")
    assert (step.state, "recoveries are" in step.summary) == ("fault", True)
    assert not [each for each in found.findings if each.place.step == "recovery"]
    rows = np.zeros((2, 64), np.float32)
    rows[0, 7] = np.nan
    step = diagnose(logits=tuple(rows)).steps[2]
    assert (step.name, step.state) == ("forward", "fault")
    assert "1 nan" in step.summary.lower()
    assert "corrupted [1, 64], finite" in step.summary


def test_every_phase_says_how_far_it_is():
    def told(model, **prompts):
        seen = []
        diagnose(model, progress=lambda *phase: seen.append(phase), **prompts)
        steps = [step.name for step in STEPS]
        begun = [what for what, done, total in seen if what in steps and not total]
        assert begun == steps[: len(begun)]
        return {what: (done, total) for what, done, total in seen if (done, total) != (0, 0)}

    phases = told(build(dtype="float32"), clean=CLEAN, corrupted=CORRUPTED)
    assert phases.pop("weights")[0] > 1000  # bytes
    assert phases == {"forward pass": (2, 2), "patching of mlp_out": (1, 1)}
    model = build(dtype="float16")
    for name in ("gate_proj", "up_proj"):
        module = module_of(model, f"model.layers.1.mlp.{name}")
        module.weight = module.weight * 300
    phases = told(model, clean=CLEAN, corrupted=CORRUPTED)
    assert phases["run in a wider dtype"] == (2, 2)
    assert phases["search for the blocks that need it"][1] == 0
