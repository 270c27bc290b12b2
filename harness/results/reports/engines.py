"""Two engines on the same case and model: where do their numbers part, in the metric or in the patching?

Both come with float64 readings of their own logits, so the difference of two reported recoveries splits exactly:

    metric      reported - float64 on the engine's own logits
    patching    float64 on the engine's own logits - float64 on the other engine's
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.results.reports.summary import OWN_ENGINE
from harness.vocabulary import JobResult, Reading


def engines_table(jobs: Sequence[JobResult]) -> Table | None:
    """Return the largest differences, in points, of every engine that patches by itself from `native`, or None."""
    rows = [row for job in jobs if (other := _native(job, jobs)) for row in _rows(job, other)]
    if not rows:
        return None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="against native, in points", title_justify="left")
    for name in ("case", "model", "engine", "component", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("metric differs", "patching differs", "cells unknown"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def print_engine_output(job: JobResult, console: Console) -> None:
    """Print what an engine wrote to standard output, progress lines as they would have stayed on a screen."""
    if job.printed:
        console.print(Text(f"{job.id} printed", style="bold"))
        for line in job.printed.splitlines():
            console.print(Text(f"  {line}"))


def _native(job: JobResult, jobs: Sequence[JobResult]) -> JobResult | None:
    """Return the native job on the same case and model, for a job whose runs are not ours."""
    if job.engine_version is None and ":" not in job.engine:
        return None
    same = (other for other in jobs if (other.case, other.model, other.engine) == (job.case, job.model, OWN_ENGINE))
    return next(same, None)


def _rows(job: JobResult, native: JobResult) -> Iterator[tuple[str, ...]]:
    others = {(curve.component, curve.metric): curve for curve in native.curves}
    for curve in job.curves:
        other = others.get((curve.component, curve.metric))
        if other is not None:
            unknown = sum(cell.oracle.state.value == "unknown" for cell in curve.cells)
            yield (
                job.case, job.model, job.engine, curve.component, curve.metric,
                _largest([(cell.recovery, cell.oracle) for cell in curve.cells]),
                _largest([(cell.oracle, match.oracle) for cell, match in curve.paired(other)]),
                str(unknown) if unknown else "",
            )  # fmt: skip


def _largest(pairs: Sequence[tuple[Reading, Reading]]) -> str:
    """Return the largest difference of two finite readings; a state beside a number shows as that state."""
    states = [b.state.value for a, b in pairs if a.finite and not b.finite and b.state.value != "unknown"]
    states += [a.state.value for a, b in pairs if b.finite and not a.finite and a.state.value != "unknown"]
    if states:
        return states[0]
    gaps = [abs(a.value - b.value) for a, b in pairs if a.value is not None and b.value is not None]
    return f"{max(gaps):.2g}" if gaps else "-"
