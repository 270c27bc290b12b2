"""`harness list`: what `run` would run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.help import Helped
from harness.cli.output import put_json
from harness.cli.parameters import printed_json_option
from harness.cli.selection import LOOKING, selection_options
from harness.jobs.selection import Selection
from harness.vocabulary.words import number_of

if TYPE_CHECKING:
    from harness.jobs.planning import Job


@click.command("list", cls=Helped)
@selection_options(*LOOKING)
@printed_json_option
def command(selection: Selection, json_file: Path | None) -> None:
    """List the jobs that `run` would run. No code of yours is imported."""
    from harness.jobs.choosing import jobs_of

    jobs = jobs_of(selection, looking=True)
    if json_file:
        put_json([_plain(job) for job in jobs], json_file)
    else:
        _print(jobs)


def _plain(job: Job) -> dict[str, Any]:
    case = job.case
    return {
        "id": job.id,
        "case": case.id,
        "case_file": str(case.path),
        "model": job.row.id,
        "engine": job.engine,
        "metrics": list(case.metrics),
        "components": list(case.sweep.components),
        "tags": list(job.tags),
    }


def _print(jobs: list[Job]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from harness.jobs.planning import unseen
    from harness.results.reports.terminal import console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    names = ("case", "model", "engine", "metrics", "components", "tags")
    for name in names:
        table.add_column(name, overflow="fold")
    for job in map(_plain, jobs):
        cells = [job[name] for name in names]
        table.add_row(*(Text(each if isinstance(each, str) else " ".join(each)) for each in cells))
    console().print(table)
    click.echo(f"{number_of(len(jobs), 'job')} in {number_of(len({job.case.id for job in jobs}), 'case')}")
    for line in unseen(jobs):
        click.echo(line)
