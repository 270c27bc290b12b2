"""From a result to the page: what the template shows, computed here so that the template only lays out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain, zip_longest

from jinja2 import Environment, StrictUndefined, Template
from markdown_it import MarkdownIt
from markupsafe import Markup

from harness.results.axes import axis_tokens, grid_of, reach
from harness.results.reports.html import charts
from harness.results.reports.marks import SIGN, sign_of, word_of
from harness.results.reports.summary import (
    BAD,
    MOVES,
    again,
    around,
    counts,
    duration,
    failures,
    mean_text,
    moves,
    place,
    strongest,
    undefined_pairs,
)
from harness.vocabulary import Curve, JobResult, RunResult, Tokens, site_position
from harness.vocabulary.findings import FINDINGS
from harness.vocabulary.findings.pages import page
from harness.vocabulary.paths import near
from harness.vocabulary.verdict import fails
from harness.vocabulary.visible import visible


@dataclass(frozen=True)
class Piece:
    """One position of the two prompts: the token on each side, and whether they differ."""

    clean: str
    corrupted: str
    differs: bool


@dataclass(frozen=True)
class Figure:
    """A picture with its caption, and the lines in it by name where there are several."""

    caption: str
    svg: Markup
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explained:
    """A finding's code, its title and its page, as markup of ours."""

    code: str
    title: str
    page: Markup


@dataclass(frozen=True)
class JobView:
    """One job as the page shows it."""

    anchor: str
    job: JobResult
    effect: str
    command: str
    grave: bool

    @property
    def look(self) -> str:
        """The class of its status: one that passed in spite of errors is told from a sound one."""
        return "expected" if self.job.in_spite else "known" if self.job.known else self.job.status.value

    @property
    def codes(self) -> list[tuple[str, bool]]:
        """The codes found, each once, and whether all of it was expected."""
        unexpected = {each.code for each in self.job.findings if not each.expected}
        return [(code, code not in unexpected) for code in sorted({each.code for each in self.job.findings})]

    @property
    def pieces(self) -> list[Piece]:
        """The prompts token by token; a shorter one is filled up with nothing."""
        if self.job.clean is None or self.job.corrupted is None:
            return []
        pairs = zip_longest(_tokens(self.job.clean), _tokens(self.job.corrupted), fillvalue=(None, ""))
        return [Piece(a[1], b[1], a[0] != b[0]) for a, b in pairs]

    @property
    def figures(self) -> list[Figure]:
        return list(_figures(self.job.curves, axis_tokens(self.job.clean, self.job.corrupted)))

    @property
    def agreement(self) -> list[tuple[str, str, str]]:
        """Metric, metric, Kendall's tau of their recoveries, for each pair of metrics of a component."""
        return [
            (
                f"{each.component} {each.metrics[0]}",
                each.metrics[1],
                "not defined" if each.tau is None else f"{each.tau:.2f}",
            )
            for each in self.job.concordances
        ]

    @property
    def numbers(self) -> tuple[list[str], list[list[str]]]:
        """The recoveries as a table: a row a site, a column a metric; grids by component, layer and position."""
        metrics = list(dict.fromkeys(curve.metric for curve in self.job.curves))
        rows: dict[str, dict[str, str]] = {}
        for curve in self.job.curves:
            for cell in curve.cells:
                rows.setdefault(str(curve.site(cell)), {})[curve.metric] = mean_text(cell.recovery, cell.pairs, ".2f")
        shown = [[site, *(row.get(metric, "") for metric in metrics)] for site, row in rows.items()]
        return metrics, shown


