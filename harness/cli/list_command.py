"""`harness list`: what `run` would run."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.selection import jobs_of, selection_options


@click.command("list")
@selection_options
def command(
    paths: tuple[Path, ...], tables: tuple[str, ...], models: tuple[str, ...], engines: tuple[str, ...],
    tags: tuple[str, ...],
) -> None:  # fmt: skip
    """List the jobs that `run` would run."""
    from rich import box
    from rich.table import Table

    from harness.reporters.terminal import console

    jobs = jobs_of(paths, tables, models, engines, tags)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("case", "model", "engine", "metrics", "components", "tags"):
        table.add_column(name, overflow="fold")
    for job in jobs:
        case = job.case
        table.add_row(
            case.id,
            job.row.id,
            job.engine,
            " ".join(case.metrics),
            " ".join(case.sweep.components),
            " ".join(case.tags),
        )
    console().print(table)
    click.echo(f"{len(jobs)} jobs in {len({job.case.id for job in jobs})} cases")
