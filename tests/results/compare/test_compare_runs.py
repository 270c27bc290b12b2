"""What `compare` sees: every kind of difference planted alone, and nothing where nothing differs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from example_results import curve, grid, job, run

from harness.results.compare import breaches, compare, parse_limits
from harness.vocabulary import Finding, JobResult, Site, Status
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
    message = f"1 recoveries of mlp_out l2 changed state, first layer 1 mlp_out: 50 is now {state}"
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
    after = replace(BEFORE, curves=(curve(10.0, state, 90.0, baseline=state),))
    for word in ("recovery=1000", "baseline=1000", "rank=-1"):
        assert [limit for limit, _ in broken(BEFORE, after, word)] == [word.partition("=")[0]]
        assert broken(after, after, word) == []


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
