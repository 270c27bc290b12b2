"""What `compare` sees: every kind of difference planted alone, and nothing where nothing differs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from example_results import curve, grid, job, run

from harness.results.compare import breaches, compare, judge, parse_limits
from harness.results.reports.differences import verdict
from harness.vocabulary import (
    AnswerTokens,
    Curve,
    Direction,
    Finding,
    JobResult,
    ModelCard,
    Site,
    Status,
    Sweep,
    Tokens,
)
from harness.vocabulary.errors import UsageError

BEFORE = job(curves=(curve(10.0, 50.0, 90.0),), timings={"sweep_s": 1.0})


def broken(base: JobResult, new: JobResult, *limits: str) -> list[tuple[str, str]]:
    found = breaches(compare(run(base), run(new)), parse_limits(limits))
    return [(each.limit, each.message) for each in found]


def test_the_same_run_has_no_difference() -> None:
    found = compare(run(BEFORE), run(BEFORE))
    assert found.changed == ()
    assert found.environment == {}
    every = ["status", "finding", "state", "missing", "baseline=0", "recovery=0", "rank=1", "time=1"]
    assert breaches(found, parse_limits(every)) == []


def test_recoveries_are_in_points_and_the_largest_comes_first() -> None:
    change = compare(run(BEFORE), run(replace(BEFORE, curves=(curve(10.5, 47.0, 90.0),)))).jobs[0].curves[0]
    assert [(cell.site.layer, cell.points) for cell in change.cells] == [(1, -3.0), (0, 0.5)]
    assert change.largest_points == 3.0
    assert change.kendall == 1.0


def test_a_baseline_is_relative_to_the_first_run() -> None:
    after = replace(BEFORE, curves=(curve(10.0, 50.0, 90.0, baseline=10.5),))
    assert compare(run(BEFORE), run(after)).jobs[0].curves[0].baseline_relative == pytest.approx(0.05, rel=1e-12)
    assert broken(BEFORE, after, "baseline=0.04") == [("baseline", "mlp_out l2: 10 -> 10.5, relative 0.05 > 0.04")]
    assert broken(BEFORE, after, "baseline=0.06") == []


@pytest.mark.parametrize("state", ["nan", "inf", "undefined", "zero-baseline", "ill-conditioned"])
def test_a_number_that_is_lost_is_a_change_of_state_and_not_of_points(state: str) -> None:
    after = replace(BEFORE, curves=(curve(10.0, state, 90.0),))
    cell = compare(run(BEFORE), run(after)).jobs[0].curves[0].cells[0]
    assert (cell.points, cell.new.text()) == (None, state)
    message = f"1 recovery of mlp_out l2 changed state, first layer 1 mlp_out: 50 is now {state}"
    assert broken(BEFORE, after) == [("state", message)]
    assert broken(after, BEFORE, "state") != []


def test_the_order_of_layers() -> None:
    after = replace(BEFORE, curves=(curve(90.0, 50.0, 10.0),))
    assert broken(BEFORE, after, "rank=0.9") == [("rank", "mlp_out l2: Kendall's tau -1.00 < 0.9")]


def test_findings_come_and_go_one_by_one() -> None:
    def finding(layer: int) -> Finding:
        return Finding("FIN003", "nan", Site("mlp_out", layer))

    before = replace(BEFORE, findings=(finding(0), finding(1)))
    after = replace(BEFORE, findings=(finding(1), finding(2), finding(2)))
    change = compare(run(before), run(after)).jobs[0]
    assert [each.site.layer for each in change.appeared if each.site] == [2, 2]
    assert [each.site.layer for each in change.vanished if each.site] == [0]
    assert [limit for limit, _ in broken(before, after)] == ["finding", "finding"]


@pytest.mark.parametrize(
    ("code", "expected", "count"),
    [("FIN003", False, 1), ("FIN003", True, 0), ("SNP002", False, 0)],
    ids=["error", "expected", "warning"],
)
def test_only_unexpected_errors_break_the_default(code: str, expected: bool, count: int) -> None:
    after = replace(BEFORE, findings=(Finding(code, "seen", expected=expected),))
    assert len(broken(BEFORE, after)) == count


@pytest.mark.parametrize("status", [Status.FAILED, Status.CRASHED, Status.REFUSED, Status.INTERRUPTED])
def test_what_passed_must_pass(status: Status) -> None:
    assert broken(BEFORE, replace(BEFORE, status=status)) == [("status", f"passed before, {status} now")]
    assert broken(replace(BEFORE, status=status), BEFORE) == []


def test_jobs_of_one_side() -> None:
    found = compare(run(BEFORE, job("gone")), run(BEFORE, job("new")))
    assert (found.only_base, found.only_new) == (("gone[native@tiny]",), ("new[native@tiny]",))
    assert [each.limit for each in breaches(found, parse_limits([]))] == ["missing"]
    assert broken(BEFORE, replace(BEFORE, status=Status.SKIPPED, reason="no model")) == [
        ("missing", "ran before, is skipped now: no model")
    ]


def test_only_a_job_that_ran_can_be_missing() -> None:
    skipped = replace(BEFORE, status=Status.SKIPPED, reason="no model", curves=())
    other = job("other")
    assert breaches(compare(run(skipped, other), run(other)), parse_limits([])) == []
    assert [limit for limit, _ in broken(replace(BEFORE, status=Status.FAILED), skipped)] == ["missing"]


def test_what_a_job_no_longer_measures_is_missing() -> None:
    metrics = replace(BEFORE, curves=(*BEFORE.curves, curve(10.0, metric="mse")))
    assert broken(metrics, BEFORE) == [("missing", "mlp_out mse only in the first")]
    assert broken(BEFORE, metrics) == []
    fewer = replace(BEFORE, curves=(replace(BEFORE.curves[0], cells=BEFORE.curves[0].cells[:1]),))
    assert broken(BEFORE, fewer) == [("missing", "mlp_out l2: layer 1 mlp_out and 1 more only in the first")]


@pytest.mark.parametrize("state", ["nan", "inf", "undefined"])
def test_a_number_that_is_lost_is_beyond_any_limit_on_numbers(state: str) -> None:
    mse = curve(10.0, 50.0, 90.0, metric="mse")  # something that each limit is held against
    before = replace(BEFORE, curves=(*BEFORE.curves, mse))
    after = replace(BEFORE, curves=(curve(10.0, state, 90.0, baseline=state), mse))
    for word in ("recovery=1000", "baseline=1000", "rank=-1"):
        assert [limit for limit, _ in broken(before, after, word)] == [word.partition("=")[0]]
        assert broken(after, after, word) == []


LIMITS_ON_NUMBERS = ("recovery=0.5", "rank=0.9", "baseline=0.1", "recovery=0.5,rank=0.9", "state", "finding", "status")
CRASHED = replace(BEFORE, status=Status.CRASHED, curves=(), reason="RuntimeError")
TWO = replace(BEFORE, curves=(*BEFORE.curves, curve(10.0, 50.0, 90.0, metric="mse")))


@pytest.mark.parametrize("word", LIMITS_ON_NUMBERS)
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([TWO], [replace(CRASHED)], "had numbers before, is crashed without any now"),
        ([TWO], [replace(CRASHED, status=Status.FAILED)], "had numbers before, is failed without any now"),
        ([TWO], [BEFORE], "mlp_out mse only in the first"),
        ([TWO], [replace(TWO, curves=(TWO.curves[0], replace(TWO.curves[1], cells=TWO.curves[1].cells[:1])))],
         "mlp_out mse: layer 1 mlp_out and 1 more only in the first"),
        ([TWO, job("gone", curves=TWO.curves)], [TWO], "ran before, is not there now"),
        ([TWO], [replace(TWO, status=Status.SKIPPED, curves=(), reason="no model")],
         "ran before, is skipped now: no model"),
    ],
    ids=["crashed", "raised", "metric", "cells", "job", "skipped"],
)  # fmt: skip
def test_what_no_limit_can_be_held_to_is_beyond_every_limit(
    word: str, before: list[JobResult], after: list[JobResult], message: str
) -> None:
    found = compare(run(*before), run(*after))
    broken = breaches(found, parse_limits([word]))
    assert ("missing", message) in [(each.limit, each.message) for each in broken]
    assert breaches(found, {}) == []
    assert breaches(compare(run(*after), run(*before)), parse_limits(["missing"])) == []


@pytest.mark.parametrize(
    ("word", "curves", "message"),
    [
        ("baseline=1", (curve(10.0, 50.0, baseline="nan"),), "no baseline is a number on both sides"),
        ("recovery=1", (curve("nan", "zero-baseline"),), "no recovery is a number on both sides"),
        ("rank=0.5", (curve(7.0),), "no two recoveries are in an order on both sides"),
        ("rank=0.5", (curve(0.0, 0.0, 0.0),), "no two recoveries are in an order on both sides"),
        ("time=2", (curve(1.0, 2.0),), "no sweep took 0.05 s on both sides"),
    ],
    ids=["baseline", "recovery", "one layer", "all 0", "time"],
)
def test_a_limit_that_nothing_is_held_against_is_beyond(word: str, curves: tuple[Curve, ...], message: str) -> None:
    idle = job(curves=curves)
    limit = word.partition("=")[0]
    assert broken(idle, idle, word) == [(limit, f"{message}, so nothing is within the limit")]
    both = compare(run(idle, BEFORE_TOO), run(idle, BEFORE_TOO))
    assert breaches(both, parse_limits([word])) == []


BEFORE_TOO = job("too", curves=(curve(10.0, 50.0, 90.0),), timings={"sweep_s": 1.0})


def test_recoveries_that_are_all_the_same_now_have_lost_their_order() -> None:
    zero = replace(BEFORE, curves=(curve(0.0, 0.0, 0.0),))
    message = "mlp_out l2: 3 recoveries are all the same now"
    assert broken(BEFORE, zero, "rank=-1") == [("rank", message)]
    both = compare(run(BEFORE, BEFORE_TOO), run(zero, BEFORE_TOO))
    assert [each.message for each in breaches(both, {"rank": 0.9})] == [message]
    assert breaches(compare(run(zero, BEFORE_TOO), run(BEFORE, BEFORE_TOO)), {"rank": 0.9}) == []


ASKED = replace(
    BEFORE,
    clean=Tokens((1, 2, 3), ("a", "b", "c")),
    corrupted=Tokens((1, 4, 3), ("a", "d", "c")),
    sweep=Sweep(("mlp_out",)),
)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"clean": Tokens((1, 9, 3), ("a", "x", "c"))}, "clean prompt [1, 2, 3] -> [1, 9, 3]"),
        ({"corrupted": Tokens((1, 9, 3), ("a", "x", "c"))}, "corrupted prompt [1, 4, 3] -> [1, 9, 3]"),
        ({"sweep": Sweep(("mlp_out",), direction=Direction.NOISING)}, "direction denoising -> noising"),
        ({"sweep": Sweep(("mlp_out",), positions="last")}, "positions all -> last"),
        ({"sweep": Sweep(("mlp_out",), positions=(0, 1))}, "positions all -> 0,1"),
        ({"sweep": Sweep(("mlp_out",), value="zero")}, "value other -> zero"),
        ({"mean_of": (Tokens((7, 8), ("x", "y")),)}, "mean of  -> [7, 8]"),
    ],
    ids=["clean", "corrupted", "direction", "positions", "tokens", "value", "mean"],
)
def test_another_question_under_the_same_id_is_not_compared(changed: dict[str, Any], what: str) -> None:
    other = replace(ASKED, **changed)
    for words in ([], ["recovery=0.5,rank=0.9"], ["time=9"]):
        assert broken(ASKED, other, *words) == [("missing", f"asks another question now: {what}")]
    found = compare(run(ASKED), run(other))
    assert (found.jobs, found.otherwise) == ((), (("case[native@tiny]", what),))
    assert judge(found, breaches(found, parse_limits([]))) == (Status.FAILED, 1)
    assert judge(found, []) == (Status.SKIPPED, 5)


def test_another_order_of_work_is_the_same_question() -> None:
    other = replace(ASKED, sweep=Sweep(("mlp_out",), strategy="stepwise", memory=10**9), strategy="stepwise")
    assert compare(run(ASKED), run(other)).otherwise == ()
    skipped = replace(ASKED, status=Status.SKIPPED, curves=(), clean=None, corrupted=None)
    assert compare(run(ASKED), run(skipped)).otherwise == ()


def test_another_tokenizer_reads_other_ids() -> None:
    small, large = (ModelCard(f"m{vocab}", "synthetic", "llama", 3, vocab, "float32") for vocab in (12, 99))
    one = replace(ASKED, model="m12", card=small)
    other = replace(ASKED, model="m99", card=large, clean=Tokens((7, 8, 9), ("a", "b", "c")))
    found = compare(run(one, other), run(one, other), models=("m12", "m99"))
    assert (len(found.jobs), found.otherwise) == (1, ())
    namesake = replace(other, card=replace(small, id="m99", dtype="float16"))
    assert compare(run(one), run(namesake), models=("m12", "m99")).otherwise != ()


def test_metrics_of_other_answers_are_not_compared() -> None:
    curves = (curve(10.0, 50.0), curve(10.0, 50.0, metric="log_prob"))
    before = replace(ASKED, curves=curves, answers=AnswerTokens(5, 6))
    after = replace(before, answers=AnswerTokens(5, 7))
    message = "mlp_out log_prob: answers 5 and 6 are 5 and 7 now"
    assert broken(before, after, "recovery=0.5") == [("missing", message)]
    assert broken(before, before, "recovery=0.5") == []


def test_two_engines_need_not_answer_the_same_but_something() -> None:
    native, other = TWO, replace(BEFORE, engine="legacy", id="case[legacy@tiny]")
    alone = job("alone", curves=BEFORE.curves)
    both = run(native, other, alone)
    words = parse_limits(["recovery=0.5,rank=0.9"])
    assert breaches(compare(both, both, engines=("native", "legacy")), words) == []
    fewer = replace(other, curves=(replace(BEFORE.curves[0], cells=BEFORE.curves[0].cells[1:]),))
    found = breaches(compare(run(native), run(fewer), engines=("native", "legacy")), words)
    assert [each.message for each in found] == ["mlp_out l2: 1 cell only in the first"]
    shallow = replace(fewer, engine="native", model="small")
    assert breaches(compare(run(native), run(shallow), models=("tiny", "small")), words) == []
    zero = replace(other, curves=(curve(0.0, 0.0, 0.0),))
    found = breaches(compare(run(native), run(zero), engines=("native", "legacy")), {"rank": 0.9})
    assert [each.limit for each in found] == ["rank"]
    crashed = replace(other, status=Status.CRASHED, curves=())
    found = breaches(compare(run(native), run(crashed), engines=("native", "legacy")), words)
    assert found[-1].message == "had numbers before, is crashed without any now"


def test_two_runs_in_which_every_job_was_skipped_compare_nothing() -> None:
    skipped = replace(BEFORE, status=Status.SKIPPED, curves=())
    found = compare(run(skipped), run(skipped))
    assert judge(found, breaches(found, parse_limits([]))) == (Status.SKIPPED, 5)
    assert verdict(found, []) == "nothing compared: every job in both is skipped"


def test_curves_of_one_side_are_named() -> None:
    after = replace(BEFORE, curves=(curve(10.0, 50.0, 90.0, metric="mse"),))
    change = compare(run(BEFORE), run(after)).jobs[0]
    assert change.unmatched == ("mlp_out l2 only in the first", "mlp_out mse only in the second")
    assert change.differs


def test_grids_are_compared_cell_by_cell() -> None:
    def of(rows: list[list[float | str]]) -> JobResult:
        return job(curves=(grid(rows),))

    change = compare(run(of([[1.0, 2.0], [3.0, 4.0]])), run(of([[1.0, 2.0], [9.0, 4.0]]))).jobs[0].curves[0]
    assert [(cell.site.layer, cell.site.position, cell.points) for cell in change.cells] == [(1, "0", 6.0)]


def test_the_environment_by_name() -> None:
    found = compare(run(packages={"mlx": "0.32.2", "old": "1"}), run(packages={"mlx": "0.32.4", "new": "2"}))
    assert found.environment == {"mlx": ("0.32.2", "0.32.4"), "old": ("1", "-"), "new": ("-", "2")}


def test_time_is_a_median_with_its_quartiles_and_leaves_short_sweeps_out() -> None:
    def timed(*seconds: float) -> list[JobResult]:
        return [job(f"c{i}", timings={"sweep_s": each}) for i, each in enumerate(seconds)]

    found = compare(run(*timed(1, 1, 1, 0.001)), run(*timed(2, 3, 4, 900.0)))
    assert found.time is not None
    assert (found.time.jobs, found.time.median, found.time.low, found.time.high) == (3, 3.0, 2.0, 4.0)
    assert [each.limit for each in breaches(found, {"time": 1.9})] == ["time"]
    assert breaches(found, {"time": 2.5}) == []


def test_engines_meet_by_case_and_model() -> None:
    base = run(job("a", "legacy"), job("a", "native"))
    found = compare(base, base, engines=("legacy", "native"))
    assert [(each.base.engine, each.new.engine) for each in found.jobs] == [("legacy", "native")]


def test_models_meet_by_what_the_star_stands_for() -> None:
    base = run(*(job("a", model=name) for name in ("x-f32", "x-f16", "y-f32", "y-f16", "z-q4")))
    found = compare(base, base, models=("*-f32", "*-f16"))
    assert [(each.base.model, each.new.model) for each in found.jobs] == [("x-f32", "x-f16"), ("y-f32", "y-f16")]


def test_a_name_that_a_side_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="the second result has no engine 'legac'; did you mean 'legacy'"):
        compare(run(job()), run(job(engine="legacy")), engines=("native", "legac"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("recoverry=1", "'recoverry' is not a limit; did you mean 'recovery'?"),
        ("recovery", r"recovery=NUMBER \(percentage points\)"),
        ("status=1", "status takes no number"),
        ("recovery=much", "'much' is not a number"),
        ("baseline=nan", "a limit is a finite number"),
        ("time=inf", "a limit is a finite number"),
        ("none,status", "'none' is not a limit"),
    ],
)
def test_a_wrong_limit_says_what_is_right(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_limits([word])


def test_none_is_no_limit() -> None:
    assert parse_limits(["none"]) == {}


def test_a_layer_of_one_side_is_named_and_is_no_change_of_points() -> None:
    after = replace(BEFORE, curves=(replace(BEFORE.curves[0], cells=BEFORE.curves[0].cells[:1]),))
    change = compare(run(BEFORE), run(after)).jobs[0]
    assert change.curves[0].cells == ()
    assert change.unmatched == ("mlp_out l2: layer 1 mlp_out and 1 more only in the first",)
