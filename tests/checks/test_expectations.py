"""Where an expectation draws its line: ranks with ties, grids, undefined recoveries, ends of ranges, narrowing."""

from __future__ import annotations

import pytest
from bench import case, dial

from harness.checks import CHECKS, Evidence
from harness.engines import Engine
from harness.vocabulary import Answer, Cell, Curve, Question, Reading, RowSummary, State, Sweep, Tokens

FINITE = RowSummary(0, 0, 0, 1.0, None)


def reading(value) -> Reading:
    return Reading.absent(value) if isinstance(value, State) else Reading.of(value)


def curve(*recoveries, component="mlp", metric="l2", baseline=10.0, positions=("all",)) -> Curve:
    """A curve with one cell a layer, or, for a tuple, one a position."""
    cells = tuple(
        Cell(layer, position, reading(value), reading(value))
        for layer, each in enumerate(recoveries)
        for position, value in zip(positions, each if isinstance(each, tuple) else (each,), strict=True)
    )
    return Curve(component, metric, "logits", reading(baseline), reading(baseline), cells)


def found(expect, *curves, engine="native"):
    question = Question(Tokens((0,), ("a",)), Tokens((1,), ("b",)), Sweep(("mlp",)), tuple({c.metric for c in curves}))
    given = Answer("stepwise", FINITE, FINITE, curves)
    evidence = Evidence(case(expect=expect), dial(vocab=16), Engine(engine, ""), question, given)
    return list(CHECKS["expectation"](evidence))


def codes(expect, *curves, **about):
    return [finding.code for finding in found(expect, *curves, **about)]


@pytest.mark.parametrize(
    ("recoveries", "layers", "among", "wanted"),
    [
        ((1, 2, 3, 4), [3, 2], None, []),
        ((1, 2, 3, 4), [2, 3], None, []),
        ((1, 2, 3, 4), [-1, -2], None, []),
        ((1, 2, 3, 4), [3, 1], None, ["EXP004"]),
        ((1, 2, 3, 4), [1], 2, ["EXP004"]),
        ((1, 2, 3, 4), [1], 3, []),
        ((1, 2, 3, 4), [1, 3], 3, []),
        ((1, 3, 3, 4), [3, 1], None, []),
        ((5, 3, 3, 4), [1, 2], None, ["EXP004"]),
        ((5, 3, 3, 4), [1, 2], 4, ["EXP004"]),  # any two of the four would do
        ((-9, -5, -7, -8), [1], None, []),
        ((1, 2, 3, State.NAN), [3], None, ["EXP004"]),
        ((1, 2, 3, State.NAN), [3], 4, ["EXP004"]),
        ((1, 2, 3, State.NAN), [2], None, []),
        ((State.ZERO_BASELINE,) * 4, [2], None, ["EXP004"]),
        ((1, 2, 3, 4), [9], 9, ["EXP004"]),
    ],
    ids=str,
)
def test_the_layers_that_recover_most_stand_in_any_order_and_ties_take_no_place(recoveries, layers, among, wanted):
    assert codes({"top_layers": ({"layers": tuple(layers), "among": among},)}, curve(*recoveries)) == wanted


def test_a_layer_of_a_grid_counts_with_its_best_cell():
    grid = curve((9, 1), (5, 5), positions=("0", "1"))
    assert codes({"top_layers": ({"layers": (0,)},)}, grid) == []
    assert codes({"rank_order": ({"layers": (1, 0)},)}, grid) == ["EXP006"]


@pytest.mark.parametrize(
    ("recoveries", "layers", "wanted"),
    [
        ((1, 2, 3, 4), (3, 1, 0), []),
        ((1, 2, 3, 4), (-1, -2, 0), []),
        ((1, 2, 3, 4), (3, 0, 1), ["EXP006"]),
        ((1, 2, 2, 4), (3, 1, 2), ["EXP006"]),
        ((1, 2, 3, State.NAN), (2, 3), []),
        ((1, 2, State.NAN, State.NAN), (2, 3), ["EXP006"]),
        ((1, 2, 3, 4), (3, 9), ["EXP006"]),
    ],
    ids=str,
)
def test_an_order_is_strict(recoveries, layers, wanted):
    assert codes({"rank_order": ({"layers": layers},)}, curve(*recoveries)) == wanted


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({"at_least": 4.0}, []),
        ({"at_least": 4.01}, ["EXP005"]),
        ({"at_least": 2.0, "layer": 1}, []),
        ({"at_least": 2.01, "layer": 1}, ["EXP005"]),
        ({"at_least": 4.0, "layer": -1}, []),
        ({"at_least": -100.0, "layer": 7, "metric": "l2"}, ["EXP005"]),
        ({"at_least": 5.0, "metric": "mse"}, []),
        ({"at_least": 5.0, "component": "mlp"}, ["EXP005"]),
    ],
    ids=str,
)
def test_a_minimum_is_reached_by_the_layer_or_by_the_best_one(entry, wanted):
    made = {"minimum_recovery": (entry,)}
    expect_metrics = [curve(1, 2, 3, 4), curve(50, 60, 60, 60, metric="mse")]
    assert codes(made, *expect_metrics) == wanted


def test_no_recovery_at_all_reaches_no_minimum():
    (finding,) = found({"minimum_recovery": ({"at_least": -500.0},)}, curve(State.ZERO_BASELINE))
    assert finding.message == "no finite recovery at best, the case states at least -500 %"


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({"at_least": 10.0}, []),
        ({"at_most": 10.0}, []),
        ({"at_least": 10.01}, ["EXP003"]),
        ({"at_most": 9.99}, ["EXP003"]),
        ({"at_least": 9.0, "at_most": 11.0}, []),
        ({"at_least": 11.0, "engine": "legacy"}, []),
    ],
    ids=str,
)
def test_a_range_holds_its_ends(entry, wanted):
    engines = {"engine": "native"} if "engine" not in entry else {}
    assert codes({"baseline_range": ({"metric": "l2", **engines, **entry},)}, curve(1.0)) == wanted


def test_a_baseline_without_a_value_is_in_no_range():
    (finding,) = found({"baseline_range": ({"metric": "l2", "at_least": 1.0},)}, curve(1.0, baseline=State.INF))
    assert finding.message == "inf logits, the case states 1 to inf"


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (curve(1, 2), []),
        (curve(1, State.NAN), ["EXP002"]),
        (curve(1, State.UNDEFINED), ["EXP002"]),
        (curve(1, 2, baseline=State.INF), ["EXP002"]),
        (curve(State.ZERO_BASELINE), ["EXP002"]),
    ],
    ids=["finite", "nan", "undefined", "baseline", "zero"],
)
def test_finite_means_that_there_is_a_value(made, wanted):
    assert codes({"finite": True}, made) == wanted
    assert codes({"finite": False}, made) == []
    assert codes({"finite": ({"metric": "l2", "model": "plan*"},)}, made) == wanted
    assert codes({"finite": ({"component": "attn"},)}, made) == []
    assert codes({"finite": ({"engine": "legacy"},)}, made) == []
    assert codes({"finite": ({"model": "other*"},)}, made) == []


def test_a_finding_says_how_the_layers_rank():
    (finding,) = found({"top_layers": ({"layers": (0, 1)},)}, curve(1, 2, 3))
    assert finding.message == "the highest are 2 (3.00 %), 1 (2.00 %), 0 (1.00 %); the case states 0, 1, in any order"
    (finding,) = found({"rank_order": ({"layers": (0, 1)},)}, curve(1, 2, 3))
    assert finding.message == "found 1 (2.00 %), 0 (1.00 %); the case states 0, 1, in this order"
