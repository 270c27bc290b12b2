"""Where a check draws its line, and what it says beyond it: checks asked of evidence made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench import case, dial

from harness.checks import CHECKS, Evidence
from harness.engines import Engine
from harness.vocabulary import (
    Answer,
    Cell,
    Concordance,
    Curve,
    Denominator,
    Direction,
    Question,
    Reading,
    RowSummary,
    Site,
    State,
    Sweep,
    Tokens,
)

FINITE = RowSummary(0, 0, 0, 1.0, None)
MLP = Sweep(("mlp",))


def reading(value) -> Reading:
    return Reading.absent(value) if isinstance(value, State) else Reading.of(value)


def curve(metric="l2", baseline=10.0, oracle=10.0, cells=((50.0, 50.0),)) -> Curve:
    made = tuple(Cell(i, "all", reading(said), reading(true)) for i, (said, true) in enumerate(cells))
    return Curve("mlp", metric, "", reading(baseline), reading(oracle), made)


def found(check, *curves, clean=FINITE, corrupted=FINITE, patched=None, suppressed=(), sweep=MLP, **more):
    model = dial(vocab=100)
    question = Question(Tokens((0,), ("a",)), Tokens((1,), ("b",)), sweep, tuple(c.metric for c in curves))
    answer = Answer("stepwise", clean, corrupted, curves, patched or {}, suppressed=suppressed, dtype="float16", **more)
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


def test_every_baseline_that_an_engine_says_is_looked_at():
    """Somebody else's engine says one with every component: the second may be wrong where the first is right."""
    right = curve("l2", 10.0)
    wrong, broken = (replace(curve("l2", said), component="attn_out") for said in (20.0, State.NAN))
    assert codes("oracle", right, wrong) == codes("oracle", right, broken) == ["ORC001"]
    assert codes("oracle", wrong, wrong) == ["ORC001"]
    assert codes("finiteness", right, broken) == codes("finiteness", broken, broken) == ["FIN004"]


def test_two_metrics_are_compared_at_the_cells_that_both_have():
    """An engine may leave a layer out under one metric and not under the other."""
    l2, mse = curve("l2", 10.0, cells=[(50.0, 50.0), (20.0, 20.0)]), curve("mse", 1.0, cells=[(0, 0), (36.0, 36.0)])
    assert codes("agreement", l2, replace(mse, cells=mse.cells[1:])) == []
    assert codes("agreement", replace(l2, cells=l2.cells[1:]), mse) == []
    assert codes("agreement", l2, replace(mse, cells=mse.cells[:1])) == ["AGR001"]


@pytest.mark.parametrize(
    ("baseline", "wanted"),
    [(State.UNDEFINED, ["FIN004"]), (State.NAN, ["FIN004"]), (State.ZERO_BASELINE, []), (State.UNKNOWN, []), (0.1, [])],
    ids=str,
)
def test_a_baseline_that_is_none_is_not_finite(baseline, wanted):
    assert codes("finiteness", curve("cosine", baseline, baseline)) == wanted


def test_finiteness_counts_what_it_saw():
    (finding,) = found("finiteness", clean=RowSummary(3, 0, 1, 60_000.0, 7, 100))
    assert finding.message == "3 nan, 1 -inf of 100 clean logits; first at token id 7, largest finite |logit| 6e+04"
    (finding,) = found("finiteness", patched={Site("mlp", 4): RowSummary(0, 2, 0, None, 0), Site("mlp", 5): FINITE})
    assert (finding.code, finding.site) == ("FIN003", Site("mlp", 4))
    assert finding.message == "1 of 2 patched runs; here 2 +inf, first at token id 0, no finite value"


NAN, MORE, PLUS = RowSummary(1, 0, 0, 9.0, 4, 100), RowSummary(2, 0, 0, 9.0, 4, 100), RowSummary(0, 1, 0, 9.0, 4, 100)


@pytest.mark.parametrize(
    ("clean", "corrupted", "patched", "wanted"),
    [
        (FINITE, NAN, NAN, ["FIN002"]),
        (NAN, FINITE, NAN, ["FIN001"]),
        (FINITE, NAN, MORE, ["FIN002", "FIN003"]),
        (FINITE, NAN, PLUS, ["FIN002", "FIN003"]),
        (FINITE, FINITE, NAN, ["FIN003"]),
        (NAN, PLUS, FINITE, ["FIN001", "FIN002"]),
    ],
    ids=["its own", "the other run's", "more", "of another kind", "the patch's", "none is left"],
)
def test_what_an_unpatched_run_has_is_not_told_of_the_patch(clean, corrupted, patched, wanted):
    given = found("finiteness", clean=clean, corrupted=corrupted, patched={Site("mlp", 4): patched})
    assert [finding.code for finding in given] == wanted


