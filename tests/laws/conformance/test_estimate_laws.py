"""Engines that estimate: held to what an estimate owes, and to nothing that only exact numbers keep."""

from __future__ import annotations

import estimating
import pytest

from harness.engines import engine_named
from harness.laws import LAWS
from harness.laws.conformance.matrix import BROKEN, PASS, SKIP, row_cells
from harness.laws.conformance.rows import architecture, rows_named

EXACT = {name for name, law in LAWS.items() if law.exact}


def cells(name, row, laws=tuple(LAWS)):
    return {cell.law: cell for cell in row_cells(engine_named(name, True), row, [LAWS[law] for law in laws], False)}


@pytest.mark.parametrize("name", ["attribution", "attribution-ig", "estimating:sound"])
def test_a_right_estimate_breaks_no_law(name):
    found = cells(name, architecture("llama"))
    assert [(law, cell.text) for law, cell in found.items() if cell.status in BROKEN] == []
    assert {law: found[law].text for law in EXACT} == dict.fromkeys(EXACT, "an estimate is not exact")
    assert found["first-order"].status == PASS


@pytest.mark.parametrize("name", estimating.WRONG)
def test_a_wrong_gradient_does_not_tend_to_the_exact_recovery(name):
    found = cells(f"estimating:{name}", architecture("llama"), ("answers", "first-order"))["first-order"]
    assert (found.status, found.code) == ("fail", "LAW019")
    assert "points off with embeddings at" in found.text


def test_an_exact_engine_is_not_asked():
    found = cells("native", architecture("llama"), ("answers", "first-order"))["first-order"]
    assert (found.status, found.text) == (SKIP, "its numbers are no estimates")


def test_an_estimate_that_says_it_is_exact_is_held_to_that(monkeypatch):
    monkeypatch.setattr(estimating.Estimating, "harness", {**estimating.DECLARED, "estimate": False})
    assert cells("estimating:sound", architecture("llama"), ("answers", "declared"))["declared"].status == "fail"


@pytest.mark.parametrize("name", ["attribution", "attribution-ig"])
def test_on_a_linear_model_an_estimate_meets_the_closed_form(name):
    (row,) = rows_named(["dial-152k-f32"])
    assert cells(name, row, ("answers", "closed-form"))["closed-form"].status == PASS


def test_on_a_linear_model_a_wrong_estimate_does_not(monkeypatch):
    from harness.patching.slopes import Slopes

    right = Slopes.changes
    monkeypatch.setattr(Slopes, "changes", lambda *given: [0.9 * each for each in right(*given)])
    (row,) = rows_named(["dial-152k-f32"])
    assert cells("attribution", row, ("answers", "closed-form"))["closed-form"].code == "KNO001"
