"""What the checks of a job cost: forward passes beside those of its sweep."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import faulty_models as faulty
import mlx.core as mx
import pytest
from bench import codes, dial, run
from faulty_models import loaded
from mlx_lm.models import llama

from harness import models
from harness.engines import ENGINES, NATIVE, answer
from harness.engines.formula import Engine, Formula
from harness.engines.kept_rows import KeptRows
from harness.intercept import capture
from harness.metrics import host_row, measure
from harness.models.spec import SyntheticRow
from harness.vocabulary import METRICS, Question, Sweep, Tokens

PROMPTS = {"clean": (3, 7, 11, 5), "corrupted": (3, 8, 11, 6)}
OTHER = {"clean": (3, 7, 11, 5), "corrupted": (4, 7, 11, 6)}
"""Prompts that differ at another position."""


@pytest.fixture
def calls(monkeypatch):
    """The shapes `(rows, tokens)` that a llama is called with."""
    seen: deque[tuple[int, ...]] = deque()  # a list in a closure would be a state of the model's that moves
    original = llama.Model.__call__

    def noting(self, inputs, *more, **named):
        seen.append(tuple(inputs.shape))
        return original(self, inputs, *more, **named)

    monkeypatch.setattr(llama.Model, "__call__", noting)
    return seen


@pytest.fixture
def model():
    row = SyntheticRow(id="l", source="synthetic", architecture="llama", vocab=512, layers=6, dtype="float32")
    return models.load(row)


def of_job(model, calls, **written):
    """Return the shapes of the calls of a job, which must pass."""
    calls.clear()
    result = run(model, **{"prompts": PROMPTS, "metrics": tuple(METRICS), **written})
    assert codes(result) <= {"BAS004", "SHF001", "HED001", "MET001"}
    return [shape for shape in calls if shape != (1, 1)]  # which the bench itself makes


@pytest.mark.parametrize("components", [("mlp_out",), ("attn_out", "mlp_out", "resid_pre")], ids=len)
def test_a_job_takes_two_runs_beside_its_sweep(model, calls, components):
    sweep = {"components": components}
    of_job(model, calls, sweep=sweep)  # proves the components, and that the residual stream restores everything
    sweeping = of_job(model, calls, sweep=sweep, checks=("oracle", "agreement"))
    checked = of_job(model, calls, sweep=sweep)
    assert sorted(sweeping) == [(1, 4), (1, 4), (2, 4)]  # A, the sweep, A again
    assert sorted(checked) == sorted(sweeping)  # A again has its own activations put back


def test_the_first_job_asks_of_the_residual_stream_besides(model, calls):
    of_job(model, calls)
    usual = len(of_job(model, calls))
    model.restored.clear()
    assert len(of_job(model, calls)) == usual + 2
    assert len(of_job(model, calls)) == usual
    assert len(of_job(model, calls, prompts=OTHER)) == usual + 2  # what goes around the stream may show there


def test_our_other_formulas_take_one(model, calls):
    def beyond(**written):
        return len(of_job(model, calls, engine="legacy", metrics=("l2",), **written))

    of_job(model, calls)
    assert beyond() == beyond(checks=("oracle",))


def test_a_breach_of_the_residual_stream_is_found_in_every_job():
    model = loaded(faulty.Shortcut())
    assert "LAW003" in codes(run(model))
    assert "LAW003" in codes(run(model))
    assert not model.restored


def test_a_shortcut_shows_where_prompts_differ_at_its_token():
    """What the first job cannot see, because its prompts end alike, the second one must."""

    class AtTheLast(faulty.Sound):
        def __call__(self, inputs: mx.array) -> mx.array:
            return super().__call__(inputs) + self.embedding[inputs]

    model = loaded(AtTheLast())
    assert "LAW003" not in codes(run(model, prompts={"clean": (0, 2), "corrupted": (1, 2)}))
    assert "LAW003" in codes(run(model, prompts={"clean": (0, 2), "corrupted": (0, 3)}))


def test_a_formula_that_counts_its_calls_is_seen_by_order_alone(monkeypatch):
    """Cells of a proven sweep are measured again in another order: a formula with a memory gives itself away."""
    counted = [0]

    def recovery(baseline: float, patched: float) -> float:
        counted[0] += 1
        return 100 * (baseline - patched) / baseline + counted[0] / 10

    def distance(metric, clean, x):
        return measure(metric, host_row(clean), host_row(x)).value

    monkeypatch.setitem(ENGINES, "planted", Engine("planted", "", Formula(distance, recovery)))
    model = dial()
    assert "LAW007" in codes(run(model, "planted", metrics=("l2",), checks=("laws",)))


def test_activations_put_back_wrongly_once_are_a_breach(monkeypatch, model):
    """Where neither tapping alone nor putting back alone shows it again."""
    right = capture._at
    wrong = iter([True])

    def at(positions, value, put, point, tokens):
        given = right(positions, value, put, point, tokens)
        return given * 1.01 if point.layer == 3 and next(wrong, False) else given

    monkeypatch.setattr(capture, "_at", at)
    model.proven.add("mlp")
    found = codes(run(model, prompts=PROMPTS, sweep={"components": ("mlp",), "strategy": "one-pass"}))
    assert "LAW002" in found


def test_rows_are_kept_for_nobody_who_asks_no_law(monkeypatch):
    kept, original = [], KeptRows._walk
    monkeypatch.setattr(KeptRows, "_walk", lambda self, *about: kept.append(self) or original(self, *about))
    assert codes(run(dial(), checks=("oracle",))) == set()
    assert not kept
    run(dial(), checks=("laws",))
    assert len(kept) == 1


def test_the_kept_rows_of_a_grid_are_spread_over_it(model):
    ids = [tuple(range(at, at + 20)) for at in (1, 2)]
    sweep = Sweep(("mlp_out",), None, positions="each")
    question = Question(*(Tokens(each, tuple(map(str, each))) for each in ids), sweep, ("l2",))
    kept = KeptRows(NATIVE)
    given = answer(kept.keeping, model, question)
    again = kept.answer(model, question)
    assert len(kept.cells) == 30
    assert {site.layer for site in kept.cells} == {0, 3, 5}
    stated = {(curve.site(cell)): cell.recovery for curve in given.curves for cell in curve.cells}
    for curve in again.curves:
        assert len(curve.cells) == 30
        assert all(stated[curve.site(cell)] == cell.recovery for cell in curve.cells)
    fewer = replace(question, sweep=replace(question.sweep, layers=(5, 0)))
    assert [cell.layer for cell in kept.answer(model, fewer).curves[0].cells] == [5] * 10 + [0] * 10
