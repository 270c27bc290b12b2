"""The HTML file as text: self-contained, escaped, small, and no value that is missing without a word."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from example_results import curve, grid, job, run
from hostile import hostile

from harness.results.reports.html import charts, render
from harness.results.reports.html.scales import STEPS, Scale, step
from harness.vocabulary import Finding, Status, Sweep, Tokens

SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)


class Tags(HTMLParser):
    """Collects every start tag with its attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_it_asks_the_network_for_nothing() -> None:
    for tag, attributes in Tags(render(hostile())).seen:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base"), tag
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]


def test_only_our_own_script_is_there() -> None:
    page = render(hostile())
    assert page.count("<script") == page.count("</script>") == 1
    assert [tag for tag, _ in Tags(page).seen].count("script") == 1


def test_every_link_leads_to_a_job_or_to_what_a_code_means() -> None:
    seen = Tags(render(hostile())).seen
    ids = {attributes["id"] for _, attributes in seen if "id" in attributes}
    targets = {(attributes["href"] or "")[1:] for _, attributes in seen if attributes.get("href")}
    assert targets <= ids
    assert {f"job-{i}" for i in range(4)} | {"FIN004", "FIN005", "SNP002"} == targets


def test_a_code_of_another_version_has_no_page_and_no_link() -> None:
    page = render(run(job(findings=(Finding("NEW123", "x"), Finding("FIN004", "y")))))
    assert 'href="#FIN004"' in page
    assert 'href="#NEW123"' not in page
    assert "NEW123" in page


def test_the_head_says_which_project_and_which_version() -> None:
    head = render(run(job(), project="mylib at 2935fbf12345 (main)")).partition("</header>")[0]
    assert "mylib at 2935fbf12345 (main); mlx-patch-harness 0.1.0, cpu, a processor" in head


def test_many_jobs_that_passed_are_folded_and_the_others_are_not() -> None:
    good = [job(model=f"m{i}") for i in range(3)]
    page = render(run(*good, job(model="bad", status=Status.FAILED)))
    cell = page.partition("<tbody>")[2].partition("</td>")[0]
    assert "3 passed</summary>" in cell
    assert cell.index("bad") < cell.index("<details")
    assert cell.index("<details") < cell.index("m0")
    assert "<details" not in render(run(*good[:2])).partition("<tbody>")[2].partition("</td>")[0]


@pytest.mark.parametrize(("ratio", "words"), [(0.5, "overflows: 2 x too large"), (1.5, "1.5 x room"), (2e5, "ample")])
def test_headroom_is_said_in_words(ratio: float, words: str) -> None:
    one = replace(curve(1.0), headroom=ratio)
    assert f"<td>{words}</td>" in render(run(job(curves=(one,))))


PROMPTS = {
    "clean": Tokens((1, 2, 3), ("The", " <b>", " is")),
    "corrupted": Tokens((1, 4, 3), ("The", " Italy", " is")),
}


def test_a_map_has_the_tokens_across_a_scale_and_every_value() -> None:
    one = grid([[1.0, -40.0, "nan"], [0.0, 25.0, 10.0]])
    page = render(run(job(curves=(one,), **PROMPTS)))
    picture, legend = _map_and_legend(page)
    assert re.findall(r"rotate\(-90\)\">([^<]*)<", picture) == ["0 The", "1 &lt;b&gt;/Italy", "2 is"]
    assert re.findall(r">(-?[\d.]+(?: %)?)</text>", legend) == ["-40", "0", "40 %"]
    seen = json.loads(html.unescape(re.findall(r'data-seen="([^"]*)"', picture)[0]))
    assert seen["cells"] == [["1.00 %", "-40.00 %", "nan"], ["0.00 %", "25.00 %", "10.00 %"]]
    assert seen["columns"][1] == "1 <b>/Italy"


def test_the_colours_reach_as_far_as_the_data() -> None:
    small = shapes(_map_and_legend(render(run(job(curves=(grid([[0.5, -0.1], [0.0, 0.2]]),)))))[0])
    large = shapes(_map_and_legend(render(run(job(curves=(grid([[500.0, -100.0], [0.0, 200.0]]),)))))[0])
    assert small == large
    assert small["q5"] == 1


def _map_and_legend(page: str) -> tuple[str, str]:
    pictures = SVG.findall(page)
    at = next(i for i, each in enumerate(pictures) if "Heat map" in each)
    return pictures[at], pictures[at + 1]


def test_pictures_are_well_formed_and_say_in_words_what_they_show() -> None:
    pictures = SVG.findall(render(hostile()))
    assert len(pictures) >= 5
    for picture in pictures:
        root = ET.fromstring(picture)  # our own output, not a stranger's
        assert root.get("aria-hidden") == "true" or root.get("aria-label")


def shapes(svg: str) -> dict[str, int]:
    """Return how many outlines each class of path has."""
    paths = ET.fromstring(svg).iter("path")
    return {path.get("class", ""): path.get("d", "").count("M") for path in paths}


def test_bars_up_and_down_and_no_number_differ_in_shape() -> None:
    svg = charts.bars(curve(10.0, -20.0, "nan", 0.0, 130.0, "undefined"))
    assert {name: shapes(svg)[name] for name in ("pos", "neg", "undef")} == {"pos": 3, "neg": 1, "undef": 2}
    named = [
        element.text for group in ET.fromstring(svg).iter("g") if group.get("class") == "state" for element in group
    ]
    assert named == ["nan", "undefined"]


