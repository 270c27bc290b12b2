"""What a person reads when a run ends: first what failed, where, and what to type next; then what passed, in short.

Jobs that failed alike are told once, with the names of the others, so that a hundred of them still fit a screen.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, Literal, TextIO, cast

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from harness.results.reports.engines import engines_table, print_engine_output
from harness.results.reports.fitting import fitted
from harness.results.reports.recoveries import bars
from harness.results.reports.summary import (
    MOVES,
    accused,
    around,
    counted,
    counts,
    duration,
    moves,
    over_pairs,
    place,
    strongest,
    undefined_pairs,
)
from harness.support.screen import Screen, Styled
from harness.vocabulary import Curve, Finding, JobResult, RunResult, Status
from harness.vocabulary.paths import near
from harness.vocabulary.verdict import causes
from harness.vocabulary.visible import visible

_STYLE = {
    Status.PASSED: "green",
    Status.FAILED: "bold red",
    Status.SKIPPED: "yellow",
    Status.REFUSED: "bold red",
    Status.CRASHED: "bold red",
    Status.INTERRUPTED: "bold yellow",
}


class _Console(Console):
    """A console for a stranger's texts: each is one line, and no character of it acts; markup in it means nothing."""

    def __init__(self, keep: str, **given: Any) -> None:
        self._keep = keep
        super().__init__(highlight=False, markup=False, emoji=False, **given)

    def on_broken_pipe(self) -> None:
        """Rich would end the process here, and with the exit code that means findings."""
        raise BrokenPipeError

    def render_str(self, text: str, **how: Any) -> Text:
        return _visible(super().render_str(text, **how), self._keep)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, Text):
            renderable = _visible(renderable, self._keep)
        if isinstance(renderable, Table):
            renderable = fitted(renderable, self, options or self.options)
        return super().render(renderable, options)


def _visible(text: Text, keep: str) -> Text:
    """Return a text with escapes for the characters that act; where there are any, it has one style."""
    shown = visible(text.plain, keep)
    return text if shown == text.plain else text.blank_copy(shown)


_UNFOLDED = 100_000
"""Columns where nobody looks: who reads a pipe searches it for lines."""


def console(file: TextIO | None = None, width: int | None = None, keep: str = "") -> Console:
    """Return a console on a file or standard output, as wide as the screen; without one nothing is folded.

    `keep` are characters that stay in texts, such as the new lines of a page of ours.
    """
    if file is not None and not isinstance(file, Screen):
        file = cast(TextIO, Styled(file))
    if width is None and not sys.stdout.isatty():
        width = _UNFOLDED
    # rich takes NO_COLOR for a wish about colours and goes on writing escape codes for bold.
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return _Console(keep, file=file, width=width, color_system=colours)


def print_run(
    run: RunResult, console: Console, strict: bool = False, verbosity: int = 0, again: Sequence[str] = ()
) -> None:
    """Print what failed, where and what to type next; then what passed, in short; the verdict is the last line.

    Verbosity 0 fits a screen whatever the number of jobs; 1 shows every job and finding; -1 what failed and the
    verdict. `again` are options that a command must repeat to see the same, such as a model table.
    """
    bad = [job for job in run.jobs if job.status not in (Status.PASSED, Status.SKIPPED)]
    for line in islice(accused(run), _MOST_KINDS):
        console.print(Text(line, style="bold red"))
    _print_failures(bad, console, strict, verbosity, again)
    if verbosity >= 0:
        _print_jobs(run.jobs, console, everything=verbosity > 0)
        if verbosity > 0:
            _print_recoveries(run.jobs, console)
        if (table := engines_table(run.jobs)) is not None:
            console.print(table)
        _print_warnings(run.jobs, console, everything=verbosity > 0)
        _print_reasons(run.jobs, console, everything=verbosity > 0)
    for job in run.jobs if verbosity > 0 else ():
        print_engine_output(job, console)
    for note in run.notes:
        console.print(Text(note, style="yellow"))
    console.print(verdict_line(run))


