"""Zeros and means in place of the other run's activation: held against wrappers of our own and float64 recoveries."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from test_one_pass import apart, sentences, small

from harness import InterpretableModel
from harness.casefile import load_cases
from harness.engines import answer, engine_named
from harness.jobs import run as jobs
from harness.jobs.planning import Job
from harness.metrics.tolerances import Work, row_tolerance
from harness.models import bundled, load
from harness.models.architectures import blocks_of
from harness.models.tokens import read
from harness.patching import sweep, values
from harness.vocabulary import VALUES, Direction, Question, Sweep, Tokens
from harness.vocabulary.errors import CaseFileError, EngineUnavailable, PromptError, TapError, UnknownName, UsageError

EQUAL = row_tolerance(Work.OTHER_BATCH, "float32")
POINTS = 1e-3
OTHERS = ((9, 8, 3), (2, 3, 5, 7, 11, 13, 17), (100, 200))
"""Prompts of other lengths, for means."""
CLEAN, CORRUPTED = (3, 7, 11, 200, 5, 9), (3, 7, 11, 201, 5, 8)


def tokens(*ids):
    return Tokens(tuple(ids), tuple(map(str, ids)))


def asked(value, components=("mlp_out",), direction=Direction.NOISING, positions="all"):
    means = tuple(tokens(*ids) for ids in OTHERS) if value == "mean" else ()
    chosen = Sweep(components, None, direction, positions, value=value)
    return Question(tokens(*CLEAN), tokens(*CORRUPTED), chosen, ("l2",), mean_of=means)


class Held(nn.Module):
    """A child whose output is replaced by one row at some tokens, or kept."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.row, self.tokens, self.kept = inner, None, (), []

    def __call__(self, *args, **kwargs):
        out = self.inner(*args, **kwargs)
        self.kept.append(np.array(out[0].astype(mx.float32), np.float64))
        if self.row is not None:
            rows = np.array(out)
            rows[:, self.tokens, :] = self.row
            out = mx.array(rows)
        return out


@contextmanager
def held(model, layer, child):
    block = blocks_of(model.module)[layer]
    own = block[child]
    block[child] = Held(own)
    try:
        yield block[child]
    finally:
        block[child] = own


def logits(model, ids):
    return np.array(model.module(mx.array([ids]))[0, -1].astype(mx.float32), np.float64)


def by_hand(model, value, direction, chosen, child="mlp"):
    """Return the l2 recoveries of each layer, in percent, by wrappers and float64."""
    clean, corrupted = logits(model, CLEAN), logits(model, CORRUPTED)
    target = CLEAN if direction is Direction.NOISING else CORRUPTED
    found = []
    for layer in range(len(blocks_of(model.module))):
        with held(model, layer, child) as wrapper:
            for ids in OTHERS:
                logits(model, ids)
            mean = np.concatenate(wrapper.kept).mean(axis=0)
            wrapper.row, wrapper.tokens = (0.0 if value == "zero" else mean.astype(np.float32)), chosen
            row = logits(model, target)
        found.append(100 * (1 - np.linalg.norm(row - clean) / np.linalg.norm(corrupted - clean)))
    return found


PLACES = {"all": range(6), "last": [5], (0, -2): [0, 4]}


