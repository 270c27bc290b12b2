"""`harness validate`: everything that can be said of a case file without loading a model."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.selection import case_files, jobs_of


@click.command("validate")
@click.option("--models", "tables", multiple=True, metavar="FILE", help="A model table beside the bundled one.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
def command(paths: tuple[Path, ...], tables: tuple[str, ...]) -> None:
    """Check case files without loading a model."""
    files = case_files(paths)
    jobs = jobs_of(paths, tables, (), (), ())
    click.echo(f"{len(files)} case files are valid; they make {len(jobs)} jobs.")
    click.echo("Not checked, for want of the models: token counts, layers, and components that name a module.")