def test_finiteness_tells_a_baseline_from_its_recoveries_and_says_each_once():
    broken = curve(baseline=State.INF, cells=[(State.NAN, 50.0), (State.NAN, 50.0), (10.0, 10.0)])
    first, second = found("finiteness", broken)
    assert (first.code, first.message) == ("FIN004", "reported inf, float64 on the same logits gives 10")
    assert (second.code, second.message) == ("FIN005", "nan at 2 of 3 cells")


def test_a_zero_baseline_says_whether_the_prompts_are_the_same():
    (finding,) = found("zero-baseline", curve(oracle=State.ZERO_BASELINE), curve("mse"))
    assert finding.message == "l2: the prompts differ, the readings do not"
    assert codes("zero-baseline", curve(oracle=State.NAN)) == []


def divided(metric="logit_diff", oracle=None, cells=((50.0, 50.0),), **denominator) -> Curve:
    by = Denominator(**denominator)
    end = oracle or (by.corrupted if by.state is State.FINITE else by.state)
    return replace(curve(metric, baseline=end, oracle=end, cells=cells), denominator=by)


def test_a_gap_of_rounding_says_both_scores_and_the_bound():
    (finding,) = found("zero-baseline", divided(clean=6.060019, corrupted=6.060029, resolution=1.6e-5), curve("l2"))
    assert (finding.code, finding.metric) == ("BAS002", "logit_diff")
    assert finding.message == (
        "6.060019 on the clean run and 6.060029 on the corrupted one are 1e-05 apart, and rounding alone makes "
        "1.6e-05 of float16 logits"
    )
    assert finding.evidence == {"clean": 6.060019, "corrupted": 6.060029, "resolution": 1.6e-5, "wrong": None}


@pytest.mark.parametrize(
    ("denominator", "wanted"),
    [
        ({"clean": 2.0, "corrupted": -1.0, "wrong": -2.0}, []),
        ({"clean": -1.0, "corrupted": -3.0, "wrong": 1.0}, ["the clean run prefers the wrong answer"]),
        ({"clean": 1.0, "corrupted": 3.0, "wrong": -1.0}, ["the corrupted run scores the answer above the clean run"]),
        ({"clean": -1.0, "corrupted": 3.0, "wrong": 1.0}, ["corrupted run scores", "and the clean run prefers"]),
        ({"clean": -0.1, "corrupted": -3.0, "wrong": 0.1, "resolution": 0.3}, []),
        ({"clean": 1.0, "corrupted": 3.0, "wrong": None}, ["the corrupted run scores the answer above the clean run"]),
    ],
    ids=["upright", "wrong preferred", "corrupted above", "both", "a tie within rounding", "no wrong answer"],
)
def test_scores_the_other_way_round_are_named_with_both(denominator, wanted):
    curves = divided(**denominator), replace(divided(**denominator), component="attn_out")
    findings = found("zero-baseline", *curves)
    assert [each.code for each in findings] == ["BAS004"] * bool(wanted)
    for finding in findings:
        assert all(part in finding.message for part in wanted)
        assert finding.message.endswith(
            f"; the clean run scores {denominator['clean']:g}, the corrupted run {denominator['corrupted']:g}"
        )


def test_a_distance_that_grows_is_no_score_the_other_way_round():
    assert codes("zero-baseline", divided("l2", clean=0.0, corrupted=3.0)) == []


@pytest.mark.parametrize(
    ("resolution", "percent", "precision", "wanted"),
    [
        (0.9, 0.0, None, []), (0.9, -100.0, None, ["BAS003"]), (0.05, -900.0, None, []), (0.05, -9e3, None, ["BAS003"]),
        (0.9, -100.0, 5.0, []), (0.0, 50.0, 99.0, []), (0.0, 50.0, 101.0, ["BAS003"]),
    ],
    ids=["near", "near and scattered", "apart", "apart and far out", "measured", "measured 99", "measured 101"],
)  # fmt: skip
def test_a_bar_of_more_than_100_points_is_warned_of(resolution, percent, precision, wanted):
    given = divided(clean=1.0, corrupted=0.0, resolution=resolution, cells=((percent, percent), (50.0, 50.0)))
    cells = (replace(given.cells[0], precision=precision), replace(given.cells[1], precision=0.0))
    findings = found("zero-baseline", replace(given, cells=cells))
    assert [each.code for each in findings] == wanted
    for finding in findings:
        assert finding.site == Site("mlp", 0)
        assert finding.message.startswith(f"{percent:.4g} % ± ")
        assert "1 of 2 cells have a bar over 100 points" in finding.message


def test_an_engine_is_not_blamed_for_a_gap_of_rounding():
    """Its number is the quotient of what it saw; the case asks for none that there is."""
    gone = divided(clean=1.0, corrupted=1.1, resolution=0.2, cells=[(State.ILL_CONDITIONED,) * 2])
    for check in ("oracle", "finiteness", "known-answer"):
        assert codes(check, gone) == []