def test_a_bar_is_as_high_as_its_number() -> None:
    svg = charts.bars(curve(50.0, 100.0, -50.0))
    scale = Scale.around([50.0, 100.0, -50.0], charts.TOP, 184 - charts.TOP - charts.BOTTOM)
    (up,) = [path.get("d", "") for path in ET.fromstring(svg).iter("path") if path.get("class") == "pos"]
    heights = [int(zero) - int(top) for zero, top in re.findall(r"M\d+ (\d+)V(\d+)h", up)]
    assert heights == pytest.approx([scale.y(0) - scale.y(50), scale.y(0) - scale.y(100)], abs=1)
    assert heights[1] == pytest.approx(2 * heights[0], abs=1)


def test_an_error_bar_reaches_as_far_as_the_error() -> None:
    plain = curve(50.0, 100.0)
    cells = (replace(plain.cells[0], precision=20.0), plain.cells[1])
    svg = charts.bars(replace(plain, cells=cells))
    (line,) = [path.get("d", "") for path in ET.fromstring(svg).iter("path") if path.get("class") == "error"]
    ((low, high),) = re.findall(r"M\d+ (\d+)V(\d+)", line)
    scale = Scale.around([100.0], charts.TOP, 184 - charts.TOP - charts.BOTTOM)
    assert int(low) - int(high) == pytest.approx(scale.y(30) - scale.y(70), abs=1)


@pytest.mark.parametrize("state", ["nan", "inf", "undefined", "zero-baseline", "ill-conditioned"])
def test_a_curve_without_any_number_is_never_an_empty_plot(state: str) -> None:
    only = curve(state, state, state, baseline=state)
    page = render(run(job(curves=(only,))))
    picture = next(each for each in SVG.findall(page) if "aria-label" in each)
    assert shapes(picture)["undef"] == 3
    assert f">{state}</text>" in picture
    assert f"No number for 3 of 3 layers: {state}." in picture


def test_later_metrics_that_lose_numbers_get_bars_of_their_own() -> None:
    fine, other, broken = curve(1.0, 2.0), curve(1.0, 2.0, metric="mse"), curve(1.0, "nan", metric="cosine")
    page = render(run(job(curves=(fine, other, broken))))
    captions = re.findall(r"<figcaption>(\w+, \w+|\w+: every)", page)
    assert captions == ["mlp_out, l2", "mlp_out, cosine", "mlp_out: every"]


def test_a_grid_marks_negative_cells_and_those_without_number() -> None:
    one = grid([[1.0, -2.0, "nan"], [0.0, 55.0, 100.0]])
    page = render(run(job(curves=(one,))))
    picture = next(each for each in SVG.findall(page) if "Heat map" in each)
    found = shapes(picture)
    assert (found["neg hatch"], found["undef"]) == (1, 1)
    assert sum(count for name, count in found.items() if name.startswith("q")) == 5
    assert " 1 cell has no number." in picture


def test_colour_steps_are_symmetric_and_full_at_the_reach() -> None:
    assert [step(x, 100.0) for x in (0, 1, 50, 100, 400)] == [0, 1, 3, STEPS, STEPS]
    assert [step(-x, 100.0) for x in (1, 50, 100)] == [-1, -3, -STEPS]


@pytest.mark.parametrize("reach", [1.0, 130.0, 1e3, 1e9, 1e30])
def test_any_recovery_has_an_axis(reach: float) -> None:
    scale = Scale.around([reach, -reach], 0, 100)
    ticks = scale.ticks()
    assert 0.0 in ticks
    assert 1 <= len(ticks) <= 6
    assert all(0 <= scale.y(tick) <= 100 for tick in ticks)


@pytest.mark.parametrize("most", [1e45, 1.7e308])
def test_recoveries_whose_span_is_beyond_floats_are_drawn_to_the_edges(most: float) -> None:
    page = render(run(job(curves=(curve(most, -most, 50.0), curve(most, -most, 50.0, metric="mse")))))
    for picture in SVG.findall(page):
        assert shapes(picture).get("pos", 2) == 2


def test_a_hundred_ordinary_jobs_are_under_a_megabyte() -> None:
    layers = [float(7 * i % 113) for i in range(28)]
    curves = tuple(curve(*layers, metric=metric) for metric in ("l2", "mse", "cosine"))
    jobs = [job(f"case-{i}", curves=curves, timings={"sweep_s": 1.0}) for i in range(100)]
    assert len(render(run(*jobs)).encode()) < 1_000_000


@pytest.mark.parametrize("status", Status)
def test_every_verdict_has_a_page(status: Status) -> None:
    assert f"</span> {status.upper()}</h1>" in render(run(verdict=status))


def test_what_a_patch_puts_in_is_said_where_it_is_not_the_other_run() -> None:
    page = render(run(job(sweep=Sweep(("mlp_out",), value="zero")), job("plain", sweep=Sweep(("mlp_out",)))))
    assert page.count("positions all, puts in zero") == 1
    assert page.count("puts in") == 1
