"""One cell for each law and model."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from harness.engines import Engine, engine_named
from harness.intercept import forward
from harness.intercept.constancy import Constancy
from harness.laws import AFTER, FIRST, LAWS, Law
from harness.laws.breach import LawBreach, breaches
from harness.laws.conformance.coverage import Coverage, coverage_of
from harness.laws.conformance.rows import ModelRow, rows_named
from harness.laws.conformance.smallest import Smallest, smallest
from harness.laws.grid import processes
from harness.laws.subject import EngineUnderTest, Shared
from harness.metrics.tolerances import AGAIN
from harness.support.progress import say
from harness.vocabulary.errors import (
    DoesNotApply,
    EngineUnavailable,
    HarnessError,
    ModelUnavailable,
    device_failure,
)
from harness.vocabulary.findings import FINDINGS, Severity

PASS, FAIL, WARN, SKIP, KNOWN = "pass", "fail", "warned", "skipped", "known"
BROKEN = (FAIL, WARN)
NO_ANSWER = "it does not answer here"
PROCESS = "the process ended"
"""The kind of a failure that no file of known failures explains: nothing is known of what it would have said."""


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
    """The code of the finding, of a law that is broken."""
    traceback: str = ""
    """The whole of what the engine raised."""
    known: str = ""
    """The reason of the entry of `--known` that a failure is explained by."""
    coverage: Coverage | None = None
    fallbacks: tuple[str, ...] = ()
    """How and why our own patching did not go one-pass on this model, said with the first law that saw it."""


Asked = Callable[[ModelRow, Sequence[Law]], list[LawCell]]


def asked_of(rows: Sequence[ModelRow], laws: Sequence[Law], ask: Asked) -> Iterator[list[LawCell]]:
    """Yield the cells of each model in order; a law about the engine is asked until a model has it answered."""
    open_ = {law.name for law in laws if law.once}
    for row in rows:
        cells = ask(row, _still(laws, open_))
        open_ -= _answered(cells)
        yield cells


def _answered(cells: Sequence[LawCell]) -> set[str]:
    return {cell.law for cell in cells if cell.status != SKIP}


def _still(laws: Sequence[Law], open_: Container[str]) -> list[Law]:
    return [law for law in laws if not law.once or law.name in open_]


def row_cells(engine: Engine, row: ModelRow, laws: Sequence[Law], shrink: bool = True) -> Iterator[LawCell]:
    """Yield the cells of one model, in this process; breaches with the smallest question that shows each, if asked."""
    if not laws:
        return
    subject = EngineUnderTest(engine, row.build, row.clean, row.corrupted, row.layers, undefined=row.undefined)
    answering = _cells(subject, row, LAWS[FIRST])
    status = answering[0].status
    tidy = _cells(subject, row, LAWS[AFTER]) if status == PASS else []
    told: set[str] = set()
    for law in laws:
        if any(cell.status == FAIL for cell in tidy):
            # What one answer leaves behind must not reach the next law.
            subject.discard()
        if law.name == FIRST:
            found = answering
        elif status != PASS:
            found = [LawCell(row.id, law.name, SKIP, answering[0].text if status == SKIP else NO_ANSWER)]
        elif law.exact and engine.is_estimate:
            found = [LawCell(row.id, law.name, SKIP, "an estimate is not exact")]
        elif row.undefined and law.name not in _ON_UNDEFINED:
            found = [LawCell(row.id, law.name, SKIP, "the logits are not finite on purpose")]
        else:
            found = tidy if law.name == AFTER else _cells(subject, row, law)
        found = _smallest(subject, row, law, found) if shrink else found
        if new := tuple(said for said in subject.shared.fallbacks if said not in told):
            told.update(new)
            found = [replace(found[0], fallbacks=new), *found[1:]]
        yield from found


_ON_UNDEFINED = ("undefined", "lengths", "names", "after", "after-error", "after-ctrl-c")


def _cells(subject: EngineUnderTest, row: ModelRow, law: Law) -> list[LawCell]:
    say(law.name)
    try:
        broken = breaches(law.of_engine(subject))
    except Exception as error:
        if said := device_failure(error):
            return [LawCell(row.id, law.name, FAIL, said, code="ENG003")]
        if isinstance(error, DoesNotApply | EngineUnavailable | ModelUnavailable):
            return [LawCell(row.id, law.name, SKIP, str(error), coverage=_coverage(subject, law))]
        if not isinstance(error, HarnessError):
            raise
        broken = breaches(str(error))
    coverage = _coverage(subject, law)
    if not broken:
        return [LawCell(row.id, law.name, PASS, coverage=coverage)]
    if reason := row.reason(law.name) or _of_the_machine(subject, law, broken[0]):
        return [LawCell(row.id, law.name, SKIP, reason)]
    return [
        LawCell(
            row.id, law.name, _status(breach.code or law.code), breach.text, None, breach.kind,
            breach.code or law.code, _trace(subject, breach.text), coverage=coverage,
        )
        for breach in broken
    ]  # fmt: skip


def _of_the_machine(subject: EngineUnderTest, law: Law, breach: LawBreach) -> str | None:
    """Return what is said of a law that was broken once and holds when it is asked again, on a model that is new.

    Our own engine draws nothing and keeps nothing, so the machine did not compute alike twice. Somebody else's is
    excused only where bare runs of the model, which nobody patches, differ by rounding.
    """
    model = subject.build()
    constancy = Constancy(model)
    first, ids = forward(model, subject.corrupted), (subject.corrupted, subject.clean)
    seen = constancy.judged(first, *ids, thoroughly=True)
    if not subject.engine.is_native and (seen is None or seen.is_the_models):
        return None
    if _stands(subject, law, breach):
        return None
    said = "" if seen is None else f" ({seen.message})"
    return f"broken once, and not when asked again: {UNSTEADY}{said}; it was: {breach.text}"


def _stands(subject: EngineUnderTest, law: Law, breach: LawBreach) -> bool:
    """Return whether a law is broken in the same words when it is asked again, or in others every time."""
    for _ in range(AGAIN):
        try:
            again = breaches(law.of_engine(replace(subject, form=None, shared=Shared())))
        except HarnessError:
            return True
        if not again:
            return False
        if breach.text in [each.text for each in again]:
            return True
    return True


UNSTEADY = "this machine is not deterministic, see `harness diagnose --repeat 32`"


def _status(code: str) -> str:
    return FAIL if FINDINGS[code].severity is Severity.ERROR else WARN


def _coverage(subject: EngineUnderTest, law: Law) -> Coverage | None:
    """Return what a law that chooses its forms asked of the declaration; None of the harness's own engine."""
    return coverage_of(subject) if law.of_forms and not subject.engine.is_native else None


