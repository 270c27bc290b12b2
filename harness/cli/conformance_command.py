"""`harness conformance`: hold an engine to the laws."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.output import complain
from harness.cli.parameters import OutputFile
from harness.vocabulary.errors import EXIT_USAGE, UnknownName

if TYPE_CHECKING:
    from harness.laws import Law
    from harness.laws.conformance.report import Conformance
    from harness.laws.conformance.rows import ModelRow


@click.command("conformance")
@click.option("-e", "--engine", "name", required=True, help="native, mlxterp, or module:function of your own.")
@click.option("--allow-code", is_flag=True, help="Let the engine be module:function, code of your own.")
@click.option(
    "--all", "every", is_flag=True, help="All architectures of the installed mlx-lm, in processes of their own."
)
@click.option("--row", "names", multiple=True, metavar="NAME", help="Only this model; may be repeated.")
@click.option("--law", "only", multiple=True, metavar="NAME", help="Only this law; may be repeated.")
@click.option("--not-row", "no_rows", multiple=True, metavar="NAME", help="Leave this model out; may be repeated.")
@click.option("--not-law", "no_laws", multiple=True, metavar="NAME", help="Leave this law out; may be repeated.")
@click.option("--json", "json_file", type=OutputFile("conformance"), help="Write the matrix here.")
@click.option("--junit", type=OutputFile("junit"), help="Write a JUnit report here.")
@click.option("-o", "--output", type=OutputFile("markdown"), help="Write it as Markdown here.")
@click.option("--strict", is_flag=True, help="Warnings fail as well.")
@click.option("-v", "--verbose", is_flag=True, help="Show every cell, and why it was skipped.")
def command(
    name: str, allow_code: bool, every: bool, names: tuple[str, ...], only: tuple[str, ...],
    no_rows: tuple[str, ...], no_laws: tuple[str, ...], json_file: Path | None, junit: Path | None,
    output: Path | None, strict: bool, verbose: bool,
) -> int:  # fmt: skip
    """Hold an engine to the laws of patching.

    No oracle is needed: the laws hold for every correct patcher, on every shape of model.
    """
    from harness.laws.conformance import report as reports
    from harness.support.files import write_text

    report = _asked(name, allow_code, _chosen_rows(every, names, no_rows), _chosen_laws(only, no_laws), every, strict)
    _, code = report.judgement
    for file, render in ((json_file, reports.as_json), (junit, reports.as_junit), (output, reports.as_markdown)):
        try:
            if file:
                write_text(file, render(report))
        except OSError as error:
            complain(f"{file} cannot be written: {error.strerror or error}")
            code = code or EXIT_USAGE
    _print(report, verbose, code)
    return code


def _chosen_rows(every: bool, names: Sequence[str], left_out: Sequence[str]) -> list[ModelRow]:
    from harness.laws.conformance.rows import all_rows, rows_named, usual_rows

    rows = rows_named(names) if names else all_rows() if every else usual_rows()
    gone = {row.id for row in rows_named(left_out)}
    return [row for row in rows if row.id not in gone]


def _chosen_laws(only: Sequence[str], left_out: Sequence[str]) -> list[Law]:
    from harness.laws import LAWS

    for law in (*only, *left_out):
        if law not in LAWS:
            raise UnknownName("law", law, LAWS)
    return [law for law in LAWS.values() if (not only or law.name in only) and law.name not in left_out]


def _asked(
    name: str, allow_code: bool, rows: list[ModelRow], laws: list[Law], every: bool, strict: bool
) -> Conformance:
    from dataclasses import asdict

    from harness.engines import engine_named
    from harness.environment.facts import environment
    from harness.laws.conformance.coverage import not_asked
    from harness.laws.conformance.report import Conformance, skipped_everywhere

    engine = engine_named(name, allow_code)
    start = time.perf_counter()
    cells = [cell for found in _rows(engine, name, allow_code, every, rows, laws) for cell in found]
    covered = [cell.coverage for cell in cells if cell.coverage]
    return Conformance(
        name, engine.version, tuple(law.name for law in laws), tuple(cells), asdict(environment()),
        round(time.perf_counter() - start, 3), tuple(not_asked(engine, covered, skipped_everywhere(cells))), strict,
    )  # fmt: skip


def _rows(engine: Any, name: str, allow_code: bool, every: bool, rows: Any, laws: Any) -> Iterator[list[Any]]:
    from harness.laws.conformance.matrix import asked_of, in_processes, row_cells

    found = (
        in_processes(name, allow_code, rows, laws)
        if every
        else asked_of(rows, laws, lambda row, asked: list(row_cells(engine, row, asked)))
    )
    for number, (row, cells) in enumerate(zip(rows, found, strict=True), 1):
        failed = dict.fromkeys(cell.law for cell in cells if cell.status == "fail")
        asked = any(cell.status != "skipped" for cell in cells)
        said = f"broken: {', '.join(failed)}" if failed else "in order" if asked else "nothing was asked"
        click.echo(f"{number}/{len(rows)} {row.id}: {said}", err=True)
        yield cells


def _print(report: Conformance, verbose: bool, code: int) -> None:
    from rich.text import Text

    from harness.laws.conformance.report import reasons_of
    from harness.results.reports.terminal import console
    from harness.vocabulary.findings import FINDINGS

    screen, reasons = console(), reasons_of(report)
    for cell, rows in report.breaches + report.warnings:
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        finding, warns = FINDINGS[cell.code], cell.status == "warned"
        kind = f" ({cell.kind})" if cell.kind else ""
        title = f"{finding.code} {'warning: ' if warns else ''}{finding.title}"
        screen.print(Text(f"{title}: {cell.law}{kind} at {rows[0]}{more}", style="yellow" if warns else "red"))
        screen.print(Text(f"    {cell.smallest or cell.text}"))
        screen.print(Text(f"    {_again(report, rows[0], cell.law)}"))
    if verbose:
        screen.print(_grid(report))
        screen.print(", ".join(f"{number} {law}" for number, law in enumerate(report.laws, 1)))
        for text, number in reasons.items():
            screen.print(Text(f"[{number}] {text}"))
    for text in report.not_asked:
        screen.print(Text(f"not asked: {text}"))
    screen.print(Text(report.verdict(code)))


def _again(report: Conformance, row: str, law: str) -> str:
    """Return the command that shows one breach again."""
    from harness.vocabulary import is_code

    allowed = " --allow-code" if is_code(report.engine) else ""
    return f"harness conformance --engine {shlex.quote(report.engine)}{allowed} --row {row} --law {law}"


def _grid(report: Conformance) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from harness.laws.conformance.report import mark, reasons_of

    reasons = reasons_of(report)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for number, _ in enumerate(report.laws, 1):
        table.add_column(f"{number}", justify="center", no_wrap=True)
    for row, cells in report.rows.items():
        table.add_row(row, *(Text(mark(cells.get(law), reasons)) for law in report.laws))
    return table
