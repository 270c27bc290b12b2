"""The table as people read it: a tick, or the number of a reason that stands once below."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib.metadata import version

from harness.laws.architectures.rows import COLUMNS, NOT_BUILT, PASS, ArchitectureRow


def counts(table: Sequence[ArchitectureRow]) -> dict[str, int]:
    """Return how many architectures pass in each column."""
    return {column: sum(row.cells[column] == PASS for row in table) for column in COLUMNS}


def numbered(table: Iterable[ArchitectureRow]) -> dict[str, int]:
    """Return reason -> number, in the order in which the table shows them."""
    texts = dict.fromkeys(cell for row in table for cell in row.cells.values() if cell not in (PASS, NOT_BUILT))
    return {text: number for number, text in enumerate(texts, 1)}


def mark(cell: str, reasons: Mapping[str, int]) -> str:
    """Return a cell as the table shows it."""
    return {PASS: "✓", NOT_BUILT: "-"}.get(cell) or f"[{reasons[cell]}]"


def versions() -> str:
    """Return what the numbers depend on, and the day."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("mlx", "mlx-lm"))
    return f"{packages} on {platform.system()} {platform.machine()}, {date.today().isoformat()}"


def markdown(table: Sequence[ArchitectureRow], made_with: str) -> str:
    """Return the table as a page, each reason once below it."""
    reasons = numbered(table)
    lines = (" | ".join((row.architecture, *(mark(row.cells[c], reasons) for c in COLUMNS))) for row in table)
    passed = " | ".join(f"**{count}**" for count in counts(table).values())
    return "\n".join(
        [
            "# Architectures",
            "",
            "Every architecture of mlx-lm in a small configuration with seeded weights, float32, on the CPU.",
            f"Made with {made_with} by `harness models architectures --write docs/architectures.md`.",
            "",
            *(f"- **{column}**: {about}" for column, about in COLUMNS.items()),
            "",
            "✓: the check ran and held. -: the model could not be built. A number: the check ran and did not hold, for",
            "the reason under that number.",
            "",
            "| architecture | " + " | ".join(COLUMNS) + " |",
            "|---" * (len(COLUMNS) + 1) + "|",
            *(f"| {line} |" for line in lines),
            f"| **of {len(table)}** | {passed} |",
            "",
            *(f"{number}. {text}" for text, number in reasons.items()),
            "",
        ]
    )