def _trace(subject: EngineUnderTest, text: str) -> str:
    return next((trace for said, trace in subject.shared.traces.items() if said in text), "")


def _smallest(subject: EngineUnderTest, row: ModelRow, law: Law, cells: list[LawCell]) -> list[LawCell]:
    """Return the cells with the smallest question that shows each breach."""
    kinds = {cell.kind for cell in cells if cell.status in BROKEN}
    if not kinds:
        return cells

    def shown(smaller: ModelRow) -> dict[str, str]:
        seen = row_cells(subject.engine, smaller, [law], shrink=False)
        return {cell.kind: cell.text for cell in reversed(list(seen)) if cell.status in BROKEN}

    found = smallest(row, subject.model.card.layers, kinds, shown)
    return [replace(cell, smallest=found.get(cell.kind)) if cell.status in BROKEN else cell for cell in cells]


def in_processes(
    engine: str, allow_code: bool, rows: Sequence[ModelRow], laws: Sequence[Law]
) -> Iterator[list[LawCell]]:
    """Yield the cells of each model in order, each from a process of its own, because some models end theirs.

    The first of them go one by one, until the laws about the engine are answered.
    """
    open_, waiting = {law.name for law in laws if law.once}, list(rows)
    while open_ and waiting:
        (cells,) = _apart(engine, allow_code, [waiting.pop(0)], _still(laws, open_))
        open_ -= _answered(cells)
        yield cells
    yield from _apart(engine, allow_code, waiting, _still(laws, ()))


def _apart(engine: str, allow_code: bool, rows: Sequence[ModelRow], laws: Sequence[Law]) -> Iterator[list[LawCell]]:
    names = [law.name for law in laws]
    if not names:
        yield from ([] for _ in rows)
        return
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
    others = (LawCell(row.id, name, SKIP, seen) for name in names if name != FIRST)
    return [LawCell(row.id, FIRST, FAIL, seen, None, PROCESS, LAWS[FIRST].code), *others]


def dump_cell(cell: LawCell) -> dict[str, object]:
    """Return a cell as plain JSON types."""
    return asdict(cell)


def load_cell(plain: dict[str, object]) -> LawCell:
    """The inverse of `dump_cell`."""
    small, asked, went = (plain.pop(name, None) for name in ("smallest", "coverage", "fallbacks"))
    return LawCell(
        **plain,  # type: ignore[arg-type]
        smallest=Smallest.of(small) if isinstance(small, dict) else None,
        coverage=Coverage.of(asked) if isinstance(asked, dict) else None,
        fallbacks=tuple(went) if isinstance(went, list | tuple) else (),
    )
