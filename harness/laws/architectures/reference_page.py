"""The reference table as people read it: a figure, or the number of a reason that stands once below."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from harness.laws.architectures.page import versions
from harness.laws.architectures.reference import COLUMNS, KNOWN, LOGITS, NOT_RUN, SAME, is_figure, within
from harness.metrics.tolerances import Work, recovery_tolerance, row_tolerance

Table = Mapping[str, Mapping[str, str]]
"""Architecture -> column -> the cell's text."""

_ABOUT = (
    "A small model of every architecture that mlx-lm and transformers both have, built and saved by transformers from "
    "seeded weights and loaded by mlx-lm, as every published folder is. MLX in float32 against transformers in "
    "float64. Figures up to {rows:.0e} of the largest logit and {points:g} points are rounding; a larger one is bold, "
    "and is what mlx-lm computes otherwise. A number in brackets is the reason for which there is no figure."
)


def faults(table: Table) -> list[str]:
    """Return what is more than rounding and not known, and what is known and was not seen."""
    found = []
    for architecture, cells in table.items():
        cell = cells[LOGITS]
        wrong = is_figure(cell) and not within(LOGITS, cell)
        if wrong and architecture not in KNOWN:
            found.append(f"{architecture}: logits are off by {cell} of the largest")
        if architecture in KNOWN and is_figure(cell) and not wrong:
            found.append(f"{architecture}: agrees, and is listed: {KNOWN[architecture]}")
    return found


def counts(table: Table) -> dict[str, int]:
    """Return how many architectures agree up to rounding in each column."""
    return {
        column: sum(is_figure(cells[column]) and within(column, cells[column]) for cells in table.values())
        for column in COLUMNS
    }


def numbered(table: Table) -> dict[str, int]:
    """Return reason -> number, in the order in which the table shows them."""
    texts = (cell for cells in table.values() for cell in cells.values())
    reasons = dict.fromkeys(text for text in texts if not is_figure(text) and text not in (NOT_RUN, SAME))
    return {text: number for number, text in enumerate(reasons, 1)}


def mark(column: str, cell: str, reasons: Mapping[str, int]) -> str:
    """Return a cell as the table shows it."""
    if cell in reasons:
        return f"[{reasons[cell]}]"
    return f"**{cell}**" if is_figure(cell) and not within(column, cell) else cell


def made_with() -> str:
    """Return what the numbers depend on, and the day."""
    return f"transformers {version('transformers')}, torch {version('torch')}, {versions()}"


def markdown(table: Table, made: str, alone: Sequence[str] = ()) -> str:
    """Return the page; `alone` are the architectures that only mlx-lm has."""
    reasons = numbered(table)
    rows, points = row_tolerance(Work.OTHER_CODE, "float32"), recovery_tolerance(Work.OTHER_CODE, "float32")
    run = {name: cells for name, cells in table.items() if is_figure(cells[LOGITS])}
    total = " | ".join(f"**{count}**" for count in counts(table).values())
    return "\n".join(
        [
            "# Against another implementation",
            "",
            *textwrap.wrap(_ABOUT.format(rows=rows, points=points), 118),
            "",
            *textwrap.wrap(f"Made with {made} by `harness models reference --write docs/reference-table.md`.", 118),
            "",
            *(line for name, about in COLUMNS.items() for line in _item(f"- **{name}**: {about}")),
            "",
            f"| architecture | {' | '.join(COLUMNS)} |",
            "|---" * (len(COLUMNS) + 1) + "|",
            *(
                f"| {name} | " + " | ".join(mark(column, cells[column], reasons) for column in COLUMNS) + " |"
                for name, cells in table.items()
            ),
            f"| **of {len(run)}** | {total} |",
            "",
            *(line for name, about in KNOWN.items() if name in table for line in _item(f"- **{name}**: {about}")),
            "",
            *(f"{number}. {text}" for text, number in reasons.items()),
            "",
            *textwrap.wrap(f"Not in transformers: {', '.join(alone)}." if alone else "", 118),
            *([""] if alone else []),
        ]
    )


def _item(text: str) -> list[str]:
    return textwrap.wrap(text, 118, subsequent_indent="  ")