def render(run: RunResult) -> str:
    """Return the whole page."""
    explained = _explained(run)
    views = [
        JobView(f"job-{i}", job, _effect(job), again(job, run), job.status in BAD) for i, job in enumerate(run.jobs)
    ]
    found = {each.job.id: each for each in failures(run)}
    return _template().render(
        run=run,
        views=views,
        failed=[(view, found[view.job.id]) for view in views if view.grave],
        matrix=_matrix(views),
        engines=list(dict.fromkeys(job.engine for job in run.jobs)),
        counts=counts(run),
        explained=explained,
        mean_text=mean_text,
        around=around,
        undefined_pairs=undefined_pairs,
        known_codes={each.code for each in explained},
        headroom=_headroom,
        duration=duration(run),
        sign=SIGN,
        sign_of=sign_of,
        fails=fails,
        near=near,
        place=place,
        moves=moves,
        move_columns=MOVES,
        word_of=word_of,
        folded=("passed", "expected"),
        site_position=site_position,
        css=_asset("report.css"),
        js=_asset("report.js"),
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    return environment.from_string((files(__package__) / "report.html.j2").read_text(encoding="utf-8"))


def _shown(value: object) -> object:
    """Return what a text of the result is on the page; markup is ours."""
    return visible(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> Markup:
    """Return one of our own files, which is markup and not data."""
    return Markup((files(__package__) / name).read_text(encoding="utf-8"))


def _matrix(views: Sequence[JobView]) -> dict[str, dict[str, list[JobView]]]:
    """Return case -> engine -> the jobs on each model."""
    matrix: dict[str, dict[str, list[JobView]]] = {}
    for view in views:
        matrix.setdefault(view.job.case, {}).setdefault(view.job.engine, []).append(view)
    return matrix


def _explained(run: RunResult) -> list[Explained]:
    """Return the pages of the codes that the run found, so that a report can be read where no documentation is."""
    codes = sorted({finding.code for job in run.jobs for finding in job.findings} & FINDINGS.keys())
    markdown = MarkdownIt("commonmark", {"html": False}).disable(["link", "image", "autolink"])
    return [Explained(code, FINDINGS[code].title, Markup(markdown.render(_body(code)))) for code in codes]


def _body(code: str) -> str:
    """Return a page without its heading, its sections a level lower."""
    return page(code).text.partition("\n")[2].replace("\n## ", "\n### ")


def _headroom(ratio: float) -> str:
    """Return in words how near a norm is to what its dtype can hold."""
    if ratio < 1:
        return f"overflows: {1 / ratio:.2g} x too large"
    return f"{ratio:.3g} x room" if ratio < 1000 else "ample"


def _effect(job: JobResult) -> str:
    return strongest(job, job.curves[0], interval=True) if job.curves else job.reason or ""


def _tokens(tokens: Tokens) -> list[tuple[int | None, str]]:
    return list(zip(tokens.ids, tokens.texts or ("",) * len(tokens.ids), strict=True))


def _figures(curves: Sequence[Curve], tokens: Sequence[str]) -> Iterator[Figure]:
    plain = [curve for curve in curves if not curve.is_grid]
    for curve in curves:
        if curve.is_grid:
            yield _grid(curve, tokens)
        elif _stands_alone(curve, plain):
            yield Figure(f"{_baseline(curve)}; recovery (%) over layers", charts.bars(curve))
    components = list(dict.fromkeys(curve.component for curve in plain))
    if len(components) > 1:
        yield _components([curve for curve in plain if curve.metric == plain[0].metric])
    for component in components:
        alike = [curve for curve in plain if curve.component == component and curve.cells]
        if len(alike) > 1:
            names = tuple(curve.metric for curve in alike)
            yield Figure(f"{component}: every metric; recovery (%) over layers", charts.lines(alike), names)


def _stands_alone(curve: Curve, plain: Sequence[Curve]) -> bool:
    """Return whether a curve has bars of its own: the first of its component, and any that is not all numbers.

    The others are in the lines over each other and in the table; three pictures of nearly the same shape say no more.
    """
    first = next(each for each in plain if each.component == curve.component)
    return curve is first or not all(cell.recovery.finite for cell in curve.cells)


def _components(curves: Sequence[Curve]) -> Figure:
    layers = sorted({cell.layer for curve in curves for cell in curve.cells})
    found = {(curve.component, cell.layer): cell.recovery for curve in curves for cell in curve.cells}
    names = [curve.component for curve in curves]
    cells = [[found.get((name, layer)) for layer in layers] for name in names]
    svg = charts.heat(names, [str(layer) for layer in layers], cells, reach(chain(*cells)))
    return Figure(f"{curves[0].metric}: recovery (%) over components and layers", svg)


def _grid(curve: Curve, tokens: Sequence[str]) -> Figure:
    grid = grid_of(curve, tokens)
    most = reach(chain(*grid.cells))
    svg = charts.heat([str(layer) for layer in grid.layers], grid.columns, grid.cells, most, grid.across)
    return Figure(f"{_baseline(curve)}; recovery (%), layers up, {grid.across} across", svg)


def _baseline(curve: Curve) -> str:
    over = f" (mean of {curve.pairs.over}; whiskers: standard error)" if curve.pairs else ""
    return f"{curve.component}, {curve.metric}: baseline {curve.baseline.text('.6g')} {curve.unit}{over}"
