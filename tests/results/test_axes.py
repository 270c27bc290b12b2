"""The axes of a picture: tokens where they are known, and a range that follows the data."""

from __future__ import annotations

from dataclasses import replace

import pytest
from example_results import curve, grid, reading

from harness.results.axes import axis_tokens, grid_of, reach
from harness.results.reports.recoveries import bars, tables
from harness.vocabulary import Tokens


@pytest.mark.parametrize(
    ("clean", "corrupted", "shown"),
    [
        ((" of", " France"), (" of", " Italy"), ("of", "France/Italy")),
        (("a", "b", "c"), ("a", "b"), ("a", "b")),
        (("\n", "  "), ("\n", "\t"), ("\\n", "  /\\t")),
        (("incomprehensibility",), ("x",), ("incomprehensi…/x",)),
        ((), (), ()),
    ],
    ids=["differing", "one is longer", "white space", "long", "no texts"],
)
def test_what_stands_at_a_position(clean, corrupted, shown):
    sides = [Tokens(tuple(range(len(texts))), texts) for texts in (clean, corrupted)]
    assert axis_tokens(*sides) == shown


def test_a_job_that_did_not_run_has_no_tokens():
    assert axis_tokens(None, Tokens((1,), ("a",))) == ()
    assert axis_tokens(Tokens((1,), ()), Tokens((1,), ("a",))) == ()


def heads(by_position: bool):
    one = grid([[1.0, 2.0], [3.0, "nan"]])
    cells = [replace(c, head=int(c.position), position=c.position if by_position else "all") for c in one.cells]
    return replace(one, cells=tuple(cells))


def test_positions_have_tokens_and_heads_have_none():
    assert grid_of(grid([[1.0, 2.0]]), ("The", "end")).columns == ("0 The", "1 end")
    assert grid_of(heads(False), ("The", "end")).columns == ("0", "1")
    assert grid_of(heads(False)).across == "head"
    assert grid_of(heads(True), ("The", "end")).columns == ("0.0 The", "1.1 end")


def test_a_cell_that_nobody_answered_is_a_gap():
    whole = grid([[1.0, 2.0], [3.0, 4.0]])
    assert grid_of(replace(whole, cells=whole.cells[:3])).cells[1] == (reading(3.0), None)


def test_cells_that_make_no_curve_are_refused():
    one, by_head = grid([[1.0, 2.0]]), heads(False)
    with pytest.raises(ValueError, match="some of its cells name a head and some none"):
        replace(by_head, cells=(*by_head.cells[1:], replace(by_head.cells[0], head=None)))
    with pytest.raises(ValueError, match="a cell of its grid is at 'end', which is no position"):
        replace(one, cells=(one.cells[0], replace(one.cells[1], position="end")))
    assert replace(one, cells=(replace(one.cells[0], position="0,2"),)).cells[0].position == "0,2"


def test_the_reach_is_the_largest_move():
    assert reach(map(reading, (3.0, -40.0, "nan"))) == 40.0
    assert reach([None, reading("nan")]) == 1.0
    assert reach([reading(0.0)]) == 1.0


def test_a_map_that_is_too_wide_goes_on_below():
    wide = grid([[float(i) for i in range(20)]] * 2)
    parts = list(tables([wide, curve(1.0)], [f"t{i}" for i in range(20)], 80))
    assert [table.columns[0].header for table in parts] == ["layer"] * 4
    shown = [str(column.header) for table in parts[1:] for column in table.columns[1:]]
    assert shown == [f"{i} t{i}" for i in range(20)]


def test_bars_go_from_the_lowest_to_the_highest_and_gaps_are_marked():
    assert bars(curve(0.0, 50.0, 100.0, "nan")) == "▁▅█x"
    assert bars(curve(-100.0, 0.0)) == "▁█"
    assert bars(curve(0.0, 0.0)) == "▁▁"
    assert bars(curve("nan")) == "x"
