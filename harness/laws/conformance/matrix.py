"""One cell for each law and model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from harness.engines import Engine, engine_named
from harness.laws import AFTER, FIRST, LAWS, Law
from harness.laws.breach import breaches
from harness.laws.conformance.rows import ModelRow, rows_named
from harness.laws.conformance.smallest import Smallest, smallest
from harness.laws.grid import processes
from harness.laws.subject import EngineUnderTest
from harness.vocabulary.errors import DoesNotApply, EngineUnavailable, HarnessError, ModelUnavailable

PASS, FAIL, SKIP = "pass", "fail", "skipped"


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


Noted = Callable[[LawCell], None]


def row_cells(engine: Engine, row: ModelRow, laws: Sequence[Law]) -> Iterator[LawCell]:
    """Yield the cells of one model, in this process."""
    subject = EngineUnderTest(engine, row.build, row.clean, row.corrupted, undefined=row.undefined)
    (answering, *_) = _cells(subject, row, LAWS[FIRST])
    untidy = answering.status == PASS and _cells(subject, row, LAWS[AFTER])[0].status == FAIL
    for law in laws:
        if untidy:
            # What one answer leaves behind must not reach the next law.
            subject.discard()
        if law.name == FIRST:
            yield answering
        elif answering.status != PASS:
            yield LawCell(
                row.id, law.name, SKIP, answering.text if answering.status == SKIP else "it does not answer here"
            )
        elif row.undefined and law.name not in _ON_UNDEFINED:
            yield LawCell(row.id, law.name, SKIP, "the logits are not finite on purpose")
        else:
            yield from _cells(subject, row, law)


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
    found = smallest(subject, law, broken)
    return [
        LawCell(row.id, law.name, FAIL, breach.text, small, breach.kind)
        for breach, small in zip(broken, found, strict=True)
    ]


def in_processes(
    engine: str, allow_code: bool, rows: Sequence[ModelRow], laws: Sequence[Law]
) -> Iterator[list[LawCell]]:
    """Yield the cells of each model in order, each from a process of its own, because some models end theirs."""
    names = [law.name for law in laws]
    answers = processes.in_processes(row_by_name, [(engine, allow_code, row.id, names) for row in rows])
    for row, (cells, seen) in zip(rows, answers, strict=True):
        yield [load_cell(cell) for cell in cells] if cells is not None else _ended(row, names, seen)


def row_by_name(engine: str, allow_code: bool, row: str, laws: Sequence[str]) -> list[dict[str, object]]:
    """Return the cells of one model as plain JSON types."""
    found = row_cells(engine_named(engine, allow_code), rows_named([row])[0], [LAWS[law] for law in laws])
    return [dump_cell(cell) for cell in found]


def _ended(row: ModelRow, names: Sequence[str], seen: str) -> list[LawCell]:
    if reason := row.reason("answers"):
        return [LawCell(row.id, name, SKIP, reason) for name in names]
    return [LawCell(row.id, FIRST, FAIL, seen), *(LawCell(row.id, n, SKIP, seen) for n in names if n != FIRST)]


def dump_cell(cell: LawCell) -> dict[str, object]:
    """Return a cell as plain JSON types."""
    return asdict(cell)


def load_cell(plain: dict[str, object]) -> LawCell:
    """The inverse of `dump_cell`."""
    small = plain.pop("smallest", None)
    return LawCell(**plain, smallest=Smallest.of(small) if isinstance(small, dict) else None)  # type: ignore[arg-type]
