"""The numbers of one sweep: a baseline for each metric, and its recoveries by site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from harness.results.replay.numbers import Number


@dataclass(frozen=True)
class Column:
    """What one metric says."""

    baseline: Number
    recoveries: Mapping[str, Number] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Number]:
        yield self.baseline
        yield from self.recoveries.values()


@dataclass(frozen=True)
class RecoveryTable:
    """One component of one model under some metrics; `logits` is how many a row of its logits has, where known."""

    title: str
    columns: Mapping[str, Column]
    logits: int | None = None
    about: str = ""

    def __iter__(self) -> Iterator[Number]:
        for column in self.columns.values():
            yield from column

    def altered(self, number: Number, text: str) -> RecoveryTable:
        """Return the table with another text in place of a number."""
        column, new = self.columns[number.metric], replace(number, text=text)
        changed = (
            replace(column, recoveries={**column.recoveries, number.site: new})
            if number.site
            else replace(column, baseline=new)
        )
        return replace(self, columns={**self.columns, number.metric: changed})
