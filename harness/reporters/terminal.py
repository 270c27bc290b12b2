"""What a person reads when a run ends: first what failed, where, and what to do; then one line a job."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.verdict import fails
from harness.vocabulary import Curve, Direction, Finding, JobResult, RunResult, Status

_STYLE = {
    Status.PASSED: "green",
    Status.FAILED: "bold red",
    Status.SKIPPED: "yellow",
    Status.REFUSED: "bold red",
    Status.CRASHED: "bold red",
    Status.INTERRUPTED: "bold yellow",
}


class _Console(Console):
    """A console whose reader may go away: rich would end the process, and with the exit code that means findings."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(file: TextIO | None = None, width: int | None = None) -> Console:
    """Return a console on a file or standard output, as wide as the screen, or wide where there is none to fold for."""
    if width is None and not sys.stdout.isatty():
        width = 140
    # rich takes NO_COLOR for a wish about colours and goes on writing escape codes for bold.
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return _Console(file=file, width=width, highlight=False, color_system=colours)


def print_run(run: RunResult, console: Console, strict: bool = False) -> None:
    """Print the table of jobs, every finding that fails one with its hint, and the verdict as the last line."""
    console.print(jobs_table(run.jobs))
    for job in run.jobs:
        _print_findings(job, console, strict)
    _print_reasons(run.jobs, console)
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
            Text(f"{curve.metric} {curve.baseline.text()}" if curve else ""),
            Text(strongest(job, curve) if curve else ""),
            _status(job),
        )  # fmt: skip
    return table


def strongest(job: JobResult, curve: Curve) -> str:
    """Return the cell that matters most: restoring most when denoising, harming most when noising; or what hides it."""
    finite = [cell for cell in curve.cells if cell.recovery.finite]
    if not finite:
        return ", ".join(sorted({cell.recovery.state.value for cell in curve.cells}))
    noising = job.sweep is not None and job.sweep.direction is Direction.NOISING
    best = (min if noising else max)(finite, key=lambda cell: cell.recovery.value or 0.0)
    site = curve.site(best if curve.is_grid else replace(best, position="all"))
    return f"{best.recovery.text('.1f')} % {curve.component} {str(site).replace(f' {curve.component}', '')}"


def verdict_line(run: RunResult) -> Text:
    """`FAILED: 2 failed, 30 passed, 1 skipped in 12.3 s (exit code 1)`."""
    counts = [(status, sum(job.status is status for job in run.jobs)) for status in Status]
    shown = ", ".join(f"{count} {status}" for status, count in counts if count) or "nothing ran"
    text = f"{run.verdict.value.upper()}: {shown} in {run.duration_s:.1f} s (exit code {run.exit_code})"
    return Text(text, style=_STYLE[run.verdict])


def finding_text(finding: Finding) -> str:
    """One finding as people read it: code, title, where, what was seen."""
    where = f" at {finding.site}" if finding.site else ""
    metric = f" ({finding.metric})" if finding.metric else ""
    return f"{finding.code} {finding.kind.title}{metric}{where}: {finding.message}"


def _print_findings(job: JobResult, console: Console, strict: bool) -> None:
    shown = [each for each in job.findings if not each.expected]
    if not shown:
        return
    console.print(Text(f"{job.id} {job.case_file}", style="bold"))
    for code in dict.fromkeys(each.code for each in shown):
        alike = [each for each in shown if each.code == code]
        for finding in alike:
            console.print(Text(f"  {finding_text(finding)}", style="red" if fails(finding, strict) else "yellow"))
        console.print(Text(f"    {alike[0].kind.hint}"))


def _print_reasons(jobs: Sequence[JobResult], console: Console) -> None:
    reasons: dict[str, list[str]] = {}
    for job in jobs:
        if job.reason:
            reasons.setdefault(f"{job.status}: {job.reason}", []).append(job.id)
        if job.fallback:
            reasons.setdefault(f"went {job.strategy}: {job.fallback}", []).append(job.id)
    for reason, ids in reasons.items():
        console.print(Text(f"{ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''} {reason}"))


def _status(job: JobResult) -> Text:
    expected = sorted({each.code for each in job.findings if each.expected})
    warned = sorted({each.code for each in job.findings if not each.expected})
    note = (f", expected {' '.join(expected)}" if expected else "") + (f", {' '.join(warned)}" if warned else "")
    return Text(f"{job.status}{note}", style=_STYLE[job.status])
