"""The matrix as people and machines read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from harness.laws import LAWS
from harness.laws.conformance.matrix import FAIL, PASS, SKIP, LawCell, dump_cell
from harness.results.reports.markdown import text
from harness.vocabulary import Status
from harness.vocabulary.verdict import of_run
from harness.vocabulary.visible import json_text, visible

SCHEMA = "mlx-patch-harness/conformance/1"
_MARK = {PASS: "✓", FAIL: "✗"}


@dataclass(frozen=True)
class Conformance:
    """The matrix of one engine."""

    engine: str
    version: str | None
    laws: tuple[str, ...]
    cells: tuple[LawCell, ...]
    environment: dict[str, Any]
    duration_s: float

    @property
    def rows(self) -> dict[str, dict[str, LawCell]]:
        found: dict[str, dict[str, LawCell]] = {}
        for cell in self.cells:
            found.setdefault(cell.row, {}).setdefault(cell.law, cell)
        return found

    @property
    def breaches(self) -> list[tuple[LawCell, list[str]]]:
        """The first cell of every law and kind of mistake that breaks it, and all rows where it does."""
        found: dict[tuple[str, str], list[LawCell]] = {}
        for cell in self.cells:
            if cell.status == FAIL:
                found.setdefault((cell.law, cell.kind), []).append(cell)
        return [(cells[0], [cell.row for cell in cells]) for cells in found.values()]

    def count(self, status: str) -> int:
        """Return how many cells have a status; a law that is broken in several ways on a model is one of them."""
        return len({(cell.row, cell.law) for cell in self.cells if cell.status == status})

    @property
    def name(self) -> str:
        return f"{self.engine} {self.version}" if self.version else self.engine

    @property
    def judgement(self) -> tuple[Status, int]:
        """The verdict and its exit code; skipped where no cell passed or failed."""
        ended = {PASS: Status.PASSED, FAIL: Status.FAILED}
        return of_run((), *(status for mark, status in ended.items() if self.count(mark)))

    def verdict(self, code: int | None = None) -> str:
        """Return the last line: what passed and what did not, and the exit code, which a file may have made another."""
        status, own = self.judgement
        word = "NOTHING RAN" if status is Status.SKIPPED else status.value.upper()
        broken = len({cell.law for cell, _ in self.breaches})
        return (
            f"{word}: {self.count(PASS)} cells passed, {self.count(FAIL)} failed, {self.count(SKIP)} skipped, "
            f"{broken} of {len(self.laws)} laws broken, in {self.duration_s:.1f} s "
            f"(exit code {own if code is None else code})"
        )


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
            failure = ElementTree.SubElement(case, "failure", message=f"{LAWS[cell.law].code} {cell.text}")
            failure.text = str(cell.smallest or "")
        elif cell.status == SKIP:
            ElementTree.SubElement(case, "skipped", message=cell.text)
    return visible(ElementTree.tostring(suite, encoding="unicode"), keep="\n") + "\n"


def as_markdown(report: Conformance) -> str:
    """Return the matrix as a comment for a pull request: what is broken first, then the table."""
    reasons = reasons_of(report)
    lines = [f"## Conformance of {text(report.name)}", "", text(report.verdict()), ""]
    if report.breaches:
        lines += ["| law | code | where | smallest question |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(map(text, _breach_row(cell, rows)))} |" for cell, rows in report.breaches]
        lines.append("")
    lines += ["<details><summary>All cells</summary>", "", f"| | {' | '.join(report.laws)} |"]
    lines.append("|---" * (len(report.laws) + 1) + "|")
    for row, cells in report.rows.items():
        lines.append(f"| {row} | {' | '.join(mark(cells.get(law), reasons) for law in report.laws)} |")
    lines += ["", *(f"{number}. {text(why)}" for why, number in reasons.items()), "", "</details>", ""]
    lines += [f"- **{law}**: {LAWS[law].about}" for law in report.laws]
    return "\n".join(lines) + "\n"


def _breach_row(cell: LawCell, rows: Sequence[str]) -> Iterator[str]:
    yield cell.law
    yield LAWS[cell.law].code
    yield rows[0] + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")
    yield str(cell.smallest or cell.text)
