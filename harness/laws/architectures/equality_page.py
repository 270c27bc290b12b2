"""The equality matrix as people read it: a figure, or the number of a reason that stands once below."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

from harness.laws.architectures.equality import ABSENT, COMPONENTS, DTYPES, FAIL, POSITIONS
from harness.metrics.tolerances import Work, row_tolerance
from harness.vocabulary import Direction

Table = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Architecture -> dtype -> component -> the cell's text."""

_FIGURE = re.compile(r"\de[-+]\d\d")


_ABOUT = (
    "The largest difference of last-token logits between the one-pass sweep and one forward pass a cell, as a share of "
    "the largest logit, on a small model of every architecture of mlx-lm. A figure is the worst over both directions "
    "({directions}), the positions {positions}, and every layer; somewhere among them the patch changes the logits by "
    "more than 1e-3. A number in brackets is the reason for which the sweep goes stepwise, or is not run; -: the "
    "architecture has no such component, or nobody has looked how its heads lie."
)


def faults(table: Table) -> list[str]:
    """Return what is neither a figure nor a reason."""
    return [
        f"{architecture} {dtype} {component}: {text}"
        for architecture, rows in table.items()
        for dtype, cells in rows.items()
        for component, text in cells.items()
        if text.startswith(FAIL)
    ]


def counts(table: Table, dtype: str) -> dict[str, int]:
    """Return how many architectures are equal in each component."""
    return {
        component: sum(bool(_FIGURE.fullmatch(rows[dtype][component])) for rows in table.values() if dtype in rows)
        for component in COMPONENTS
    }


def markdown(table: Table, made_with: str) -> str:
    """Return the page: one table a dtype, each reason once below."""
    texts = (text for rows in table.values() for cells in rows.values() for text in cells.values())
    reasons = dict.fromkeys(text for text in texts if text != ABSENT and not _FIGURE.fullmatch(text))
    numbers = {text: number for number, text in enumerate(reasons, 1)}
    positions = ", ".join(map(str, POSITIONS))
    return "\n".join(
        [
            "# One-pass against stepwise",
            "",
            *textwrap.wrap(_ABOUT.format(directions=", ".join(Direction), positions=positions), 118),
            "",
            f"Made with {made_with} by `harness models equality --write docs/equality.md`.",
            *(line for dtype in DTYPES for line in _of_dtype(table, dtype, numbers)),
            "",
            *(f"{number}. {text}" for text, number in numbers.items()),
            "",
        ]
    )


def _of_dtype(table: Table, dtype: str, numbers: Mapping[str, int]) -> list[str]:
    rows = {architecture: rows[dtype] for architecture, rows in table.items() if dtype in rows}
    if not rows:
        return []
    total = " | ".join(f"**{count}**" for count in counts(table, dtype).values())
    return [
        "",
        f"## {dtype}, equal up to {row_tolerance(Work.OTHER_BATCH, dtype):.0e}",
        "",
        f"| architecture | {' | '.join(COMPONENTS)} |",
        "|---" * (len(COMPONENTS) + 1) + "|",
        *(
            f"| {architecture} | " + " | ".join(_mark(cells[component], numbers) for component in COMPONENTS) + " |"
            for architecture, cells in rows.items()
        ),
        f"| **of {len(rows)}** | {total} |",
    ]


def _mark(text: str, numbers: Mapping[str, int]) -> str:
    return f"[{numbers[text]}]" if text in numbers else text