def test_laws_are_asked_of_the_harnesss_own_patching_and_of_finite_answers_only():
    assert codes("laws", clean=RowSummary(1, 0, 0, 1.0, 0)) == []


@pytest.mark.parametrize(
    ("headroom", "wanted"), [(2.0, []), (1.999, ["HED001"]), (0.5, ["HED001"]), (None, [])], ids=str
)
def test_headroom_is_warned_of_from_half_the_limit_on(headroom, wanted):
    assert codes("headroom", replace(curve(), headroom=headroom)) == wanted


def test_headroom_says_each_metric_once_with_its_norm():
    curves = [replace(curve(metric), headroom=value) for metric, value in (("l2", 0.5), ("l2", 0.5), ("cosine", 4.0))]
    (finding,) = found("headroom", *curves)
    assert finding.message.endswith("a norm below 255.97 logits, and here the norm is 511.94 for l2 (headroom 0.5)")


@pytest.mark.parametrize(("share", "wanted"), [(50.0, []), (50.1, ["SHF001"]), (None, [])], ids=str)
def test_a_shift_is_warned_of_where_it_is_more_than_half(share, wanted):
    assert codes("shift-share", replace(curve(), shift_share=share)) == wanted


def test_a_shift_says_what_is_left_of_the_l2():
    """Three quarters of the squares leave half of the norm."""
    (finding,) = found("shift-share", replace(curve(), shift_share=75.0), replace(curve("mse"), shift_share=75.0))
    assert finding.message == (
        "75.0 % of the squared difference behind l2 and mse is one shift of all logits; "
        "without it the l2 would be 50 % of what it is"
    )


def barred(*cells) -> Curve:
    made = tuple(
        Cell(layer, "all", Reading.of(value), Reading.of(value), precision=bar)
        for layer, (value, bar) in enumerate(cells)
    )
    return replace(curve(), cells=made)


RESOLVED = [(90.0, 4.0), (80.0, 5.9), (60.0, 1.0), (40.0, 1.0)]


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (RESOLVED, []),
        ([(90.0, 4.2), *RESOLVED[1:]], ["PRC001"]),
        ([*RESOLVED, (39.0, 30.0)], []),
        ([*RESOLVED[:3], (59.0, 1.0)], ["PRC001"]),
        ([(0.0, 0.004), (0.0, 0.004), (0.0, 0.004)], []),
        ([(0.0, 0.006), (0.0, 0.006)], ["PRC001"]),
        ([(90.0, None), (89.9, None)], []),
        ([(90.0, 50.0)], []),
    ],
    ids=[
        "resolved",
        "first two",
        "below the top",
        "third and fourth",
        "within tolerance",
        "beyond it",
        "no bars",
        "alone",
    ],
)
def test_an_order_is_open_where_bars_are_wider_than_the_gap(cells, wanted):
    assert codes("precision", barred(*cells)) == wanted


def test_noising_ranks_what_harms_most_first():
    cells = [(100.0, 9.0), (99.0, 9.0), (70.0, 0.1), (30.0, 0.1), (20.0, 0.1), (10.0, 0.1)]
    assert codes("precision", barred(*cells)) == ["PRC001"]
    assert codes("precision", barred(*cells), sweep=Sweep(("mlp",), direction=Direction.NOISING)) == []


@pytest.mark.parametrize(("tau", "wanted"), [(0.34, []), (0.33, ["MET001"]), (-1.0, ["MET001"]), (None, [])], ids=str)
def test_metrics_part_where_fewer_than_two_of_three_pairs_agree(tau, wanted):
    assert codes("metric-comparison", concordances=(Concordance("mlp", ("l2", "mse"), tau, (1,)),)) == wanted


def test_the_worst_pair_of_a_component_stands_for_all_of_it():
    pairs = [("mlp", 0.2, (4,)), ("mlp", -0.5, (7, 9)), ("attn", 0.1, (1,)), ("attn", 0.9, ())]
    given = tuple(Concordance(component, ("l2", "cosine"), tau, layers) for component, tau, layers in pairs)
    first, second = found("metric-comparison", concordances=given)
    assert first.message == (
        "mlp by l2 and by cosine: tau -0.50, most of all at layers 7, 9; 1 more pair; recommend_metric names l2 for "
        "100 tokens"
    )
    assert second.message.startswith("attn by l2 and by cosine: tau 0.10, most of all at layer 1; recommend_metric")


@pytest.mark.parametrize(
    ("strategy", "fallback", "wanted"),
    [("one-pass", "why", ["STR001"]), ("one-pass", None, []), ("auto", "why", []), ("stepwise", None, [])],
    ids=str,
)
def test_only_a_case_that_asks_for_one_pass_is_told_that_it_was_not(strategy, fallback, wanted):
    assert codes("strategy", sweep=Sweep(("mlp",), strategy=strategy), fallback=fallback) == wanted
