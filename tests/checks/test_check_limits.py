"""Where a check draws its line, and what it says beyond it: checks asked of evidence made by hand."""

from __future__ import annotations

import pytest
from bench import case, dial

from harness.checks import CHECKS, Evidence
from harness.engines import Engine
from harness.vocabulary import Answer, Cell, Curve, Question, Reading, RowSummary, Site, State, Sweep, Tokens

FINITE = RowSummary(0, 0, 0, 1.0, None)


def reading(value) -> Reading:
    return Reading.absent(value) if isinstance(value, State) else Reading.of(value)


def curve(metric="l2", baseline=10.0, oracle=10.0, cells=((50.0, 50.0),)) -> Curve:
    made = tuple(Cell(i, "all", reading(said), reading(true)) for i, (said, true) in enumerate(cells))
    return Curve("mlp", metric, "", reading(baseline), reading(oracle), made)


def found(check, *curves, clean=FINITE, patched=None, suppressed=()):
    model = dial(vocab=100)
    question = Question(Tokens((0,), ("a",)), Tokens((1,), ("b",)), Sweep(("mlp",)), tuple(c.metric for c in curves))
    answer = Answer("stepwise", clean, FINITE, curves, patched or {}, suppressed=suppressed)
    return list(CHECKS[check](Evidence(case(), model, Engine("made", ""), question, answer)))


def codes(*about, **more) -> list[str]:
    return [finding.code for finding in found(*about, **more)]


@pytest.mark.parametrize(
    ("baseline", "oracle", "wanted"),
    [
        (10.049, 10.0, []), (9.951, 10.0, []), (10.051, 10.0, ["ORC001"]), (9.949, 10.0, ["ORC001"]),
        (State.INF, 10.0, ["ORC001"]), (State.NAN, 10.0, ["ORC001"]), (1.0, State.NAN, ["ORC003"]),
        (1.0, State.ZERO_BASELINE, ["ORC003"]), (0.0, State.ZERO_BASELINE, []), (State.NAN, State.INF, []),
        (0.0, State.NAN, ["ORC003"]), (0.0, State.UNDEFINED, ["ORC003"]),
        (-10.0, 10.0, ["ORC001"]), (-10.0, -10.04, []),
    ],
    ids=str,
)  # fmt: skip
def test_the_oracle_allows_half_a_percent_of_a_baseline(baseline, oracle, wanted):
    assert codes("oracle", curve(baseline=baseline, oracle=oracle)) == wanted


@pytest.mark.parametrize(
    ("said", "true", "wanted"),
    [
        (50.49, 50.0, []), (50.51, 50.0, ["ORC002"]), (49.49, 50.0, ["ORC002"]), (State.NAN, 50.0, ["ORC002"]),
        (0.0, State.UNDEFINED, ["ORC003"]), (State.ZERO_BASELINE, State.ZERO_BASELINE, []),
    ],
    ids=str,
)  # fmt: skip
def test_the_oracle_allows_half_a_point_of_a_recovery(said, true, wanted):
    assert codes("oracle", curve(cells=[(said, true)])) == wanted


def test_the_oracle_names_the_worst_cell_and_all_the_others():
    (finding,) = found("oracle", curve(cells=[(50.0, 50.0), (51.0, 50.0), (20.0, 50.0)]))
    assert finding.site == Site("mlp", 2)
    assert finding.message == "reported 20.00 %, float64 gives 50.00 %; 2 of 3 cells"
    assert finding.evidence == {"layers": [1, 2]}


@pytest.mark.parametrize(
    ("l2", "mse", "wanted"),
    [
        (50.0, 75.0, []), (50.0, 75.49, []), (50.0, 75.51, ["AGR001"]), (100.0, 100.0, []), (100.0, 99.4, ["AGR001"]),
        (-25.0, -56.25, []), (-100.0, -301.9, []), (-100.0, -302.1, ["AGR001"]), (State.NAN, 75.0, []),
    ],
    ids=str,
)  # fmt: skip
def test_recoveries_agree_within_half_a_point_of_either(l2, mse, wanted):
    """For strongly negative recoveries half a point of l2 is 2 (1 - r) times as much of mse."""
    pair = curve("l2", 10.0, cells=[(l2, l2)]), curve("mse", 1.0, cells=[(mse, mse)])
    assert codes("agreement", *pair) == wanted


@pytest.mark.parametrize(
    ("mse", "suppressed", "wanted"),
    [(1.0, (), []), (1.0099, (), []), (1.0102, (), ["AGR002"]), (0.9899, (), ["AGR002"]), (1.0, (3, 4), ["AGR002"]),
     (100 / 98, (3, 4), []), (State.INF, (), [])],
    ids=str,
)  # fmt: skip
def test_baselines_agree_over_the_tokens_that_count(mse, suppressed, wanted):
    pair = curve("l2", 10.0), curve("mse", mse, cells=[(75.0, 75.0)])
    assert codes("agreement", *pair, suppressed=suppressed) == wanted


def test_finiteness_counts_what_it_saw():
    (finding,) = found("finiteness", clean=RowSummary(3, 0, 1, 60_000.0, 7))
    assert finding.message == "3 nan, 1 -inf of 100 clean logits; first at token id 7, largest finite |logit| 6e+04"
    (finding,) = found("finiteness", patched={Site("mlp", 4): RowSummary(0, 2, 0, None, 0), Site("mlp", 5): FINITE})
    assert (finding.code, finding.site) == ("FIN003", Site("mlp", 4))
    assert finding.message == "1 of 2 patched runs; here 2 +inf, first at token id 0, no finite value"


def test_finiteness_tells_a_baseline_from_its_recoveries_and_says_each_once():
    broken = curve(baseline=State.INF, cells=[(State.NAN, 50.0), (State.NAN, 50.0), (10.0, 10.0)])
    first, second = found("finiteness", broken)
    assert (first.code, first.message) == ("FIN004", "reported inf, float64 on the same logits gives 10")
    assert (second.code, second.message) == ("FIN005", "nan at 2 of 3 cells")


def test_a_zero_baseline_says_whether_the_prompts_are_the_same():
    (finding,) = found("zero-baseline", curve(oracle=State.ZERO_BASELINE), curve("mse"))
    assert finding.message == "l2: the prompts differ, the readings do not"
    assert codes("zero-baseline", curve(oracle=State.NAN)) == []


def test_laws_are_asked_of_the_harnesss_own_patching_and_of_finite_answers_only():
    assert codes("laws", clean=RowSummary(1, 0, 0, 1.0, 0)) == []
