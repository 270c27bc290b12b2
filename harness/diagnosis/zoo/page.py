"""The zoo as people read it: docs/zoo.md, and the confusion table of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.diagnosis.zoo.fault import KINDS, PlantedFault
from harness.diagnosis.zoo.trial import Trial

PARTS = ("place", "cause", "proven", "evidence")


class Table(Protocol):
    """A grid whose cells are figures or numbered reasons."""

    @property
    def numbers(self) -> Mapping[str, int]:
        """Reason -> number."""

    def markdown(self) -> Iterable[str]:
        """Return its lines."""


@dataclass(frozen=True)
class Score:
    """A row of the confusion table: of how many plantings of a fault each part was named rightly."""

    fault: PlantedFault
    trials: tuple[Trial, ...]

    def cells(self) -> tuple[str, ...]:
        """Return part -> `right/planted`."""
        return tuple(f"{sum(getattr(each, part) for each in self.trials)}/{len(self.trials)}" for part in PARTS)

    @property
    def wrong(self) -> list[Trial]:
        return [each for each in self.trials if not each.right]


def scores(faults: Iterable[PlantedFault], trials: Sequence[Trial]) -> list[Score]:
    """Return the confusion table, a row a fault."""
    return [Score(fault, tuple(each for each in trials if each.fault == fault.id)) for fault in faults]


def total(table: Sequence[Score], part: str) -> int:
    """Return of how many faults every planting was named rightly."""
    return sum(bool(row.trials) and all(getattr(each, part) for each in row.trials) for row in table)


def markdown(zoo: Mapping[str, PlantedFault], trials: Sequence[Trial], by_dtype: Sequence[Table] = ()) -> str:
    """Return the page: what is planted, what must be said, and how many diagnoses said it, in all and by dtype."""
    table = scores(zoo.values(), trials)
    totals = " | ".join(f"**{total(table, part)} of {len(table)}**" for part in PARTS)
    return "\n".join(
        [
            "# The fault zoo",
            "",
            "Ways in which a patching result went wrong for somebody, each planted in small models of mlx-lm as",
            "it really arises. `harness zoo run` plants them all, asks `harness diagnose`, and compares what it says",
            "with what it must say.",
            "This page is written by `harness zoo run --write docs/zoo.md`.",
            "",
            "Class " + ", ".join(f"**{letter}**: {about}" for letter, about in KINDS.items()) + ".",
            "",
            "| fault | what goes wrong | seen in | class | planted in | a diagnosis must say |",
            "|---" * 6 + "|",
            *(_about(fault) for fault in zoo.values()),
            "",
            "Named rightly, of the plantings of each fault. *Place*: run, module or tensor, layer, token and",
            "dimension, as far as the planting determines them. *Cause*: this fault and no other. *Proven*: called",
            "so where the fault can be replayed, recomputed or restored, and suspected where it cannot. *Evidence*:",
            "the numbers and names that the diagnosis rests on.",
            "",
            "| fault | " + " | ".join(PARTS) + " | wrong on |",
            "|---" * (len(PARTS) + 2) + "|",
            *(_score(row) for row in table),
            f"| **all of it right** | {totals} | |",
            "",
            *(_by_dtype(by_dtype) if by_dtype else ()),
        ]
    )


def _by_dtype(tables: Sequence[Table]) -> Iterator[str]:
    yield "## By dtype"
    yield ""
    yield "Of the plantings of each fault in each dtype, in two architectures where two have it: how many are right"
    yield "in place, cause, *proven* and evidence. 4-bit models compute in float32. Faults of arrays and dials have a"
    yield "dtype of their own. Sound models: the two architectures, and what comes near a fault."
    for table in tables:
        yield ""
        yield from table.markdown()
        yield from (f"{number}. {reason}" if n else f"\n{number}. {reason}" for n, (reason, number) in
                    enumerate(table.numbers.items()))  # fmt: skip
    yield ""


def _about(fault: PlantedFault) -> str:
    variants = ", ".join(dict.fromkeys(each.variant for each in fault.plantings if each.variant))
    planted = ", ".join(fault.architectures) + (f" ({variants})" if variants else "")
    cells = (fault.id, fault.title, fault.report, fault.kinds, planted, fault.says)
    return "| " + " | ".join(cells) + " |"


def _score(row: Score) -> str:
    wrong = "; ".join(each.planting.name for each in row.wrong)
    return "| " + " | ".join((row.fault.id, *row.cells(), wrong)) + " |"
