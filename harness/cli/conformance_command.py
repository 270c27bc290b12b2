"""`harness conformance`: hold an engine to the laws."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import completers
from harness.cli.help import Helped
from harness.cli.output import complain
from harness.cli.parameters import (
    OutputFile,
    device_option,
    json_option,
    known_option,
    old_option,
    whole_numbers,
    write_known_option,
)
from harness.cli.screen import RowsLine, rows_shown
from harness.cli.selection import allow_code_option, configured
from harness.vocabulary.errors import EXIT_USAGE, UnknownName, UsageError
from harness.vocabulary.words import number_of

if TYPE_CHECKING:
    from harness.casefile.known import KnownFailures
    from harness.engines import Engine
    from harness.laws import Law
    from harness.laws.conformance.matrix import LawCell
    from harness.laws.conformance.report import Conformance
    from harness.laws.conformance.rows import ModelRow


@click.command("conformance", cls=Helped)
@click.option(
    "-e", "--engine", "name", required=True, metavar="ENGINE", shell_complete=completers.engines,
    help="native, mlxterp, or module:function of your own.",
)  # fmt: skip
@allow_code_option
@click.option(
    "--all", "every", is_flag=True, help="All architectures of the installed mlx-lm, in processes of their own."
)
@click.option(
    "--row",
    "names",
    multiple=True,
    metavar="NAME",
    shell_complete=completers.rows,
    help="Only this model; may be repeated.",
)
@click.option(
    "--law",
    "only",
    multiple=True,
    metavar="NAME",
    shell_complete=completers.laws,
    help="Only this law; may be repeated.",
)
@click.option(
    "--not-row",
    "no_rows",
    multiple=True,
    metavar="NAME",
    shell_complete=completers.rows,
    help="Leave this model out; may be repeated.",
)
@click.option(
    "--not-law",
    "no_laws",
    multiple=True,
    metavar="NAME",
    shell_complete=completers.laws,
    help="Leave this law out; may be repeated.",
)
@click.option("--clean", metavar="IDS", help="Another clean prompt, token ids such as 3,7, on the rows of --row.")
@click.option("--corrupted", metavar="IDS", help="The corrupted prompt, likewise.")
@click.option("--ids", is_flag=True, expose_value=False, help="The prompts are token ids, as always here.")
@old_option("--clean-ids", "--clean with --ids")
@old_option("--corrupted-ids", "--corrupted with --ids")
@click.option("--layers", metavar="LAYERS", help="Only these layers, such as 0,3, of the rows of --row.")
@json_option("conformance", "Write the matrix here; - is standard output.")
@click.option("--junit", type=OutputFile("junit"), help="Write a JUnit report here.")
@click.option("-o", "--output", type=OutputFile("markdown"), help="Write it as Markdown here.")
@device_option
@click.option("--strict", is_flag=True, help="Warnings fail as well.")
@known_option
@write_known_option
@click.option("-v", "--verbose", is_flag=True, help="Show every cell, and why it was skipped.")
@configured
def command(
    name: str, allow_code: bool, every: bool, names: tuple[str, ...], only: tuple[str, ...],
    no_rows: tuple[str, ...], no_laws: tuple[str, ...], clean: str | None, corrupted: str | None,
    clean_ids: str | None, corrupted_ids: str | None,
    layers: str | None, json_file: Path | None, junit: Path | None,
    output: Path | None, strict: bool, known: Path | None, write_known: Path | None, verbose: bool,
) -> int:  # fmt: skip
    """Hold an engine to the laws of patching.

    No oracle is needed: the laws hold for every correct patcher, on every shape of model.
    """
    from harness.laws.conformance import report as reports
    from harness.support.files import write_text

    failures = _known(known, write_known)
    rows = _narrowed(
        _chosen_rows(every, names, no_rows), bool(names), clean or clean_ids, corrupted or corrupted_ids, layers
    )
    laws = _chosen_laws(only, no_laws)
    report = replace(_asked(name, allow_code, rows, laws, every and not names, verbose), strict=strict)
    report = _judged(report, failures, every, write_known)
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


def _known(known: Path | None, write_known: Path | None) -> KnownFailures:
    from harness.casefile.known import refuse_to_replace
    from harness.laws.conformance.known import read_known

    if write_known:
        refuse_to_replace(write_known, known)
    return read_known(known)


def _judged(report: Conformance, known: KnownFailures, every: bool, write_known: Path | None) -> Conformance:
    """Return the matrix with its known failures marked, those just written among them."""
    from harness.laws.conformance.known import entries_of, rewritten, with_known
    from harness.laws.conformance.rows import all_rows, usual_rows

    if write_known is None and not known.entries:
        return report
    rows = [row.id for row in (all_rows() if every else usual_rows())]
    found = with_known(report, known, rows)
    if write_known is None:
        return found
    return with_known(report, rewritten(write_known, entries_of(found, known, rows)), rows)


def _chosen_rows(every: bool, names: Sequence[str], left_out: Sequence[str]) -> list[ModelRow]:
    from harness.laws.conformance.rows import all_rows, rows_named, usual_rows

    rows = rows_named(names) if names else all_rows() if every else usual_rows()
    gone = {row.id for row in rows_named(left_out)}
    return [row for row in rows if row.id not in gone]


def _narrowed(rows: list[ModelRow], named: bool, *given: str | None) -> list[ModelRow]:
    """Return the rows with the prompts and layers that are given: what a report prints as the smallest question."""
    if not any(given):
        return rows
    if not named:
        raise UsageError("--clean, --corrupted and --layers go with --row: other models have other ids")
    options = ("--clean", "--corrupted", "--layers")
    numbers = (whole_numbers(text, name) if text else () for text, name in zip(given, options, strict=True))
    clean, corrupted, layers = numbers
    return [row.asked(clean, corrupted, layers) for row in rows]


def _chosen_laws(only: Sequence[str], left_out: Sequence[str]) -> list[Law]:
    from harness.laws import LAWS

    for law in (*only, *left_out):
        if law not in LAWS:
            raise UnknownName("law", law, LAWS)
    return [law for law in LAWS.values() if (not only or law.name in only) and law.name not in left_out]


def _asked(
    name: str, allow_code: bool, rows: list[ModelRow], laws: list[Law], every: bool, verbose: bool
) -> Conformance:
    from dataclasses import asdict

    from harness.engines import engine_named
    from harness.environment.facts import environment
    from harness.laws.conformance.coverage import not_asked
    from harness.laws.conformance.report import Conformance, skipped_everywhere

    engine = engine_named(name, allow_code)
    start = time.perf_counter()
    cells: list[LawCell] = []
    ended: list[str] = []
    try:
        with rows_shown(len(rows), verbose, "broken") as line:
            _ask(engine, name, allow_code, every, rows, laws, cells, ended, line)
    except KeyboardInterrupt:
        complain(f"interrupted after {len(ended)} of {number_of(len(rows), 'row')}")
    covered = [cell.coverage for cell in cells if cell.coverage]
    return Conformance(
        name, engine.version, tuple(law.name for law in laws), tuple(cells), asdict(environment()),
        round(time.perf_counter() - start, 3), tuple(not_asked(engine, covered, skipped_everywhere(cells))),
        unreached=tuple(row.id for row in rows if row.id not in ended),
    )  # fmt: skip


def _ask(
    engine: Engine, name: str, allow_code: bool, every: bool, rows: Sequence[ModelRow], laws: Sequence[Law],
    cells: list[LawCell], ended: list[str], line: RowsLine,
) -> None:  # fmt: skip
    """Add the cells of each row and the rows that ended, one by one: Ctrl-C may come in the middle of a row."""
    from harness.laws.conformance.matrix import asked_of, in_processes, row_cells

    def kept(found: Iterable[LawCell]) -> list[LawCell]:
        before = len(cells)
        for cell in found:
            cells.append(cell)
        return cells[before:]

    found: Iterator[list[LawCell]] = (
        map(kept, in_processes(name, allow_code, rows, laws))
        if every
        else asked_of(rows, laws, lambda row, asked: kept(row_cells(engine, row, asked)))
    )
    for row in rows:
        line.begins(row.id)
        own = next(found)
        ended.append(row.id)
        failed = dict.fromkeys(cell.law for cell in own if cell.status == "fail")
        asked = any(cell.status != "skipped" for cell in own)
        said = f"broken: {', '.join(failed)}" if failed else "in order" if asked else "nothing was asked"
        line.ended(f"{row.id}: {said}", bool(failed))


def _print(report: Conformance, verbose: bool, code: int) -> None:
    from rich.text import Text

    from harness.laws.conformance.report import issue, known_lines, reproduction, seen_of
    from harness.laws.grid.table import on_screen
    from harness.results.reports.terminal import console
    from harness.vocabulary.findings import FINDINGS

    screen, grid = console(), report.grid
    for cell, rows in report.breaches + report.warnings:
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        finding, warns = FINDINGS[cell.code], cell.status == "warned"
        kind = f" ({cell.kind})" if cell.kind else ""
        title = f"{finding.code} {'warning: ' if warns else ''}{finding.title}"
        screen.print(Text(f"{title}: {cell.law}{kind} at {rows[0]}{more}", style="yellow" if warns else "red"))
        screen.print(Text(f"    {seen_of(cell)}"))
        screen.print(Text(f"    {reproduction(report, cell)}"), soft_wrap=True)
        for line in cell.traceback.splitlines() if verbose else ():
            screen.print(Text(f"    {line}"), soft_wrap=True)
    for text, style in known_lines(report):
        screen.print(Text(text, style=style))
    if verbose:
        for part in on_screen([grid], grid.numbers):
            screen.print(part)
        for cell, _ in report.breaches:
            console(keep="\n").print(Text("\n".join(["", *issue(report, cell)])), soft_wrap=True)
    for text in report.not_asked:
        screen.print(Text(f"not asked: {text}"))
    screen.print(Text(report.verdict(code)))
