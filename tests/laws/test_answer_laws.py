"""Laws about answers: every engine of ours obeys them, and an engine with the defect does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness import models
from harness.engines import answer, engine_named
from harness.intercept import capture, resolve
from harness.laws import LAWS, Situation
from harness.models.fingerprint import fingerprint
from harness.models.spec import DialRow, SyntheticRow
from harness.vocabulary import METRICS, Direction, Question, Reading, Sweep, Tokens
from harness.vocabulary.errors import DoesNotApply

LAW = {law.code: law.of_job for law in LAWS.values() if law.of_answers}


def dial(dtype="float32", **more):
    row = {"id": "d", "source": "groundtruth", "kind": "dial", "vocab": 256, "weights": (0.25, 0.5, 0.75, 1.0)}
    return models.load(DialRow(**{**row, **more}, dtype=dtype))


def llama(dtype):
    return models.load(SyntheticRow(id="l", source="synthetic", architecture="llama", vocab=512, dtype=dtype))


def of(engine):
    return lambda model, question: answer(engine_named(engine), model, question)


def situation(model, ask, metrics=("l2", "mse", "cosine"), components=("mlp",), **sweep) -> Situation:
    question = Question(Tokens((3, 0), ("d", "a")), Tokens((3, 1), ("d", "b")), Sweep(components, **sweep), metrics)
    return Situation(model, question, tuple(resolve(model, question.sweep)), ask)


@pytest.mark.parametrize("code", LAW)
@pytest.mark.parametrize("strategy", ["one-pass", "stepwise"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_own_engine_obeys_in_every_dtype_and_order_of_work(code, strategy, dtype):
    model = llama(dtype)
    before = fingerprint(model.module)
    about = situation(model, of("native"), tuple(METRICS), ("attn_out", "mlp_out", "resid_pre"), strategy=strategy)
    assert LAW[code](about) is None
    assert before.difference(fingerprint(model.module)) is None


@pytest.mark.parametrize("code", LAW)
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("positions", ["last", "each", (0, -1)], ids=str)
def test_directions_and_positions_are_no_breach(code, direction, positions):
    assert LAW[code](situation(llama("float32"), of("native"), direction=direction, positions=positions)) is None


@pytest.mark.parametrize("code", LAW)
@pytest.mark.parametrize("logits", ["plain", "extreme", "mean10", "suppressed"])
def test_logits_at_the_ends_of_float16_are_no_breach(code, logits):
    weights = (0.25, 0.5) if logits == "suppressed" else (0.25, 0.5, 0.75, 1.0)
    assert LAW[code](situation(dial("float16", logits=logits, weights=weights), of("native"))) is None


@pytest.mark.parametrize("code", LAW)
@pytest.mark.parametrize("engine", ["legacy", "published"])
def test_the_formulas_obey_where_nothing_overflows(code, engine):
    assert LAW[code](situation(dial("float32"), of(engine), ("l2", "mse"))) is None


@pytest.mark.parametrize(
    ("engine", "model", "exponent"),
    [
        ("legacy", lambda: dial("float16"), 7),  # the sum overflows when the logits grow
        ("published", lambda: dial("float16", logits="extreme"), -8),  # the difference no longer does when they shrink
    ],
    ids=["a sum that overflows", "a difference that overflows"],
)
def test_an_overflow_is_seen_without_an_oracle(engine, model, exponent):
    said = LAW["LAW006"](situation(model(), of(engine), ("l2",)))
    assert said.startswith(f"logits x 2^{exponent}: layer ")
    assert "nan" in said


def test_a_constant_beside_the_logits_is_seen():
    """(b - p + 1) / (b + 1) tends to (b - p) / b when the logits grow."""

    def ask(model, question):
        given = of("native")(model, question)
        size = given.curves[0].baseline.value
        return edited(given, lambda layer, value: value * size / (size + 1))

    assert LAW["LAW006"](situation(dial(), ask, ("l2",))) is not None


def test_softmax_has_a_unit_so_kl_is_not_held_to_the_law():
    about = situation(llama("float32"), of("native"), ("kl_divergence", "log_prob"))
    with pytest.raises(DoesNotApply, match="unit of the logits"):
        LAW["LAW006"](about)


def edited(given, change):
    return replace(
        given,
        curves=tuple(
            replace(curve, cells=tuple(
                replace(cell, recovery=Reading.of(change(cell.layer, cell.recovery.value))) for cell in curve.cells
            ))
            for curve in given.curves
        ),
    )  # fmt: skip


def by_place(model, question):
    """An engine that answers for the place of a layer in the list, and not for the layer."""
    given = of("native")(model, question)
    order = list(question.sweep.layers)
    return edited(given, lambda layer, value: 10.0 * order.index(layer))


def forgetful(model, question):
    """An engine that leaves out what is asked for last."""
    given = of("native")(model, question)
    return replace(given, curves=tuple(replace(curve, cells=curve.cells[:-1]) for curve in given.curves))


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (by_place, "asked for among others and as layers [3, 0] only: layer 0 mlp (l2) recovers 0.0000 and 10.0000 %"),
        (forgetful, "layer 0 mlp (l2) recovers 25.0000 and no answer %"),
    ],
    ids=["place for layer", "a cell left out"],
)
def test_another_order_and_fewer_layers_show_what_is_mixed_up(ask, said):
    assert said in LAW["LAW007"](situation(dial(), ask, ("l2",)))


def test_what_the_caller_calls_rounding_is_no_breach():
    ask = lambda model, question: edited(  # noqa: E731
        of("native")(model, question), lambda layer, value: value + len(question.sweep.layers)
    )
    about = situation(dial(), ask, ("l2",))
    assert LAW["LAW007"](about) is not None
    assert LAW["LAW007"](replace(about, within=1.0)) is None


def test_one_layer_has_no_order():
    with pytest.raises(DoesNotApply, match="one layer"):
        LAW["LAW007"](situation(dial(), by_place, ("l2",), layers=(2,)))


@pytest.mark.parametrize("component", ["mlp", "attn_out", "resid_pre", "resid_post", "z"])
def test_a_reference_in_place_of_a_copy_shows(component, monkeypatch):
    model = llama("float32")
    about = situation(model, of("native"), ("l2",), (component,))
    assert LAW["LAW008"](about) is None
    monkeypatch.setattr(capture, "_unshared", lambda value: value)
    assert LAW["LAW008"](about).startswith("a small model written plainly, and with `x += y`: layer ")


def test_every_law_about_answers_is_here():
    assert set(LAW) == {"LAW006", "LAW007", "LAW008"}
