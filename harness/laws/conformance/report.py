"""The matrix as people and machines read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from harness.laws import LAWS
from harness.laws.conformance.matrix import FAIL, PASS, SKIP, WARN, LawCell, dump_cell
from harness.results.reports.markdown import text
from harness.vocabulary import Status
from harness.vocabulary.verdict import of_run
from harness.vocabulary.visible import json_text, visible

SCHEMA = "mlx-patch-harness/conformance/1"
_MARK = {PASS: "✓", FAIL: "✗", WARN: "!"}


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

    @property
    def rows(self) -> dict[str, dict[str, LawCell]]:
        found: dict[str, dict[str, LawCell]] = {}
        for cell in self.cells:
            found.setdefault(cell.row, {}).setdefault(cell.law, cell)
        return found

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
        """Return how many cells have a status; a law that is broken in several ways on a model is one of them."""
        return len({(cell.row, cell.law) for cell in self.cells if cell.status == status})

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
        ended = {PASS: Status.PASSED, FAIL: Status.FAILED, WARN: warned}
        seen = {status for mark, status in ended.items() if self.count(mark)}
        return of_run((), *(seen - {Status.PASSED} if self.nothing_asked else seen))

    def verdict(self, code: int | None = None) -> str:
        """Return the last line: what passed and what did not, and the exit code, which a file may have made another."""
        status, own = self.judgement
        word = "NOTHING RAN" if status is Status.SKIPPED else status.value.upper()
        if status is Status.SKIPPED and self.nothing_asked:
            word = "NOTHING DECLARED WAS ASKED"
        broken = len({cell.law for cell, _ in self.breaches})
        warned = f"{self.count(WARN)} warned, " if self.count(WARN) else ""
        return (
            f"{word}: {self.count(PASS)} cells passed, {self.count(FAIL)} failed, {warned}{self.count(SKIP)} skipped, "
            f"{broken} of {len(self.laws)} laws broken, {len(self.not_asked)} things not asked, "
            f"in {self.duration_s:.1f} s (exit code {own if code is None else code})"
        )


def skipped_everywhere(cells: Sequence[LawCell]) -> dict[str, list[str]]:
    """Return law -> reasons of the laws that no model had an answer to."""
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        reasons.setdefault(cell.law, []).append(cell.text)
    return {law: reasons[law] for law in reasons if all(cell.status == SKIP for cell in cells if cell.law == law)}


def mark(cell: LawCell | None, reasons: dict[str, int]) -> str:
    """Return a cell as a table shows it: a mark, or the number of the reason why it was skipped."""
    if cell is None:
        return ""
    return _MARK.get(cell.status) or f"[{reasons[cell.text]}]"


def reasons_of(report: Conformance) -> dict[str, int]:
    """Return reason -> number, in the order in which the table shows them."""
    texts = dict.fromkeys(cell.text for cell in report.cells if cell.status == SKIP)
    return {text: number for number, text in enumerate(texts, 1)}


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
        "warned": [
            {"code": cell.code, "kind": cell.kind, "text": cell.text, "rows": rows} for cell, rows in report.warnings
        ],
        "not_asked": list(report.not_asked),
    }
    return json_text(plain) + "\n"


def as_junit(report: Conformance) -> str:
    """Return the matrix as a JUnit report: a test case for each cell."""
    suite = ElementTree.Element(
        "testsuite", name=f"conformance of {report.name}", tests=str(len(report.cells)),
        failures=str(report.count(FAIL)), skipped=str(report.count(SKIP)), time=f"{report.duration_s:.3f}",
    )  # fmt: skip
    for cell in report.cells:
        case = ElementTree.SubElement(suite, "testcase", classname=cell.row, name=cell.law)
        if cell.status == FAIL:
            failure = ElementTree.SubElement(case, "failure", message=f"{cell.code} {cell.text}")
            failure.text = str(cell.smallest or "")
        elif cell.status == WARN:
            ElementTree.SubElement(case, "system-out").text = f"{cell.code} {cell.text}"
        elif cell.status == SKIP:
            ElementTree.SubElement(case, "skipped", message=cell.text)
    return visible(ElementTree.tostring(suite, encoding="unicode"), keep="\n") + "\n"


def as_markdown(report: Conformance) -> str:
    """Return the matrix as a comment for a pull request: what is broken first, then the table."""
    reasons = reasons_of(report)
    lines = [f"## Conformance of {text(report.name)}", "", text(report.verdict()), ""]
    if told := report.breaches + report.warnings:
        lines += ["| law | code | where | smallest question |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(map(text, _breach_row(cell, rows)))} |" for cell, rows in told]
        lines.append("")
    if report.not_asked:
        lines += ["Not asked:", "", *(f"- {text(each)}" for each in report.not_asked), ""]
    lines += ["<details><summary>All cells</summary>", "", f"| | {' | '.join(report.laws)} |"]
    lines.append("|---" * (len(report.laws) + 1) + "|")
    for row, cells in report.rows.items():
        lines.append(f"| {row} | {' | '.join(mark(cells.get(law), reasons) for law in report.laws)} |")
    lines += ["", *(f"{number}. {text(why)}" for why, number in reasons.items()), "", "</details>", ""]
    lines += [f"- **{law}**: {LAWS[law].about}" for law in report.laws]
    return "\n".join(lines) + "\n"


def _breach_row(cell: LawCell, rows: Sequence[str]) -> Iterator[str]:
    yield f"{cell.law} (warning)" if cell.status == WARN else cell.law
    yield cell.code
    yield rows[0] + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")
    yield str(cell.smallest or cell.text)
