"""A table as somebody pasted it into an issue, as one that can be audited.

    Baseline l2 distance: inf        a baseline, under the metric that the line names
    Layer  0: nan% recovery          a recovery, under the metric named last
    0  17.9                          the same without words, also `0: 17.9,` out of a Python dict
    | layer | l2 | mse |             a Markdown or plain table: its head names metrics or components

A recovery is in percent; where nothing of the text says so and no number is beyond 1.5, they are taken for fractions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from harness.results.replay.numbers import Number, StatedPart, state_of
from harness.results.replay.table import Column, RecoveryTable
from harness.vocabulary import COMPONENTS, METRICS, State
from harness.vocabulary.errors import CaseFileError, Problem, UsageError

_VALUE = r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d{1,3})?|[-+]?inf(?:inity)?|nan|n/?a|none|undefined"
_CELL = re.compile(rf"({_VALUE})\s*(%?)", re.IGNORECASE)
_LAYER = re.compile(r"\b(?:layer|block)s?[ _#]*(\d+)\b[^\w+\-.%]*|^[^\w+\-.]*[lL]?(\d+)\s*[:=,;|\t ]\s*", re.IGNORECASE)
_PAIR = re.compile(rf"\b(\d+)\s*:\s*({_VALUE})\s*(%?)", re.IGNORECASE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_METRIC = re.compile(
    r"\b(?P<l2>l2|euclidean)\b|\b(?P<mse>mse)\b|\b(?P<cosine>cosine|cos)\b|\b(?P<kl_divergence>kl)(?:\b|_)"
    r"|\b(?P<logit_diff>logit[ _-]?diff(?:erence)?)\b|\b(?P<log_prob>log[ _-]?prob(?:ability)?s?)\b",
    re.IGNORECASE,
)
_LARGEST_FRACTION = Decimal("1.5")

Key = tuple[str, str]
"""A component, "" where the text names none, and a metric."""


@dataclass
class _Said:
    """The numbers of one metric and component: texts, and the line of each."""

    baseline: str = State.UNKNOWN.value
    recoveries: dict[int, str] = field(default_factory=dict)


@dataclass
class _Reading:
    """What has been read so far, and the metric and the columns that the next lines are about."""

    name: str
    metric: str
    columns: Sequence[Key | None] = ()
    said: dict[Key, _Said] = field(default_factory=dict)
    percent: bool = False
    unread: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def recovery(self, line: int, key: Key, layer: int, text: str, sign: str) -> None:
        self.percent |= bool(sign)
        known = self.said.setdefault(key, _Said()).recoveries
        if known.setdefault(layer, text) != text:
            self.problems.append(
                Problem(self.name, line, 1, "", f"layer {layer} is {text} here and {known[layer]} above, both {key[1]}")
            )

    def baseline(self, key: Key, text: str) -> None:
        self.said.setdefault(key, _Said()).baseline = text


def read_pasted(text: str, name: str, metric: str = "l2", error: float = 1e-6) -> tuple[RecoveryTable, ...]:
    """Return the tables in a pasted text, one for each component that it names.

    `metric` is that of numbers beside which none is named, `error` the part of a distance that arithmetic may be off
    by. Raises CaseFileError where a layer has two numbers, UsageError where no number was found.
    """
    reading = _Reading(name, metric)
    for number, line in enumerate(text.splitlines(), 1):
        _take(reading, number, _plain(line))
    if reading.problems:
        raise CaseFileError(reading.problems)
    if not reading.said:
        raise UsageError(
            f"{name}: no baseline and no recovery found; "
            "a line reads `Layer 3: 17.9 %`, or the head of a table names l2 or mse"
        )
    fractions = not reading.percent and _are_fractions(reading.said)
    about = " ".join(_about(reading, fractions))
    return tuple(
        RecoveryTable(f"{name} {component}".strip(), columns, about=about)
        for component, columns in _tables(reading.said, fractions, error).items()
    )


def _plain(line: str) -> str:
    """Return a line without colours, quotation marks and comment signs, and with an ASCII minus."""
    line = _COLOUR.sub("", line).replace("\u2212", "-").replace("\u2013", "-").replace("**", "").replace("`", "")
    return re.sub(r"^[\s>#]+", "", line).strip()


def _take(reading: _Reading, number: int, line: str) -> None:
    cells = _cells(line)
    if head := _head(cells, reading.metric):
        reading.columns = head
        reading.percent |= "%" in line or "percent" in line.lower()
    elif set(line) <= set("|-:=+ ") or (reading.columns and len(cells) > 1 and _row(reading, number, cells)):
        return
    elif not _sentence(reading, number, line) and re.search(r"\d", line):
        reading.unread.append(number)


def _cells(line: str) -> list[str]:
    for separator in ("|", "\t", ","):
        if separator in line and "{" not in line:
            return [cell.strip() for cell in line.strip("| ").split(separator)]
    return re.split(r"\s{2,}", line)


def _head(cells: Sequence[str], metric: str) -> list[Key | None]:
    """Return what each column is about; nothing where the cells are not the head of a table."""
    if len(cells) < 2 or any(_CELL.match(cell) for cell in cells) or not re.match(r"layer|block|^$", cells[0], re.I):
        return []
    return [_column(cell, metric) for cell in cells[1:]]


def _column(cell: str, metric: str) -> Key | None:
    found = _metric_in(cell)
    component = next((name for name in COMPONENTS if _named(name, cell)), "")
    generic = re.search(r"recover|effect|restor|%", cell, re.IGNORECASE)
    return (component, found or metric) if found or component or generic else None


def _named(component: str, cell: str) -> bool:
    """A name of one letter is a component where the cell begins with it: `top k` is about something else."""
    return re.search(rf"\b{component}\b" if component[1:] else rf"^{component}\b", cell) is not None


def _row(reading: _Reading, number: int, cells: Sequence[str]) -> bool:
    """Take a row of a table; return whether it is one."""
    layer = re.fullmatch(r"(?:layer|block|l)?[ _#]*(\d+)", cells[0], re.IGNORECASE)
    is_baseline = "baseline" in cells[0].lower()
    if not layer and not is_baseline:
        return False
    for key, cell in zip(reading.columns, cells[1:], strict=False):
        value = _CELL.match(cell)
        if key is None or value is None:
            continue
        if layer:
            reading.recovery(number, key, int(layer[1]), _number(value[1]), value[2])
        else:
            reading.baseline(key, _number(value[1]))
    return True


def _sentence(reading: _Reading, number: int, line: str) -> bool:
    """Take a line of words and numbers; return whether it said something."""
    if "baseline" in line.lower():
        reading.metric, reading.columns = _metric_in(line) or reading.metric, ()
        values = _CELL.findall(line[line.lower().index("baseline") :].partition(":")[2] or line)
        if values:
            reading.baseline(("", reading.metric), _number(values[-1][0]))
        return bool(values)
    if "{" in line or len(_PAIR.findall(line)) > 1:
        reading.metric = _metric_in(line) or reading.metric
        for layer, value, sign in _PAIR.findall(line):
            reading.recovery(number, ("", reading.metric), int(layer), _number(value), sign)
        return bool(_PAIR.search(line))
    layer = _LAYER.search(line)
    if not layer:
        if found := _metric_in(line):
            reading.metric = found
        return bool(found)
    value = _CELL.search(line, layer.end())
    if value:
        own = _metric_in(line[: layer.start()]) or reading.metric
        reading.recovery(number, ("", own), int(layer[1] or layer[2]), _number(value[1]), value[2])
    return bool(value)


def _metric_in(text: str) -> str | None:
    found = _METRIC.search(text)
    return found.lastgroup if found and found.lastgroup in METRICS else None


def _number(text: str) -> str:
    """Return a number or a state as the audit reads it."""
    text = text.replace(",", "").lower().removesuffix("inity")
    return text if state_of(text) else State.UNDEFINED.value


def _are_fractions(said: Mapping[Key, _Said]) -> bool:
    numbers = [
        Decimal(text) for each in said.values() for text in each.recoveries.values() if state_of(text) is State.FINITE
    ]
    return any(numbers) and all(abs(number) <= _LARGEST_FRACTION for number in numbers)


def _about(reading: _Reading, fractions: bool) -> Iterator[str]:
    if fractions:
        yield "Nothing says percent and no number is beyond 1.5: read as fractions."
    if reading.unread:
        lines = ", ".join(map(str, reading.unread[:5])) + (" ..." if len(reading.unread) > 5 else "")
        yield f"Not read: line {lines}."


def _tables(said: Mapping[Key, _Said], fractions: bool, error: float) -> dict[str, dict[str, Column]]:
    found: dict[str, dict[str, Column]] = {}
    for (component, metric), each in said.items():
        recoveries = {
            f"layer {layer}": Number.printed(
                metric, StatedPart.RECOVERY, f"layer {layer}", _in_percent(text, fractions), error
            )
            for layer, text in sorted(each.recoveries.items())
        }
        baseline = Number.printed(metric, StatedPart.BASELINE, "", each.baseline, error)
        found.setdefault(component, {})[metric] = Column(baseline, recoveries)
    return found


def _in_percent(text: str, fractions: bool) -> str:
    if not fractions or state_of(text) is not State.FINITE:
        return text
    return f"{Decimal(text).scaleb(2):f}"
