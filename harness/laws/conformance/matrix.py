"""One cell for each law and model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial

from harness.engines import Engine
from harness.laws import AFTER, FIRST, LAWS, Law
from harness.laws.breach import breaches
from harness.laws.conformance.coverage import Coverage, coverage_of
from harness.laws.conformance.rows import ModelRow
from harness.laws.conformance.smallest import Smallest, smallest
from harness.laws.subject import EngineUnderTest
from harness.support.interpreter import python
from harness.vocabulary.errors import DoesNotApply, EngineUnavailable, HarnessError, ModelUnavailable
from harness.vocabulary.findings import FINDINGS, Severity

PASS, FAIL, WARN, SKIP = "pass", "fail", "warned", "skipped"
TIMEOUT_S = 600
"""A row of a process of its own: eighteen laws on the slowest small model take a tenth of this."""


@dataclass(frozen=True)
class LawCell:
    """A law on a model: passed, failed or warned with what was seen, or skipped with the reason.

    A law that is broken by several kinds of mistake has a cell for each. A cell is a warning where the finding of its
    code is one. `coverage` is what was asked of the declaration, in the cells of a law that chooses its forms.
    """

    row: str
    law: str
    status: str
    text: str = ""
    smallest: Smallest | None = None
    kind: str = ""
    code: str = ""
    coverage: Coverage | None = None


Asked = Callable[[ModelRow, Sequence[Law]], list[LawCell]]


def asked_of(rows: Sequence[ModelRow], laws: Sequence[Law], ask: Asked) -> Iterator[list[LawCell]]:
    """Yield the cells of each model in order; a law about the engine is asked until a model has it answered."""
    open_ = {law.name for law in laws if law.once}
    for row in rows:
        cells = ask(row, _still(laws, open_))
        open_ -= {cell.law for cell in cells if cell.status != SKIP}
        yield cells


def _still(laws: Sequence[Law], open_: Container[str]) -> list[Law]:
    return [law for law in laws if not law.once or law.name in open_]


def row_cells(engine: Engine, row: ModelRow, laws: Sequence[Law]) -> Iterator[LawCell]:
    """Yield the cells of one model, in this process."""
    if not laws:
        return
    subject = EngineUnderTest(engine, row.build, row.clean, row.corrupted, undefined=row.undefined)
    answering = _cells(subject, row, LAWS[FIRST])
    status = answering[0].status
    tidy = _cells(subject, row, LAWS[AFTER]) if status == PASS else []
    for law in laws:
        if any(cell.status == FAIL for cell in tidy):
            # What one answer leaves behind must not reach the next law.
            subject.discard()
        if law.name == FIRST:
            yield from answering
        elif status != PASS:
            yield LawCell(row.id, law.name, SKIP, answering[0].text if status == SKIP else "it does not answer here")
        elif row.undefined and law.name not in _ON_UNDEFINED:
            yield LawCell(row.id, law.name, SKIP, "the logits are not finite on purpose")
        else:
            yield from tidy if law.name == AFTER else _cells(subject, row, law)


_ON_UNDEFINED = ("undefined", "lengths", "names", "after", "after-error", "after-ctrl-c")


def _cells(subject: EngineUnderTest, row: ModelRow, law: Law) -> list[LawCell]:
    try:
        broken = breaches(law.of_engine(subject))
    except (DoesNotApply, EngineUnavailable, ModelUnavailable) as error:
        return [LawCell(row.id, law.name, SKIP, str(error), coverage=_coverage(subject, law))]
    except HarnessError as error:
        broken = breaches(str(error))
    coverage = _coverage(subject, law)
    if not broken:
        return [LawCell(row.id, law.name, PASS, coverage=coverage)]
    if reason := row.reason(law.name):
        return [LawCell(row.id, law.name, SKIP, reason)]
    found = zip(broken, smallest(subject, law, broken), strict=True)
    return [
        LawCell(
            row.id, law.name, _status(breach.code or law.code), breach.text, small, breach.kind,
            breach.code or law.code, coverage,
        )
        for breach, small in found
    ]  # fmt: skip


def _status(code: str) -> str:
    return FAIL if FINDINGS[code].severity is Severity.ERROR else WARN


def _coverage(subject: EngineUnderTest, law: Law) -> Coverage | None:
    """Return what a law that chooses its forms asked of the declaration; None of the harness's own engine."""
    return coverage_of(subject) if law.of_forms and not subject.engine.is_native else None


def in_processes(
    engine: str, allow_code: bool, rows: Sequence[ModelRow], laws: Sequence[Law], workers: int = 2
) -> Iterator[list[LawCell]]:
    """Yield the cells of each model in order, each from a process of its own, because some models end theirs.

    The first of them go one by one, until the laws about the engine are answered.
    """
    ask = partial(_in_a_process, engine, allow_code)
    open_, waiting = {law.name for law in laws if law.once}, list(rows)
    while open_ and waiting:
        (cells,) = asked_of([waiting.pop(0)], _still(laws, open_), ask)
        open_ -= {cell.law for cell in cells if cell.status != SKIP}
        yield cells
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda row: ask(row, _still(laws, ())), waiting)


def _in_a_process(engine: str, allow_code: bool, row: ModelRow, laws: Sequence[Law]) -> list[LawCell]:
    names = [law.name for law in laws]
    if not names:
        return []
    command = python("-m", "harness.laws.conformance", engine, row.id, ",".join(names))
    try:
        done = subprocess.run(
            [*command, *(["--allow-code"] if allow_code else [])], capture_output=True, text=True, timeout=TIMEOUT_S
        )
        return [load_cell(cell) for cell in json.loads(done.stdout.splitlines()[-1])]
    except subprocess.TimeoutExpired:
        seen = f"no answer in {TIMEOUT_S} s"
    except (IndexError, json.JSONDecodeError):
        seen = f"the process ended with {done.returncode}: {done.stderr.strip()[-200:]}"
    if reason := row.reason("answers"):
        return [LawCell(row.id, name, SKIP, reason) for name in names]
    return [
        LawCell(row.id, FIRST, FAIL, seen, code=LAWS[FIRST].code),
        *(LawCell(row.id, n, SKIP, seen) for n in names if n != FIRST),
    ]


def dump_cell(cell: LawCell) -> dict[str, object]:
    """Return a cell as plain JSON types."""
    return asdict(cell)


def load_cell(plain: dict[str, object]) -> LawCell:
    """The inverse of `dump_cell`."""
    small, asked = plain.pop("smallest", None), plain.pop("coverage", None)
    return LawCell(
        **plain,  # type: ignore[arg-type]
        smallest=Smallest.of(small) if isinstance(small, dict) else None,
        coverage=Coverage.of(asked) if isinstance(asked, dict) else None,
    )
