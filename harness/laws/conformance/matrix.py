"""One cell for each law and model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from harness.engines import Engine
from harness.laws import AFTER, FIRST, LAWS, Law
from harness.laws.breach import breaches
from harness.laws.conformance.rows import ModelRow
from harness.laws.conformance.smallest import Smallest, smallest
from harness.laws.subject import EngineUnderTest
from harness.support.interpreter import started
from harness.vocabulary.errors import DoesNotApply, EngineUnavailable, HarnessError, ModelUnavailable

PASS, FAIL, SKIP, KNOWN = "pass", "fail", "skipped", "known"
NO_ANSWER = "it does not answer here"
PROCESS = "the process ended"
"""The kind of a failure that no file of known failures explains: nothing is known of what it would have said."""
TIMEOUT_S = 600
"""A row of a process of its own: eighteen laws on the slowest small model take a tenth of this."""


@dataclass(frozen=True)
class LawCell:
    """A law on a model: passed, failed with what was seen, or skipped with the reason.

    A law that is broken by several kinds of mistake has a cell for each.
    """

    row: str
    law: str
    status: str
    text: str = ""
    smallest: Smallest | None = None
    kind: str = ""
    traceback: str = ""
    """The whole of what the engine raised."""
    known: str = ""
    """The reason of the entry of `--known` that a failure is explained by."""


Noted = Callable[[LawCell], None]


def row_cells(engine: Engine, row: ModelRow, laws: Sequence[Law], shrink: bool = True) -> Iterator[LawCell]:
    """Yield the cells of one model, in this process; breaches with the smallest question that shows each, if asked."""
    subject = EngineUnderTest(engine, row.build, row.clean, row.corrupted, row.layers, undefined=row.undefined)

    def cells_of(law: Law) -> list[LawCell]:
        found = _cells(subject, row, law)
        return _smallest(subject, row, law, found) if shrink else found

    (answering, *_) = _cells(subject, row, LAWS[FIRST])
    untidy = answering.status == PASS and _cells(subject, row, LAWS[AFTER])[0].status == FAIL
    for law in laws:
        if untidy:
            # What one answer leaves behind must not reach the next law.
            subject.discard()
        if law.name == FIRST:
            yield from _smallest(subject, row, law, [answering]) if shrink else [answering]
        elif answering.status != PASS:
            yield LawCell(row.id, law.name, SKIP, answering.text if answering.status == SKIP else NO_ANSWER)
        elif row.undefined and law.name not in _ON_UNDEFINED:
            yield LawCell(row.id, law.name, SKIP, "the logits are not finite on purpose")
        else:
            yield from cells_of(law)


_ON_UNDEFINED = ("undefined", "lengths", "names", "after", "after-error", "after-ctrl-c")


def _cells(subject: EngineUnderTest, row: ModelRow, law: Law) -> list[LawCell]:
    try:
        broken = breaches(law.of_engine(subject))
    except (DoesNotApply, EngineUnavailable, ModelUnavailable) as error:
        return [LawCell(row.id, law.name, SKIP, str(error))]
    except HarnessError as error:
        broken = breaches(str(error))
    if not broken:
        return [LawCell(row.id, law.name, PASS)]
    if reason := row.reason(law.name):
        return [LawCell(row.id, law.name, SKIP, reason)]
    return [
        LawCell(row.id, law.name, FAIL, breach.text, None, breach.kind, traceback=_trace(subject, breach.text))
        for breach in broken
    ]


def _trace(subject: EngineUnderTest, text: str) -> str:
    return next((trace for said, trace in subject.traces.items() if said in text), "")


def _smallest(subject: EngineUnderTest, row: ModelRow, law: Law, cells: list[LawCell]) -> list[LawCell]:
    """Return the cells with the smallest question that shows each breach."""
    kinds = {cell.kind for cell in cells if cell.status == FAIL}
    if not kinds:
        return cells

    def shown(smaller: ModelRow) -> dict[str, str]:
        seen = row_cells(subject.engine, smaller, [law], shrink=False)
        return {cell.kind: cell.text for cell in reversed(list(seen)) if cell.status == FAIL}

    found = smallest(row, subject.model.card.layers, kinds, shown)
    return [replace(cell, smallest=found.get(cell.kind)) if cell.status == FAIL else cell for cell in cells]


def in_processes(
    engine: str, allow_code: bool, rows: Sequence[ModelRow], laws: Sequence[Law], workers: int = 2
) -> Iterator[list[LawCell]]:
    """Yield the cells of each model in order, each from a process of its own, because some models end theirs."""

    running: set[subprocess.Popen[str]] = set()

    def one(row: ModelRow) -> list[LawCell]:
        return _in_a_process(engine, allow_code, row, laws, running)

    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(one, rows)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in tuple(running):
                process.kill()
            raise


def _in_a_process(
    engine: str, allow_code: bool, row: ModelRow, laws: Sequence[Law], running: set[subprocess.Popen[str]]
) -> list[LawCell]:
    names = [law.name for law in laws]
    options = ["--allow-code"] if allow_code else []
    with started("-m", "harness.laws.conformance", engine, row.id, ",".join(names), *options) as process:
        running.add(process)
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
            return [load_cell(cell) for cell in json.loads(out.splitlines()[-1])]
        except subprocess.TimeoutExpired:
            process.kill()
            seen = f"no answer in {TIMEOUT_S} s"
        except (IndexError, json.JSONDecodeError):
            seen = f"the process ended with {process.returncode}: {err.strip()[-200:]}"
        finally:
            running.discard(process)
    if reason := row.reason("answers"):
        return [LawCell(row.id, name, SKIP, reason) for name in names]
    others = (LawCell(row.id, name, SKIP, seen) for name in names if name != FIRST)
    return [LawCell(row.id, FIRST, FAIL, seen, kind=PROCESS), *others]


def dump_cell(cell: LawCell) -> dict[str, object]:
    """Return a cell as plain JSON types."""
    return asdict(cell)


def load_cell(plain: dict[str, object]) -> LawCell:
    """The inverse of `dump_cell`."""
    small = plain.pop("smallest", None)
    return LawCell(**plain, smallest=Smallest.of(small) if isinstance(small, dict) else None)  # type: ignore[arg-type]