@pytest.mark.parametrize("strategy", ["stepwise", "one-pass", "auto"])
@pytest.mark.parametrize("positions", PLACES, ids=str)
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("value", ["zero", "mean"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_a_value_is_put_in_as_by_hand(architecture, value, direction, positions, strategy):
    model = small(architecture)
    question = asked(value, direction=direction, positions=positions)
    given = answer(engine_named("native"), model, replace(question, sweep=replace(question.sweep, strategy=strategy)))
    wanted = by_hand(model, value, direction, list(PLACES[positions]))
    got = [cell.recovery.value for cell in given.curves[0].cells]
    assert got == pytest.approx(wanted, abs=POINTS)
    assert given.fallback is None
    assert any(abs(each - (100 if direction is Direction.NOISING else 0)) > 1 for each in got)


PARTS = ("resid_pre", "attn_out", "mlp_out", "resid_post", "z", "q", "k", "v", "mlp_post")


@pytest.mark.parametrize("positions", ["all", (1,), "each"], ids=str)
@pytest.mark.parametrize("value", ["zero", "mean"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_one_pass_equals_stepwise_for_every_component(architecture, value, positions):
    model = small(architecture)
    for direction in Direction:
        question = sentences(model, Sweep(PARTS, None, direction, positions, value=value))
        means = (question.clean, question.corrupted) if value == "mean" else ()
        assert apart(model, replace(question, mean_of=means)) <= EQUAL


@pytest.mark.parametrize("value", ["zero", "mean"])
def test_what_both_prompts_begin_with_is_changed_and_not_run_once(value, monkeypatch):
    monkeypatch.setattr(sweep, "WORTH_SHARING", 0)
    model = small("llama")
    question = asked(value, positions=(0, 1))
    assert apart(model, question) <= EQUAL
    assert any(abs(each - 100) > 1 for each in by_hand(model, value, Direction.NOISING, [0, 1]))


def test_a_head_is_zeroed_and_its_neighbours_are_not():
    model = small("llama")
    given = answer(engine_named("native"), model, asked("zero", ("z", "v")))
    rows = {curve.component: [cell.recovery.value for cell in curve.cells] for curve in given.curves}
    assert len(set(np.round(rows["z"], 6))) == len(rows["z"])
    assert len(set(np.round(rows["v"], 6))) == len(rows["v"])


def test_the_mean_is_over_every_token_of_the_prompts_that_are_given():
    """Neither a mean of means, nor over the patched prompts, nor in the order of the prompts."""
    model, question = small("llama"), asked("mean")
    own = answer(engine_named("native"), model, question)
    turned = answer(engine_named("native"), model, replace(question, mean_of=question.mean_of[::-1]))
    other = answer(engine_named("native"), model, replace(question, mean_of=question.mean_of[:1]))
    one, same, another = ([cell.recovery.value for cell in each.curves[0].cells] for each in (own, turned, other))
    assert one == pytest.approx(same, abs=POINTS)
    assert max(abs(a - b) for a, b in zip(one, another, strict=True)) > 1


def test_the_other_runs_activation_is_what_it_was():
    model = small("llama")
    plain = replace(asked("other"), sweep=Sweep(("mlp_out",), None, Direction.NOISING))
    one, two = (answer(engine_named("native"), model, each).curves for each in (asked("other"), plain))
    assert one == two


# -- what cannot be asked ----------------------------------------------------------------------------------------------


def test_a_mean_needs_prompts_and_prompts_a_mean():
    model = small("llama")
    with pytest.raises(UsageError, match="needs the prompts"):
        answer(engine_named("native"), model, replace(asked("mean"), mean_of=()))
    with pytest.raises(UsageError, match="mean_of says nothing where the value is 'zero'"):
        InterpretableModel(model.module, None).activation_patching(
            CLEAN, CORRUPTED, plot=False, value="zero", mean_of=OTHERS
        )
    with pytest.raises(PromptError, match="is one prompt"):
        InterpretableModel(model.module, None).activation_patching(
            CLEAN, CORRUPTED, plot=False, value="mean", mean_of=OTHERS[0]
        )
    with pytest.raises(UnknownName, match="known: mean, other, zero"):
        answer(engine_named("native"), model, asked("nought"))


def test_a_module_that_runs_twice_has_no_one_mean():
    model = small("llama")
    block = blocks_of(model.module)[1]

    class Twice(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def __call__(self, x):
            return self.inner(self.inner(x))

    own, block.mlp = block.mlp, Twice(block.mlp)
    try:
        question = replace(asked("mean"), sweep=replace(asked("mean").sweep, components=("mlp.inner",), layers=(1,)))
        with pytest.raises(TapError, match="2 times in a forward pass"):
            values.with_values(model, question, sweep.check_question(model, question))
    finally:
        block.mlp = own


@pytest.mark.parametrize("name", ["attribution-ig", "mlxterp"])
def test_an_engine_that_puts_in_nothing_else_says_so(name):
    denoising = asked("zero", direction=Direction.DENOISING).sweep
    if name == "mlxterp":
        from harness.engines.declaration import Declaration

        why = Declaration(metrics=("l2",), components=("mlp_out",)).cannot(name, small("llama"), denoising)
    else:
        why = engine_named(name).cannot(small("llama"), denoising)
    assert why is not None
    assert "zero" in why


def test_an_estimate_that_cannot_is_not_asked():
    with pytest.raises(EngineUnavailable, match="cannot say what zero does"):
        answer(engine_named("attribution-ig"), small("llama"), asked("zero"))


@pytest.mark.parametrize("direction", Direction)
def test_a_first_order_estimate_of_zeros_is_exact_on_a_linear_model(direction):
    model = load("dial-tiny-f32")
    prompts = [read(model, text) for text in ("a b", "b a")]
    sweep = Sweep(("mlp_out", "resid_post"), None, direction, value="zero")
    question = Question(*prompts, sweep, ("logit_diff",))
    exact, estimate = (answer(engine_named(name), model, question).curves for name in ("native", "attribution"))
    for one, other in zip(exact, estimate, strict=True):
        wanted = [cell.recovery.value for cell in one.cells]
        assert [cell.recovery.value for cell in other.cells] == pytest.approx(wanted, abs=POINTS)
        assert len(set(wanted)) > 1 or one.component == "resid_post"


# -- in a case ---------------------------------------------------------------------------------------------------------

CASE = """\
models: [llama-2k-f32]
prompts: {{clean: [1, 2], corrupted: [3, 2]}}
sweep: {{value: {value}{means}}}
"""


def written(folder, value, means=""):
    file = folder / "x.case.yaml"
    file.write_text(CASE.format(value=value, means=means), encoding="utf-8")
    return load_cases(file)


@pytest.mark.parametrize(
    ("value", "means", "place", "said"),
    [
        ("mean", "", "3:", "needs the prompts that it is the mean over"),
        ("zero", ", mean_of: [[1, 2]]", "3:", "says nothing where the value is 'zero'"),
        ("zeros", "", "3:", "zero"),
        ("mean", ", mean_of: []", "3:", "mean_of"),
        ("mean", ", mean_of: [1, 2]", "3:", "mean_of"),
    ],
)
def test_what_a_case_says_wrongly_is_located(tmp_path, value, means, place, said):
    with pytest.raises(CaseFileError) as caught:
        written(tmp_path, value, means)
    assert f"x.case.yaml:{place}" in str(caught.value)
    assert said in str(caught.value)


def test_a_result_has_the_prompts_of_its_mean(tmp_path):
    (case,) = written(tmp_path, "mean", ", mean_of: [[4, 5], [6]]")
    result = jobs.run(Job(case, bundled()["llama-2k-f32"], "native"), jobs.ModelCache())
    assert [prompt.ids for prompt in result.mean_of] == [(4, 5), (6,)]
    assert result.sweep.value == "mean"


def test_a_case_may_vary_the_value(tmp_path):
    file = tmp_path / "x.case.yaml"
    file.write_text("models: [llama-2k-f32]\nprompts: {clean: [1, 2], corrupted: [3, 2]}\n"
                    "matrix: {value: [other, zero]}\n", encoding="utf-8")  # fmt: skip
    assert [case.sweep.value for case in load_cases(file)] == ["other", "zero"]
    assert set(VALUES) >= {"other", "zero", "mean"}


CLOSED = [
    ("circuit-llama-2k-f32", ("mlp_out", "attn_out", "z", "v", "q", "mlp_post")),
    ("dial-152k-f32", ("mlp_out", "resid_post")),
    pytest.param("gated-qwen3-152k-f32", ("mlp_out", "attn_out"), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("positions", ["all", "last", "each", (0, 1)], ids=str)
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize(("name", "components"), CLOSED)
def test_zeros_reach_the_closed_form(name, components, direction, positions):
    model = load(name)
    texts = ("a b", "b a") if name.startswith("dial") else ("anna likes to drink", "bert likes to drink")
    prompts = [read(model, text) for text in texts]
    question = Question(*prompts, Sweep(components, None, direction, positions, value="zero"), ("l2", "mse"))
    given = answer(engine_named("native"), model, question)
    cells = [(curve, cell) for curve in given.curves for cell in curve.cells]
    for curve, cell in cells:
        own = replace(question.sweep, positions=(int(cell.position),)) if positions == "each" else question.sweep
        asked = replace(question, sweep=own)
        wanted = model.known.recovery(asked, curve.component, cell.layer, curve.metric, cell.head)
        assert cell.recovery.value == pytest.approx(wanted.value, abs=model.known.tolerance(asked, curve.metric))
    moved = {round(cell.recovery.value, 2) for _, cell in cells}
    assert len(moved) > 2 or positions == (0, 1)