def jobs_table(jobs: Sequence[JobResult]) -> Table:
    """One row a job: case, model, engine, the baseline and strongest recovery of its first metric, and the status."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("case", "model", "engine"):
        table.add_column(name, overflow="fold")
    table.add_column("baseline", justify="right")
    table.add_column("strongest effect", overflow="fold")
    table.add_column("status")
    for job in jobs:
        curve = job.curves[0] if job.curves else None
        table.add_row(
            Text(job.case), Text(job.model), Text(job.engine),
            Text(f"{curve.metric} {curve.baseline.text()}{around(curve.pairs)}" if curve else ""),
            Text(strongest(job, curve) if curve else ""),
            _status(job),
        )  # fmt: skip
    return table


def _print_recoveries(jobs: Sequence[JobResult], console: Console) -> None:
    """Print the recoveries of each job as bars over the layers, with their range."""
    for job in jobs:
        curves = [curve for curve in job.curves if curve.cells and not curve.is_grid]
        if curves:
            console.print(Text(job.id, style="bold"), soft_wrap=True)
        rows = Table.grid("", "", "", "", padding=(0, 1, 0, 0))
        for curve in curves:
            rows.add_row("", bars(curve), Text(_span(curve)), Text(f"{curve.component} {curve.metric}"))
        console.print(rows)


def _span(curve: Curve) -> str:
    """`6.0 to 50.1 %`; of several pairs `6.0 ± 1.1 to 50.1 ± 4.2 %, means of 30 pairs`."""
    known = sorted(
        (cell for cell in curve.cells if cell.recovery.value is not None), key=lambda each: each.recovery.value or 0.0
    )
    ends = [f"{cell.recovery.text('.1f')}{around(cell.pairs)}" for cell in (known[:1] + known[-1:])]
    over = f", means of {over_pairs(curve)}" if curve.pairs else ""
    return f"{' to '.join(ends)} %{over}" if ends else f"no number{over}"


def verdict_line(run: RunResult) -> Text:
    """`FAILED: 2 failed, 30 passed, 1 skipped in 12.3 s (exit code 1)`."""
    text = f"{run.verdict.value.upper()}: {counts(run)} {duration(run)} (exit code {run.exit_code})"
    return Text(text, style=_STYLE[run.verdict])


def finding_text(finding: Finding) -> str:
    """One finding as people read it: code, title, where, what was seen."""
    where = f" at {finding.site}" if finding.site else ""
    metric = f" ({finding.metric})" if finding.metric else ""
    return f"{finding.code} {finding.kind.title}{metric}{where}: {finding.message}"


_MOST_KINDS, _MOST_CODES, _MOST_NAMES = 3, 3, 6
"""Kinds of failure, codes of each, and names of jobs alike: 3 x (3 x 2 + 6) lines leave room on a screen."""


def _print_failures(
    jobs: Sequence[JobResult], console: Console, strict: bool, verbosity: int, again: Sequence[str]
) -> None:
    """Print one job of each kind of failure in full, and beside it the names of those that failed alike."""
    kinds: dict[tuple[object, ...], list[JobResult]] = {}
    for job in jobs:
        codes = dict.fromkeys(each.code for each in causes(job, strict))
        kinds.setdefault((job.id,) if verbosity > 0 else (job.status, job.reason, *codes), []).append(job)
    most = len(kinds) if verbosity > 0 else _MOST_KINDS
    for alike in list(kinds.values())[:most]:
        _print_failure(alike[0], console, strict, verbosity, most_alike=1 if len(kinds) > 1 else 2)
        if others := [job.id for job in alike[1:]]:
            console.print(Text(f"  and {_named(others)}"))
        for command in _next_commands(alike[0], strict, again):
            console.print(Text(f"  {command}", style="cyan"), soft_wrap=True)
        console.print()
    if left := [job.id for kind in list(kinds.values())[most:] for job in kind]:
        console.print(Text(f"Failed in other ways: {_named(left)}; -v shows all", style="bold red"))


def _print_failure(job: JobResult, console: Console, strict: bool, verbosity: int, most_alike: int) -> None:
    head = Text(f"{job.status.upper()} ", style=_STYLE[job.status])
    failing = causes(job, strict)
    console.print(head + Text(f"{job.id} {place(job, *failing[:1])}", style="bold"))
    if job.reason:
        console.print(Text(f"  {job.reason}", style="red"))
    by_code = {code: [each for each in failing if each.code == code] for code in dict.fromkeys(e.code for e in failing)}
    codes = list(by_code.values()) if verbosity > 0 else list(by_code.values())[:_MOST_CODES]
    for alike in codes:
        shown = alike if verbosity > 0 else alike[:most_alike]
        for finding in shown:
            console.print(Text(f"  {finding_text(finding)}", style="red"))
        more = f" ({len(alike) - len(shown)} more of {alike[0].code})" if len(alike) > len(shown) else ""
        if verbosity >= 0:
            hints = "; ".join(dict.fromkeys(each.hint for each in shown))
            console.print(Text(f"    {hints}{more}"))
            if rows := moves(alike[0]):
                console.print(_moves_table(rows))
        for line in str(alike[0].evidence.get("traceback", "")).splitlines() if verbosity > 0 else ():
            console.print(Text(f"    {line}"), soft_wrap=True)
    if len(codes) < len(by_code):
        console.print(Text(f"  and {' '.join(list(by_code)[len(codes) :])}", style="red"))


def _moves_table(rows: Sequence[Sequence[str]]) -> Table:
    """The numbers that moved furthest from a snapshot."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 2))
    for at, name in enumerate(MOVES):
        table.add_column(name, justify="right" if at else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


_TO_SEE_TOKENS = ("alignment", "zero-baseline")


def _next_commands(job: JobResult, strict: bool, again: Sequence[str]) -> list[str]:
    """Return what to type: the job alone, its tokens where they are the question, and the first finding's page."""
    file = near(job.case_file)
    commands = [
        shlex.join(["harness", "run", file, "--engine", job.engine, "--model", job.given or job.model, *again, "-v"])
    ]
    failing = causes(job, strict)
    if any(each.kind.check in _TO_SEE_TOKENS for each in failing):
        tables = [word for pair in pairwise(again) if pair[0] == "--models" for word in pair]
        commands.append(shlex.join(["harness", "show", file, "--model", job.given or job.model, *tables]))
    return [*commands, *(f"harness explain {each.code}" for each in failing[:1])]


def _print_jobs(jobs: Sequence[JobResult], console: Console, everything: bool) -> None:
    if everything or len(jobs) <= _MOST_ROWS:
        if jobs:
            console.print(jobs_table(jobs))
        return
    cases: dict[str, list[JobResult]] = {}
    for job in jobs:
        cases.setdefault(job.case, []).append(job)
    if len(cases) <= _MOST_CASES and all(job.status in (Status.PASSED, Status.SKIPPED) for job in jobs):
        console.print(cases_table(cases))
    else:
        passed = [
            name for name, group in cases.items() if all(job.status is Status.PASSED and not job.known for job in group)
        ]
        console.print(Text(f"Passed in every job: {_named(passed) if passed else 'no case'}; -v shows all jobs"))


_MOST_ROWS, _MOST_CASES = 20, 30
"""Jobs and cases that a screen holds one a line, below what failed."""


def cases_table(cases: Mapping[str, Sequence[JobResult]]) -> Table:
    """One row a case: how many jobs on how many models, the first job's baseline and strongest effect, the statuses."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("case", overflow="fold")
    for name in ("jobs", "models"):
        table.add_column(name, justify="right")
    table.add_column("engines", overflow="fold")
    table.add_column("of the first: strongest effect", overflow="fold")
    table.add_column("status", overflow="fold")
    for name, jobs in cases.items():
        curve = jobs[0].curves[0] if jobs[0].curves else None
        table.add_row(
            Text(name), str(len(jobs)), str(len({job.model for job in jobs})),
            Text(" ".join(dict.fromkeys(job.engine for job in jobs))),
            Text(f"{curve.metric} {strongest(jobs[0], curve)}" if curve else ""),
            Text(counted(jobs), style=_STYLE[max((job.status for job in jobs), key=list(Status).index)]),
        )  # fmt: skip
    return table


def _print_warnings(jobs: Sequence[JobResult], console: Console, everything: bool) -> None:
    """Print what passing jobs warn of: each code once, with the first job that has it, unless everything is asked."""
    found = [(job, each) for job in jobs if job.status is Status.PASSED for each in job.findings if not each.expected]
    by_code: dict[str, list[tuple[JobResult, Finding]]] = {}
    for job, finding in found:
        by_code.setdefault(finding.code, []).append((job, finding))
    for alike in by_code.values():
        for job, finding in alike if everything else alike[:1]:
            console.print(Text(f"{job.id} {finding_text(finding)}", style="yellow"))
        others = list(dict.fromkeys(job.id for job, _ in alike))[1:]
        if others and not everything:
            console.print(Text(f"  and {_named(others)}"))
        console.print(Text(f"    {alike[0][1].hint}"))


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown


def _print_reasons(jobs: Sequence[JobResult], console: Console, *, everything: bool) -> None:
    """Print why jobs were skipped, failed as expected or went another way than asked, each reason once.

    With `everything`, also which relied on a proof that is remembered, and what became of float32 copies.
    """
    reasons: dict[str, list[str]] = {}
    for job in jobs:
        if job.reason and job.status in (Status.SKIPPED, Status.PASSED):
            reasons.setdefault(f"{job.status}: {job.reason}", []).append(job.id)
        for why in dict.fromkeys(f"{each.code}: {each.known}" for each in job.findings if each.known):
            reasons.setdefault(f"known {why}", []).append(job.id)
        for text in undefined_pairs(job.curves):
            reasons.setdefault(f"has undefined pairs, which are in no mean: {text}", []).append(job.id)
        if job.fallback:
            reasons.setdefault(f"went {job.strategy}: {job.fallback}", []).append(job.id)
        if job.proven_on and everything:
            reasons.setdefault(f"went {job.strategy}, proven on {job.proven_on}", []).append(job.id)
        if job.dequantised and everything:
            went = ", ".join(filter(None, (job.strategy and f"went {job.strategy}", str(job.dequantised))))
            reasons.setdefault(went, []).append(job.id)
    for reason, ids in reasons.items():
        console.print(Text(f"{ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''} {reason}"))


def _status(job: JobResult) -> Text:
    expected = sorted({each.code for each in job.findings if each.expected})
    warned = sorted({each.code for each in job.findings if not each.expected})
    if job.in_spite:
        found = " ".join([*expected, *warned])
        return Text(f"as expected: {found}", style="cyan")
    note = (f", expected {' '.join(expected)}" if expected else "") + (f", {' '.join(warned)}" if warned else "")
    if job.known:
        return Text(f"known {' '.join(sorted({each.code for each in job.findings if each.known}))}", style="cyan")
    return Text(f"{job.status}{note}", style=_STYLE[job.status])
