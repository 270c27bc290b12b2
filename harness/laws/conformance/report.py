"""The matrix as people and machines read it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from harness.laws import LAWS
from harness.laws.conformance.matrix import FAIL, KNOWN, PASS, SKIP, WARN, LawCell, dump_cell
from harness.laws.grid.table import GridCell, GridTable, numbered, reasons_below
from harness.results.reports.junit import suite_text
from harness.results.reports.markdown import text
from harness.support.version import VERSION
from harness.vocabulary import Status, is_code
from harness.vocabulary.findings import FINDINGS
from harness.vocabulary.verdict import of_run
from harness.vocabulary.visible import json_text, visible
from harness.vocabulary.words import number_of

SCHEMA = "mlx-patch-harness/conformance/1"
_MARK = {PASS: "✓", FAIL: "✗", WARN: "!", KNOWN: "†"}
_GRAVITY = (FAIL, WARN, KNOWN, PASS, SKIP)


@dataclass(frozen=True)
class Conformance:
    """The matrix of one engine, and what of its declaration nobody asked."""

    engine: str
    version: str | None
    laws: tuple[str, ...]
    cells: tuple[LawCell, ...]
    environment: dict[str, Any]
    duration_s: float
    not_asked: tuple[str, ...] = ()
    strict: bool = False
    unreached: tuple[str, ...] = ()
    """The rows that Ctrl-C or SIGTERM came before the end of."""
    stale: tuple[str, ...] = ()
    """The entries of `--known` that fail no more."""
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> dict[str, dict[str, LawCell]]:
        found: dict[str, dict[str, LawCell]] = {}
        for cell in sorted(self.cells, key=lambda cell: _GRAVITY.index(cell.status)):
            found.setdefault(cell.row, {}).setdefault(cell.law, cell)
        return {row: found[row] for row in dict.fromkeys(cell.row for cell in self.cells)}

    @property
    def grid(self) -> GridTable:
        """The matrix as a table of laws and models."""
        rows = {row: {law: _shown(cell) for law, cell in cells.items()} for row, cells in self.rows.items()}
        headings = {law: law for law in self.laws}
        return GridTable(rows, headings, numbered(rows.values()), "model", dense=True)

    @property
    def breaches(self) -> list[tuple[LawCell, list[str]]]:
        """The first cell of every law and kind of mistake that breaks it, and all rows where it does."""
        return self._said(FAIL)

    @property
    def warnings(self) -> list[tuple[LawCell, list[str]]]:
        """The same of what is true and harms no number: each finding once, whichever laws saw it."""
        return self._said(WARN)

    def _said(self, status: str) -> list[tuple[LawCell, list[str]]]:
        found: dict[tuple[str, str], list[LawCell]] = {}
        for cell in self.cells:
            if cell.status == status:
                found.setdefault((cell.code if status == WARN else cell.law, cell.kind), []).append(cell)
        return [(cells[0], list(dict.fromkeys(cell.row for cell in cells))) for cells in found.values()]

    def count(self, status: str) -> int:
        """Return how many cells have a status; a law that is broken in several ways on a model is one of them, and
        fails unless all of them are known."""
        return sum(cell.status == status for cells in self.rows.values() for cell in cells.values())

    @property
    def name(self) -> str:
        return f"{self.engine} {self.version}" if self.version else self.engine

    @property
    def nothing_asked(self) -> bool:
        """Whether the engine declares something and no number of it could be held against a right one."""
        covered = [cell.coverage for cell in self.cells if cell.coverage]
        return bool(covered) and not any(coverage.asked for coverage in covered)

    @property
    def judgement(self) -> tuple[Status, int]:
        """The verdict and its exit code; skipped where no cell passed or failed, or nothing declared was asked."""
        warned = Status.FAILED if self.strict else Status.PASSED
        ended = {PASS: Status.PASSED, KNOWN: Status.PASSED, FAIL: Status.FAILED, WARN: warned}
        seen = {status for mark, status in ended.items() if self.count(mark)}
        besides = (Status.INTERRUPTED,) * bool(self.unreached) + (Status.FAILED,) * bool(self.stale)
        return of_run((), *besides, *(seen - {Status.PASSED} if self.nothing_asked else seen))

    def verdict(self, code: int | None = None) -> str:
        """Return the last line: what passed and what did not, and the exit code, which a file may have made another."""
        status, own = self.judgement
        word = "NOTHING RAN" if status is Status.SKIPPED else status.value.upper()
        if status is Status.SKIPPED and self.nothing_asked:
            word = "NOTHING DECLARED WAS ASKED"
        broken = len({cell.law for cell, _ in self.breaches})
        known = f"known: {self.count(KNOWN)}, " if self.count(KNOWN) else ""
        warned = f"{self.count(WARN)} warned, " if self.count(WARN) else ""
        ended = len(self.rows.keys() - set(self.unreached))
        reached = f"{ended} of {ended + len(self.unreached)} rows, " if self.unreached else ""
        return (
            f"{word}: {reached}{number_of(self.count(PASS), 'cell')} passed, {self.count(FAIL)} failed, {known}{warned}"
            f"{self.count(SKIP)} skipped, {broken} of {len(self.laws)} laws broken, "
            f"{number_of(len(self.not_asked), 'thing')} not asked, in {self.duration_s:.1f} s "
            f"(exit code {own if code is None else code})"
        )


def skipped_everywhere(cells: Sequence[LawCell]) -> dict[str, list[str]]:
    """Return law -> reasons of the laws that no model had an answer to."""
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        reasons.setdefault(cell.law, []).append(cell.text)
    return {law: reasons[law] for law in reasons if all(cell.status == SKIP for cell in cells if cell.law == law)}


def _shown(cell: LawCell) -> GridCell:
    """Return a cell as the table shows it; a law that was skipped by its reason."""
    if cell.status == SKIP:
        return GridCell(reason=cell.text)
    return GridCell(_MARK[cell.status], holds=cell.status == PASS, apart=cell.status == FAIL)


def seen_of(cell: LawCell) -> str:
    """Return what a breach shows: by its smallest question, where there is one."""
    return cell.smallest.seen if cell.smallest else cell.text


def reproduction(report: Conformance, cell: LawCell) -> str:
    """Return the command that shows a breach again, by its smallest question; by all laws where only the laws before
    it make it appear."""
    words = ["harness", "conformance", "--engine", report.engine, *(["--allow-code"] if is_code(report.engine) else [])]
    words += ["--row", cell.row, *(["--strict"] if report.strict and cell.status == WARN else [])]
    return shlex.join([*words, *(["--law", cell.law, *cell.smallest.options] if cell.smallest else [])])


def issue(report: Conformance, cell: LawCell) -> Iterator[str]:
    """Yield the lines of an issue about a breach, in Markdown: what is broken, how to see it, and with what."""
    packages = report.environment.get("packages", {})
    with_ = [f"{name} {packages[name]}" for name in ("mlx", "mlx-lm") if name in packages]
    yield f"**{text(report.name)}: {FINDINGS[cell.code].title} ({cell.code}, {cell.law})**"
    yield ""
    yield f"{text(LAWS[cell.law].about)} On {cell.row}: {text(seen_of(cell))}"
    yield ""
    yield "```sh"
    yield visible(reproduction(report, cell))
    yield "```"
    yield ""
    yield text(", ".join([f"harness {VERSION}", *with_, report.environment.get("platform", "")]))


def as_json(report: Conformance) -> str:
    """Return the matrix as JSON text."""
    plain = {
        "schema": SCHEMA,
        "engine": report.engine,
        "version": report.version,
        "environment": report.environment,
        "duration_s": report.duration_s,
        "laws": [{"name": name, "code": LAWS[name].code, "about": LAWS[name].about} for name in report.laws],
        "cells": [dump_cell(cell) for cell in report.cells],
        "unreached": report.unreached,
        "stale": report.stale,
        "notes": report.notes,
        "warned": [
            {"code": cell.code, "kind": cell.kind, "text": cell.text, "rows": rows} for cell, rows in report.warnings
        ],
        "not_asked": list(report.not_asked),
    }
    return json_text(plain) + "\n"


def as_junit(report: Conformance) -> str:
    """Return the matrix as a JUnit report: a test case for each cell."""
    suite = ElementTree.Element("testsuite", name=f"conformance of {report.name}", time=f"{report.duration_s:.3f}")
    for cell in report.cells:
        case = ElementTree.SubElement(suite, "testcase", classname=cell.row, name=cell.law)
        if cell.status == FAIL:
            failure = ElementTree.SubElement(case, "failure", message=f"{cell.code} {cell.text}")
            failure.text = "\n".join(filter(None, [reproduction(report, cell), cell.traceback]))
        elif cell.status == WARN:
            ElementTree.SubElement(case, "system-out").text = f"{cell.code} {cell.text}"
        elif cell.status == KNOWN:
            ElementTree.SubElement(case, "skipped", message=f"known: {cell.known}").text = cell.text
        elif cell.status == SKIP:
            ElementTree.SubElement(case, "skipped", message=cell.text)
    for name, tag, texts in (("known failures", "failure", report.stale), ("interrupted", "error", report.unreached)):
        for said in texts:
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=said)
            ElementTree.SubElement(case, tag, message=name)
    return suite_text(suite)


def as_markdown(report: Conformance) -> str:
    """Return the matrix as a comment for a pull request: what is broken first, then the table."""
    grid = report.grid
    lines = [f"## Conformance of {text(report.name)}", "", text(report.verdict()), ""]
    lines += [f"- {text(said)}" for said in notes_of(report)] + [""]
    if told := report.breaches + report.warnings:
        lines += ["| law | code | where | what is seen |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(map(text, _breach_row(cell, rows)))} |" for cell, rows in told]
        lines.append("")
    for cell, _ in report.breaches:
        lines += ["<details><summary>Ready to paste</summary>", "", *issue(report, cell), "", "</details>", ""]
    if report.not_asked:
        lines += ["Not asked:", "", *(f"- {text(each)}" for each in report.not_asked), ""]
    lines += ["<details><summary>All cells</summary>", "", *grid.markdown(), "", *reasons_below(grid.numbers), ""]
    known = dict.fromkeys((cell.law, cell.known) for cell in report.cells if cell.status == KNOWN)
    lines += [*(f"- † {law}: {text(why)}" for law, why in known), "", "</details>", ""]
    lines += [f"- **{law}**: {LAWS[law].about}" for law in report.laws]
    return "\n".join(lines) + "\n"


def known_lines(report: Conformance) -> Iterator[tuple[str, str]]:
    """Yield the known failures, each law and reason once, and the notes, with the colour of each line."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for cell in report.cells:
        if cell.status == KNOWN:
            rows.setdefault((cell.code, cell.law, cell.known), []).append(cell.row)
    for (code, law, why), where in rows.items():
        more = f" and {len(set(where)) - 1} more" if len(set(where)) > 1 else ""
        yield f"known: {code} {law} at {where[0]}{more}: {why}", "cyan"
    yield from ((said, "red" if said in report.stale else "yellow") for said in notes_of(report))


def notes_of(report: Conformance) -> list[str]:
    """Return what a reader of the verdict must know besides the cells."""
    unreached = [f"not reached: {', '.join(report.unreached)}"] if report.unreached else []
    rows: dict[str, list[str]] = {}
    for cell in report.cells:
        for said in cell.fallbacks:
            rows.setdefault(said, []).append(cell.row)
    went = [f"{where[0]}{f' and {len(where) - 1} more' if where[1:] else ''} {said}" for said, where in rows.items()]
    return [*report.stale, *report.notes, *went, *unreached]


def _breach_row(cell: LawCell, rows: Sequence[str]) -> Iterator[str]:
    yield f"{cell.law} (warning)" if cell.status == WARN else cell.law
    yield cell.code
    yield rows[0] + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")
    yield seen_of(cell)
