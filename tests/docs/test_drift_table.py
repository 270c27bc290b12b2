"""The drift table of docs/tolerances.md: a row for each dtype of each report, and nothing else of the page touched."""

from __future__ import annotations

from dataclasses import replace

from drift_table import PAGE, filled
from example_results import job, run

from harness.vocabulary import Drift, MachineReport

DRIFT = Drift("float16", "cpu", 33, 4.04, 1.53e-2, 0.404, "a job and its worst number")


def report(*drift: Drift):
    whole = run(job())
    environment = replace(whole.environment, backend="metal")
    return replace(whole, environment=environment, machine=MachineReport({}, (), (), drift))


def test_each_dtype_of_each_report_has_a_row_and_the_rest_stays():
    page = "before\n<!-- drift -->\nan old row\n<!-- end -->\nafter\n"
    made = filled(page, [report(DRIFT, replace(DRIFT, dtype="float32", points=0.0009, used=1.2)), report()])
    assert made.startswith("before\n<!-- drift -->\n| computed on |")
    assert made.endswith("|\n<!-- end -->\nafter\n")
    assert made.splitlines()[4:6] == [
        "| metal | cpu | float16 | 33 | 4 points | 1.5e-02 | 40% |",
        "| metal | cpu | float32 | 33 | 0.0009 points | 1.5e-02 | 120% |",
    ]
    assert "old row" not in made
    assert filled(made, [report(DRIFT)]) != made


def test_the_page_has_the_place_that_is_filled():
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, [report(DRIFT)]).count("| metal | cpu | float16 | 33 | 4 points |") == 1
    assert filled(page, [report()]) != page
