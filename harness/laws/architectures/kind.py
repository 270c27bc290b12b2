"""What a grid over architectures is: how a row is computed, what the text of a cell means, and its page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from harness.environment.facts import VARIABLE, use_device
from harness.laws.grid.processes import in_processes
from harness.laws.grid.table import GridCell, GridTable, Texts, numbered, reasons_below

FAIL = "FAIL: "
SECONDS = 300


def faults_of(texts: Texts) -> list[str]:
    """Return the cells that are a fault, with what was seen."""
    return [
        f"{name} {column}: {seen}"
        for name, cells in texts.items()
        for column, seen in cells.items()
        if seen.startswith(FAIL)
    ]


def on_cpu(module: str, function: str, *arguments: str) -> Any:
    """Call a function of a module with MLX on the CPU unless another device is asked for, in a process of its own."""
    use_device(os.environ.get(VARIABLE) or "cpu")
    return getattr(import_module(module), function)(*arguments)


Cells = Mapping[str, Mapping[str, GridCell]]


@dataclass(frozen=True)
class GridKind:
    """One grid.

    `row` computes an architecture's cells, and is called in a process of its own with the architecture and the options;
    `columns` are those that it answers with these options. `head` gives the lines above the tables from the versions
    they were made with, `notes` those between tables and reasons. `packages` are named with their versions.
    """

    row: Callable[..., Mapping[str, str]]
    columns: Callable[..., Sequence[str]]
    cell: Callable[[str, str], GridCell]
    tables: Callable[[Cells, Mapping[str, int]], Sequence[GridTable]]
    head: Callable[[str], Iterable[str]]
    notes: Callable[[Texts], Iterable[str]] = lambda texts: ()
    faults: Callable[[Texts], list[str]] = faults_of
    packages: tuple[str, ...] = ()

    def rows(self, names: Sequence[str], *options: str) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Yield each architecture and its column -> text, in order, each from a process of its own."""
        function = (self.row.__module__, self.row.__name__)
        answers = in_processes(on_cpu, [(*function, name, *options) for name in names], seconds=SECONDS)
        for name, (cells, seen) in zip(names, answers, strict=True):
            yield name, cells or dict.fromkeys(self.columns(*options), FAIL + seen)

    def shown(self, texts: Texts) -> tuple[Sequence[GridTable], Mapping[str, int]]:
        """Return the tables and the reasons below them, each with its number."""
        cells = {name: {column: self.cell(column, seen) for column, seen in row.items()} for name, row in texts.items()}
        numbers = numbered(cells.values())
        return self.tables(cells, numbers), numbers

    def page(self, texts: Texts, made_with: str, *last: str) -> str:
        """Return the page; `last` are lines below the reasons."""
        tables, numbers = self.shown(texts)
        lines = [*self.head(made_with)]
        for table in tables:
            lines += ["", f"## {table.title}"] if table.title else []
            lines += ["", *table.markdown()]
        lines += ["", *self.notes(texts), *reasons_below(numbers), ""]
        return "\n".join([*lines, *last])
