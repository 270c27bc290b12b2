"""The known failures of an engine: which cells of a matrix they explain, and which of them pass now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from harness.casefile.known import (
    PLACEHOLDER,
    Asking,
    Ended,
    Ending,
    Failed,
    KnownEntry,
    KnownFailures,
    known_failures,
    written,
)
from harness.laws import LAWS
from harness.laws.conformance.matrix import BROKEN, FAIL, KNOWN, NO_ANSWER, PROCESS, SKIP, WARN, LawCell
from harness.laws.conformance.report import Conformance
from harness.laws.conformance.rows import all_rows
from harness.support.files import write_text


def read_known(path: Path | None) -> KnownFailures:
    """Return the known failures of a file, none without one. Raises UsageError, CaseFileError with every fault."""
    if path is None:
        return KnownFailures()
    return known_failures(path, {law.name: law.code for law in LAWS.values()}, _Rows())


class _Rows:
    """The names of all rows, listed only when a name is looked up."""

    def __iter__(self) -> Iterator[str]:
        return (row.id for row in all_rows())


def rewritten(path: Path, entries: Iterable[KnownEntry]) -> KnownFailures:
    """Write a file of known failures, and return it as it is read."""
    write_text(path, written(entries))
    return read_known(path)


def with_known(report: Conformance, known: KnownFailures, expected_rows: Iterable[str]) -> Conformance:
    """Return the matrix with its known failures marked; `expected_rows` are those of a run that leaves none out."""
    cells = tuple(_marked(report.engine, cell, known) for cell in report.cells)
    verdict = known.verdict(list(_ended(report, expected_rows)), of_laws=True)
    return replace(report, cells=cells, stale=verdict.stale, notes=(*report.notes, *verdict.notes))


def _marked(engine: str, cell: LawCell, known: KnownFailures) -> LawCell:
    # A process that ended said nothing of any law.
    if cell.status not in BROKEN or cell.kind == PROCESS:
        return cell
    reason = known.reason(Asking(engine, cell.law, cell.row), Failed(cell.law, cell.kind))
    return replace(cell, status=KNOWN, known=reason) if reason else cell


def _ended(report: Conformance, expected_rows: Iterable[str]) -> Iterator[Ended]:
    asked = {(cell.row, cell.law) for cell in report.cells}
    for cell in report.cells:
        failed = (Failed(cell.law, cell.kind),) if cell.status in (*BROKEN, KNOWN) and cell.kind != PROCESS else ()
        moot = Ending.ABSENT if cell.text == NO_ANSWER or cell.kind == PROCESS else Ending.MOOT
        ending = moot if cell.status == SKIP or cell.kind == PROCESS else Ending.ENDED
        yield Ended(Asking(report.engine, cell.law, cell.row), ending, failed)
    for row in dict.fromkeys([*expected_rows, *report.rows]):
        yield from (Ended(Asking(report.engine, law, row), Ending.ABSENT) for law in LAWS if (row, law) not in asked)


def entries_of(report: Conformance, known: KnownFailures, expected_rows: Iterable[str]) -> list[KnownEntry]:
    """Return what a file must hold for this matrix to pass: the entries that still serve, and the failures without;
    warnings, where they fail."""
    failing = (FAIL, WARN) if report.strict else (FAIL,)
    new = [
        KnownEntry(law=cell.law, row=cell.row, engine=report.engine, kind=cell.kind or None, reason=PLACEHOLDER)
        for cell in report.cells
        if cell.status in failing and cell.kind != PROCESS
    ]
    return [*known.verdict(list(_ended(report, expected_rows)), of_laws=True).kept, *new]
