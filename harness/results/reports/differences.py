"""A comparison for people: on a terminal, as Markdown, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pydantic import TypeAdapter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.results.compare import Breach, Comparison, CurveChange, JobChange, judge
from harness.results.reports import markdown
from harness.vocabulary import Finding, Status
from harness.vocabulary.visible import json_text
from harness.vocabulary.words import number_of

SHOWN, CURVES = 12, 2
"""Jobs, and curves of each, on a screen: those that changed most. Markdown and JSON have them all."""

_COLUMNS = ("job", "what", "baseline", "relative", "largest change", "order", "findings")


def dumps(comparison: Comparison, breaches: Sequence[Breach]) -> str:
    """Return the comparison as JSON text: what differs, and which limits that breaks."""
    # From a baseline of zero no relative difference exists; JSON holds no infinity, and gets null.
    plain = json.loads(TypeAdapter(Comparison).dump_json(comparison))
    broken = TypeAdapter(list[Breach]).dump_python(list(breaches), mode="json")
    for job in plain["jobs"]:
        # The two results themselves stay where they are; a comparison holds the differences.
        job["base"], job["new"] = job["base"]["status"], job["new"]["status"]
    status, code = judge(comparison, breaches)
    verdict = {"verdict": status.value, "exit_code": code}
    return json_text({**plain, **verdict, "breaches": broken}) + "\n"


def print_comparison(comparison: Comparison, breaches: Sequence[Breach], console: Console) -> None:
    """Print what broke a limit, the environment's and the jobs' differences, and the verdict as the last line."""
    for breach in breaches:
        console.print(Text(f"{breach.limit}: {breach.where}: {breach.message}", style="bold red"))
    if comparison.environment:
        console.print(_grid(("environment", "first", "second"), _environment(comparison)))
    if comparison.changed:
        console.print(_grid(_COLUMNS, [row for job in comparison.changed[:SHOWN] for row in _rows(job, CURVES)]))
    if len(comparison.changed) > SHOWN:
        console.print(f"and {len(comparison.changed) - SHOWN} more jobs that differ; -o FILE.md has them all")
    for line in _one_sided(comparison):
        console.print(Text(line))
    good = judge(comparison, breaches)[0] is Status.PASSED
    console.print(Text(verdict(comparison, breaches), style="green" if good else "bold red"))


def render(comparison: Comparison, breaches: Sequence[Breach]) -> str:
    """Return the comparison as Markdown."""
    lines = [f"## harness compare: {markdown.text(verdict(comparison, breaches))}", ""]
    lines += [f"- **{each.limit}** {markdown.code(each.where)} {markdown.text(each.message)}" for each in breaches]
    if comparison.environment:
        rows = [[markdown.text(cell) for cell in row] for row in _environment(comparison)]
        lines += ["", *markdown.table(("environment", "first", "second"), rows)]
    if comparison.changed:
        rows = [[markdown.text(cell) for cell in row] for job in comparison.changed for row in _rows(job)]
        lines += ["", *markdown.table(_COLUMNS, rows)]
    lines += ["", *(f"- {markdown.text(line)}" for line in _one_sided(comparison))]
    return "\n".join(lines) + "\n"


def verdict(comparison: Comparison, breaches: Sequence[Breach]) -> str:
    """Return `2 differences beyond the limits: 3 of 40 jobs differ`, with the largest change and the time."""
    if judge(comparison, breaches)[0] is Status.SKIPPED:
        return f"nothing compared: {_obstacle(comparison)}"
    head = f"{number_of(len(breaches), 'difference')} beyond the limits" if breaches else "within the limits"
    parts = [f"{head}: {len(comparison.changed)} of {number_of(len(comparison.jobs), 'job differs', 'jobs differ')}"]
    points = [curve.largest_points or 0.0 for job in comparison.jobs for curve in job.curves]
    relative = [curve.baseline_relative or 0.0 for job in comparison.jobs for curve in job.curves]
    states = sum(curve.state_changes for job in comparison.jobs for curve in job.curves)
    if points:
        parts.append(f"recoveries by up to {max(points):.3g} points, baselines by up to {max(relative):.2g} relative")
    if states:
        parts.append(f"{states} values changed state")
    if time := comparison.time:
        spread = f"quartiles {time.low:.2f} to {time.high:.2f}, {time.jobs} jobs timed once on each side"
        parts.append(f"sweeps take {time.median:.2f} times as long ({spread})")
    return "; ".join(parts)


def _obstacle(comparison: Comparison) -> str:
    if comparison.jobs:
        return "every job in both is skipped"
    asked = len(comparison.otherwise)
    return f"{asked} jobs ask another question" if asked else "no job is in both"


def _environment(comparison: Comparison) -> list[Sequence[str]]:
    return [(name, *sides) for name, sides in comparison.environment.items()]


def _rows(job: JobChange, most: int | None = None) -> Iterator[Sequence[str]]:
    """Yield a row for each curve that differs, largest change first; the job's name and news stand in the first."""
    name, news = job.name, _news(job)
    curves = sorted((curve for curve in job.curves if curve.differs), key=_curve_gravity, reverse=True)
    for curve in curves[:most]:
        yield name, f"{curve.component} {curve.metric}", *_numbers(curve), news
        name, news = "", ""
    rest = [f"and {len(curves) - most} more"] if most is not None and len(curves) > most else []
    for line in [*job.unmatched, *rest]:
        yield name, line, "", "", "", "", news
        name, news = "", ""
    if name:
        yield name, "", "", "", "", "", news


def _curve_gravity(curve: CurveChange) -> tuple[int, float]:
    return curve.state_changes, curve.largest_points or 0.0


def _numbers(curve: CurveChange) -> Sequence[str]:
    relative = "" if curve.baseline_relative is None else f"{curve.baseline_relative:.2g}"
    baseline = f"{curve.base.text('.6g')} -> {curve.new.text('.6g')}" if curve.base != curve.new else ""
    order = "" if curve.kendall is None else f"{curve.kendall:.2f}"
    return baseline, relative if baseline else "", _largest(curve), order


def _largest(curve: CurveChange) -> str:
    if not curve.cells:
        return ""
    first = curve.cells[0]
    if first.points is None:
        count = sum(cell.base.state is not cell.new.state for cell in curve.cells)
        return f"{first.site}: {first.base.text('.1f')} -> {first.new.text('.1f')} ({count} changed state)"
    return f"{first.points:+.3g} points at {first.site}"


def _news(job: JobChange) -> str:
    parts = []
    if job.base.status is not job.new.status:
        parts.append(f"{job.base.status} -> {job.new.status}")
    parts += [f"+{each}" for each in _codes(job.appeared)]
    parts += [f"-{each}" for each in _codes(job.vanished)]
    return " ".join(parts)


def _codes(findings: Sequence[Finding]) -> list[str]:
    codes = [each.code for each in findings]
    return [f"{code}x{codes.count(code)}" if codes.count(code) > 1 else code for code in dict.fromkeys(codes)]


def _one_sided(comparison: Comparison) -> Iterator[str]:
    for side, names in (("first", comparison.only_base), ("second", comparison.only_new)):
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            yield f"{len(names)} only in the {side}: {', '.join(names[:4])}{more}"
    for name, what in comparison.otherwise:
        yield f"{name} asks another question: {what}"


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
