"""The matrix: every check on every architecture. A cell is a pass, or the known reason for what is seen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from harness.laws.architectures.checks import CHECKS, build
from harness.laws.architectures.kind import FAIL, Cells, GridKind
from harness.laws.grid.table import GridCell, GridTable
from harness.models.sources.miniatures import reasons
from harness.vocabulary.errors import described

PASS = "pass"
NOT_BUILT = "not built"
COLUMNS: Mapping[str, str] = {
    "builds": "the small configuration builds and runs on the CPU, and no logit is NaN or inf",
    "traced": "recording changes no bit of the logits",
    "self-patch": "a run that gets its own activations back keeps every bit",
    "residual": "the whole residual stream after any one layer carries the other run's logits with it",
    "parts": "what the hook points record adds up to the residual stream, within 1e-5",
    "stepwise": "every component can be patched and changes something, positions mean what they say, and the model is "
    "left as it was",
    "one-pass": "the one-pass sweep gives the logits of the stepwise one, at all positions, at the last, and at each, "
    "within 1e-5",
}


def row_of(architecture: str) -> dict[str, str]:
    """Return column -> `pass`, a reason, or `FAIL: ` and what was seen."""
    model: list[Any] = []
    cells = {"builds": cell(architecture, "builds", lambda: model.append(build(architecture)))}
    for column, check in CHECKS.items():
        cells[column] = cell(architecture, column, partial(check, model[0])) if model else NOT_BUILT
    return cells


def cell(architecture: str, column: str, check: Callable[[], Any]) -> str:
    """Return what a check comes to: a pass, the reason that is known for it, or a fault."""
    known = reasons.REASONS.get(architecture, {}).get(column)
    try:
        check()
    except Exception as error:  # noqa: BLE001  whatever a foreign forward pass raises belongs into its cell
        seen = " ".join(described(error).split())
        return known.text if known and re.search(known.seen, seen) else FAIL + seen
    return f"{FAIL}passes, and is listed with a reason: {known.text}" if known else PASS


def _shown(column: str, text: str) -> GridCell:
    marks = {PASS: GridCell("✓", holds=True), NOT_BUILT: GridCell("-")}
    return marks.get(text) or GridCell(reason=text)


def _tables(cells: Cells, numbers: Mapping[str, int]) -> list[GridTable]:
    return [GridTable(cells, dict(zip(COLUMNS, COLUMNS, strict=True)), numbers, of=len(cells))]


def _head(made_with: str) -> Iterator[str]:
    yield from ("# Architectures", "")
    yield "Every architecture of mlx-lm in a small configuration with seeded weights, float32, on the CPU."
    yield f"Made with {made_with} by `harness models architectures --write docs/architectures.md`."
    yield ""
    yield from (f"- **{column}**: {about}" for column, about in COLUMNS.items())
    yield ""
    yield "✓: the check ran and held. -: the model could not be built. A number: the check ran and did not hold, for"
    yield "the reason under that number."


MATRIX = GridKind(row_of, lambda: tuple(COLUMNS), _shown, _tables, _head)
