"""A figure shows every number as a bar and every state by its name."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from example_results import grid

from harness.results.plots import draw, show
from harness.vocabulary import Cell, Curve, Reading, State
from harness.vocabulary.errors import UsageError

pyplot = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def figures():
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


def curve(*recoveries, component="mlp", metric="l2") -> Curve:
    readings = [Reading.absent(each) if isinstance(each, State) else Reading.of(each) for each in recoveries]
    cells = tuple(Cell(layer, "all", reading, reading) for layer, reading in enumerate(readings))
    one = Reading.of(313.7)
    return Curve(component, metric, "logits", one, one, cells)


MIXED = curve(17.9, State.NAN, -298.6, State.INF, 7.5)


def test_a_bar_for_each_number_and_a_name_for_each_state():
    (axis,) = draw([MIXED]).axes
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axis.patches]
    assert bars == [(pytest.approx(0), 17.9), (pytest.approx(2), -298.6), (pytest.approx(4), 7.5)]
    assert [(text.get_position()[0], text.get_text()) for text in axis.texts] == [(1, "nan"), (3, "inf")]
    assert axis.get_title() == "mlp, l2: baseline 313.7 logits"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("layer", "recovery (%)")


def test_an_error_bar_reaches_as_far_as_float32_is_away():
    first, second, third = curve(40.0, 20.0, State.NAN).cells
    barred = replace(curve(), cells=(replace(first, precision=10.0), second, third))
    (axis,) = draw([barred]).axes
    (container,) = axis.containers[1:]
    (segment,) = container.lines[2][0].get_segments()
    assert segment.tolist() == [[0, 30], [0, 50]]
    assert not draw([curve(40.0)]).axes[0].containers[1:]


def test_a_sweep_without_any_number_still_shows_its_states():
    (axis,) = draw([curve(State.UNDEFINED, State.UNDEFINED)]).axes
    assert not axis.patches
    assert [text.get_text() for text in axis.texts] == ["undefined", "undefined"]


def test_one_panel_a_curve():
    figure = draw([MIXED, curve(1.0, metric="mse"), curve(2.0, component="attn")], title="three")
    assert [axis.get_title().partition(":")[0] for axis in figure.axes] == ["mlp, l2", "mlp, mse", "attn, l2"]
    assert [len(axis.patches) for axis in figure.axes] == [3, 1, 1]
    assert figure.get_suptitle() == "three"


def test_a_colour_means_the_same_in_every_panel():
    first, second = draw([curve(50.0, 0.0, -50.0), curve(50.0, -298.6)]).axes
    positive, zero, negative = (bar.get_facecolor() for bar in first.patches)
    assert second.patches[0].get_facecolor() == positive
    assert len({positive, zero, negative}) == 3
    assert zero == pyplot.get_cmap("RdBu_r")(0.5)


def test_the_colour_map_and_the_size_are_the_callers():
    figure = draw([curve(50.0)], figsize=(4, 3), cmap="viridis")
    assert tuple(figure.get_size_inches()) == (4, 3)
    assert figure.axes[0].patches[0].get_facecolor() == pyplot.get_cmap("viridis")(1.0)


def test_many_layers_get_few_ticks_and_all_their_bars():
    (axis,) = draw([curve(*map(float, range(94)))]).axes
    assert len(axis.patches) == 94
    assert 10 <= len(axis.get_xticks()) <= 50


@pytest.mark.parametrize(("name", "magic"), [("plot.png", b"\x89PNG"), ("plot.svg", b"<?xml"), ("plot.pdf", b"%PDF")])
def test_a_file_is_written_and_not_empty(tmp_path, name, magic):
    draw([MIXED], file=tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_the_picture_is_not_blank(tmp_path):
    draw([MIXED], file=tmp_path / "plot.png")
    image = pyplot.imread(tmp_path / "plot.png")
    red, green, blue = (image[..., channel] for channel in range(3))
    assert ((blue > red + 0.2) & (blue > green)).sum() > 1000  # the bar far below zero


@pytest.mark.parametrize("cmap", ["rainbowy", 3], ids=str)
def test_a_colour_map_that_does_not_exist_is_an_error(cmap):
    with pytest.raises(UsageError, match="is not a colour map of matplotlib"):
        draw([MIXED], cmap=cmap)
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("name", ["missing/plot.png", "plot.xyz", "a.png"], ids=["no folder", "no format", "a folder"])
def test_a_file_that_cannot_be_written_is_an_error(tmp_path, name):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        draw([MIXED], file=tmp_path / name)


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"plots need matplotlib: pip install matplotlib"):
        draw([MIXED])


def test_nothing_is_shown_where_there_is_no_screen(monkeypatch):
    monkeypatch.setattr(pyplot, "show", lambda: pytest.fail("shown"))
    show([MIXED], (4, 3), "RdBu_r")


def test_it_is_shown_where_there_is_one(monkeypatch):
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(True))
    monkeypatch.setattr(pyplot, "get_backend", lambda: "qtagg")
    show([MIXED], (4, 3), "RdBu_r")
    assert shown == [True]
    assert pyplot.get_fignums() == []


def test_figures_do_not_pile_up():
    figures = [draw([MIXED]) for _ in range(25)]  # matplotlib warns from 20 open ones on, and warnings are errors here
    assert pyplot.get_fignums() == []
    assert all(figure.axes[0].patches for figure in figures)


@pytest.mark.parametrize("size", [0.5, 40.0, 700.0])
def test_the_colours_of_a_map_reach_as_far_as_the_data_with_zero_in_the_middle(size):
    figure = draw([grid([[size / 2, -size], [0.0, size / 4]])])
    assert figure.axes[0].images[0].get_clim() == (-size, size)


def test_a_map_has_the_tokens_across_and_no_mathematics_in_them():
    figure = draw([grid([[1.0, 2.0], [3.0, 4.0]])], tokens=("The", "$x$"))
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["0 The", r"1 \$x\$"]
