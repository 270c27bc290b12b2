"""What every report says of a mean over pairs: the mean, how sure it is, over how many, and which are undefined."""

from __future__ import annotations

import io
from dataclasses import replace

import example_results as made
import pytest

from harness.metrics.pairs import mean_of, spread_of
from harness.results.compare.runs import compare
from harness.results.reports import html, markdown
from harness.results.reports.html import in_a_notebook
from harness.results.reports.recoveries import tables
from harness.results.reports.summary import over_pairs, undefined_pairs
from harness.results.reports.terminal import console, print_run
from harness.vocabulary import AskedPair, Cell, Curve, JobResult, Tokens

# Layer 0: 10, 20, 30 have the mean 20 and the standard error 10 / sqrt(3) = 5.8. Layer 1 has none in its third pair.
READINGS = [(10.0, 20.0, 30.0), (40.0, 60.0, "zero-baseline")]


def cell(layer: int, readings: tuple[float | str, ...]) -> Cell:
    given = [*map(made.reading, readings)]
    mean = mean_of(given)
    return Cell(layer, "all", mean, mean, pairs=spread_of(given))


def averaged(metric: str = "l2") -> Curve:
    curve = made.curve(metric=metric)
    cells = tuple(cell(layer, readings) for layer, readings in enumerate(READINGS))
    return replace(curve, cells=cells, pairs=spread_of([made.reading(each) for each in (9.0, 10.0, 11.0)]))


def job() -> JobResult:
    pairs = tuple(AskedPair(Tokens((n,), ()), Tokens((n + 1,), ())) for n in range(3))
    return made.job(curves=(averaged(), averaged("mse")), pairs=pairs)


UNDEFINED = "1 of 3 zero-baseline: mlp_out l2 at 1 of 2 cells, mlp_out mse at 1 of 2 cells"


def screen(verbosity: int) -> str:
    out = io.StringIO()
    print_run(made.run(job()), console(out, width=200), verbosity=verbosity)
    return out.getvalue()


@pytest.mark.parametrize("verbosity", [0, 1])
def test_a_screen_shows_mean_error_and_count_and_names_the_undefined(verbosity: int) -> None:
    seen = screen(verbosity)
    assert "l2 10 ± 0.58" in seen
    assert "50.0 ± 10 % mlp_out layer 1, mean of 2 of 3 pairs" in seen
    assert f"has undefined pairs, which are in no mean: {UNDEFINED}" in seen
    assert ("20.0 ± 5.8 to 50.0 ± 10 %, means of 2 to 3 of 3 pairs" in seen) is (verbosity > 0)


def test_a_table_of_recoveries_has_the_interval_and_the_count() -> None:
    out = io.StringIO()
    for table in tables([averaged()], (), 200):
        console(out, width=200).print(table)
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert "0 20.0 ± 5.8 (10.0 to 30.0)" in lines
    assert "mean of 2 to 3 of 3 pairs" in lines


def test_the_page_and_the_comment_have_mean_interval_count_and_the_undefined() -> None:
    page, comment = html.render(made.run(job())), markdown.render(made.run(job())).replace("\\", "")
    assert "50.00 ± 10 (40.00 to 60.00, 2 of 3 pairs)" in page
    assert "20.00 ± 5.8 (10.00 to 30.00, 3 pairs)" in page
    assert "a mean over 3 pairs of prompts" in page
    assert "50.0 ± 10 % mlp_out layer 1, mean of 2 of 3 pairs (95 %: 40.0 to 60.0)" in comment
    for text in (page, comment):
        assert UNDEFINED in text
    assert "50.0 ± 10 (40.0 to 60.0, 2 of 3 pairs)" in in_a_notebook(averaged())


def test_a_result_of_one_pair_says_nothing_of_pairs() -> None:
    single = made.job(curves=(made.curve(10.0, 20.0),))
    assert "pair" not in markdown.render(made.run(single))
    assert "Pairs of prompts" not in html.render(made.run(single))
    assert (over_pairs(single.curves[0]), [*undefined_pairs(single.curves)]) == ("", [])


def test_runs_of_the_same_pairs_are_compared_by_their_means_and_other_pairs_are_another_question() -> None:
    one, turned = job(), replace(job(), pairs=job().pairs[::-1])
    moved = replace(one, curves=(replace(one.curves[0], cells=(cell(0, (10.0, 20.0, 33.0)), one.curves[0].cells[1])),))
    (change,) = compare(made.run(one), made.run(replace(moved, curves=(*moved.curves, one.curves[1])))).changed
    assert [each.points for each in change.curves[0].cells] == [pytest.approx(1.0)]
    assert compare(made.run(one), made.run(turned)).otherwise == ()
    fewer = replace(one, pairs=one.pairs[:2])
    ((_, told),) = compare(made.run(one), made.run(fewer)).otherwise
    assert told.startswith("pairs of prompts 3 (")
