"""A diagnosis on a screen: the paragraph to paste, the steps, and the frames around the first fault."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.diagnosis.outcome.nouns import APPEARS, Frame, PlacedFinding, StepResult, layer_of
from harness.results.reports.terminal import console

BEFORE, AFTER = 12, 4
"""Frames of the trail that are shown before and from the first fault; the JSON has all."""
WIDTH, WIDE = 80, 100
WHOLE = 32
"""Characters up to which the name of a module stays on one line; with what it lies between it is longer."""


def text_of(show: Callable[[Console], None]) -> str:
    """Return what a terminal of 80 columns shows."""
    file = io.StringIO()
    show(console(file, WIDTH))
    return file.getvalue().rstrip("\n")


def show(
    paragraph: str,
    steps: Sequence[StepResult],
    untold: Iterable[PlacedFinding],
    trail: Sequence[Frame],
    screen: Console,
    whole: bool = False,
) -> None:
    """Print the paragraph, the steps, the findings that the paragraph does not tell, and the trail around the fault.

    `whole` shows every frame of the trail. The paragraph is one line, which no terminal breaks when it is copied.
    """
    screen.print(Text(paragraph), soft_wrap=True)
    screen.print(_steps([step for step in steps if step.state in _TAKEN]))
    for line in _left_out(steps):
        screen.print(Text(line))
    for each in untold:
        screen.print(Text(_line(each)), soft_wrap=True)
    if frames := _around(trail, whole):
        screen.print(_trail(frames, _NARROW if screen.width < WIDE else ()))


_TAKEN = ("ok", "warning", "fault")


def _left_out(steps: Sequence[StepResult]) -> Iterator[str]:
    """Yield a line for the steps that were not taken for one reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for step in steps:
        if step.state not in _TAKEN:
            found.setdefault((step.state, step.summary), []).append(step.name)
    for (state, why), names in found.items():
        yield f"{state}: {', '.join(names)} ({why})"


def _steps(steps: Sequence[StepResult]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("step", "state", "what was seen"):
        table.add_column(name, overflow="fold")
    for step in steps:
        table.add_row(step.name, step.state, Text(step.summary))
    return table


def _line(found: PlacedFinding) -> str:
    fault = f" {found.fault}" if found.fault else ""
    return f"{found.code}{fault} {found.severity.value}, {found.confidence}: {found.message}"


def _around(trail: Sequence[Frame], whole: bool) -> Sequence[Frame]:
    if whole:
        return trail
    first = next((i for i, frame in enumerate(trail) if frame.flow == APPEARS), None)
    return () if first is None else trail[max(0, first - BEFORE) : first + AFTER]


Shown = Callable[[Frame], str]
_COLUMNS: dict[str, Shown] = {
    "run": lambda frame: frame.run,
    "module": lambda frame: short_name(frame.module) + (f" ({_between(frame.between)})" if frame.between else ""),
    "dtype": lambda frame: frame.dtype,
    "shape": lambda frame: "x".join(map(str, frame.shape)),
    "largest": lambda frame: "" if frame.absmax is None else f"{frame.absmax:.4g}",
    "headroom": lambda frame: "" if frame.headroom is None else f"{frame.headroom:.3g}",
    "not finite": lambda frame: ", ".join(_counts(frame)),
    "first": lambda frame: "" if frame.first is None else ",".join("" if n is None else str(n) for n in frame.first),
    "flow": lambda frame: frame.flow.lower(),
}
_SAID_ONCE = ("run", "dtype")
"""Columns that go into the title where all frames agree."""
_NARROW = ("shape", "first")
"""Columns that a screen of less than `WIDE` columns has no room for."""
_RIGHT = ("largest", "headroom")


def _trail(frames: Sequence[Frame], without: Sequence[str]) -> Table:
    """Return the frames as a table: what all share stands in its title, and a column that is empty is left out."""
    columns: dict[str, Sequence[Any]] = {name: [shown(frame) for frame in frames] for name, shown in _COLUMNS.items()}
    shared = [name for name in _SAID_ONCE if len({*columns[name]}) == 1]
    title = ", ".join(["trail in the order of execution", *(f"{name} {columns[name][0]}" for name in shared)])
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0 if without else 1, 0, 0),
        title=Text(title),
        title_justify="left",
    )
    kept = {name: cells for name, cells in columns.items() if name not in (*shared, *without) and any(cells)}
    for name in kept:
        whole = name in _RIGHT or (name == "module" and max(map(len, kept[name])) <= WHOLE)
        table.add_column(
            name, overflow="fold", justify="right" if name in _RIGHT else "left", no_wrap=whole,
            max_width=WHOLE if name == "module" and without and not whole else None,
        )  # fmt: skip
    for row in zip(*kept.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _counts(frame: Frame) -> Iterator[str]:
    for count, name in ((frame.nan, "nan"), (frame.pos_inf, "inf"), (frame.neg_inf, "-inf")):
        if count:
            yield f"{count:,} {name}"


def _between(names: str) -> str:
    return " and ".join(map(short_name, names.split(" and ")))


def short_name(module: str) -> str:
    """Return a module's name from its layer on: `12.self_attn.q_proj`; one outside of the layers without `model.`."""
    if layer_of(module) is None:
        return module.removeprefix("model.") or "the model"
    parts = module.split(".")
    return ".".join(parts[next(i for i, part in enumerate(parts) if part.isdigit()) :])
