"""What an engine answers: its own numbers beside those that float64 makes of the same logits, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.vocabulary.dequantised import Dequantised
from harness.vocabulary.findings import FindingKind, Severity, kind_of
from harness.vocabulary.memory import Memory
from harness.vocabulary.questions import AnswerTokens, Site
from harness.vocabulary.readings import Denominator, Reading, Spread, State
from harness.vocabulary.words import number_of


@dataclass(frozen=True)
class RowSummary:
    """What a row of last-token logits `[vocab]`, or any other array, is made of.

    `absmax` is that of the finite values, and `first` the flat index of the first value that is not finite.
    """

    nan: int = 0
    pos_inf: int = 0
    neg_inf: int = 0
    absmax: float | None = None
    first: int | None = None
    size: int = 0

    @property
    def finite(self) -> bool:
        return not (self.nan or self.pos_inf or self.neg_inf)

    @property
    def only_neg_inf(self) -> bool:
        """Whether there is -inf and nothing else that is not finite: a mask, or ids that are ruled out."""
        return bool(self.neg_inf) and not (self.nan or self.pos_inf)

    @property
    def evidence(self) -> dict[str, Any]:
        """The counts as a finding states them in its evidence."""
        return {"nan": self.nan, "pos_inf": self.pos_inf, "neg_inf": self.neg_inf}

    def text(self) -> str:
        """Return such as `3 NaN, 1 +inf of 40,960 values`."""
        named = zip(("NaN", "+inf", "-inf"), self.evidence.values(), strict=True)
        return ", ".join(f"{count:,} {name}" for name, count in named if count) + f" of {self.size:,} values"


@dataclass(frozen=True)
class Cell:
    """One patched run under one metric: what the engine reported, and what float64 makes of the same logits.

    `precision` is the error bar: how many percentage points the oracle is away from that of the same model in float32.
    None where nobody asked, where the model computes in float32 already, and where either has no value.

    Of several pairs of prompts, recovery and oracle are means, `precision` is the mean of the bars, and `pairs` holds
    the recovery of each pair.
    """

    layer: int
    position: str
    recovery: Reading
    oracle: Reading
    head: int | None = None
    precision: float | None = None
    pairs: Spread | None = None


@dataclass(frozen=True)
class Curve:
    """One component under one metric: the baseline and the recovery (percent) of every cell.

    `baseline` is what the engine reports, `oracle_baseline` what float64 makes of the same logits. `headroom` is a
    ratio: the largest norm that a sum of squares in the logits' dtype holds, over the norm that this metric squares and
    sums; below 1 it overflows. `shift_share` is the percentage of a squared distance that is one shift of all logits,
    which softmax ignores. Both are None for metrics they mean nothing for, and where there is no baseline.
    `denominator` is what the recoveries divide by, None where an unpatched run has no value.

    Of several pairs of prompts, the baselines are means and `pairs` holds the baseline of each pair; `headroom` is the
    least and `shift_share` the largest of any pair, and there is no one `denominator`.
    """

    component: str
    metric: str
    unit: str
    baseline: Reading
    oracle_baseline: Reading
    cells: tuple[Cell, ...] = ()
    headroom: float | None = None
    shift_share: float | None = None
    denominator: Denominator | None = None
    pairs: Spread | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the cells do not make one curve or one grid."""
        if len({cell.head is None for cell in self.cells}) > 1:
            raise ValueError("some of its cells name a head and some none")
        if self._by_position and self.is_grid:
            odd = next((cell.position for cell in self.cells if not cell.position.isdecimal()), None)
            if odd is not None:
                raise ValueError(f"a cell of its grid is at {odd!r}, which is no position")

    def resolved(self, least: float) -> Curve:
        """Return the curve where rounding is known to put the two unpatched runs at least this far apart.

        It has no number left where that is as far as they are.
        """
        if self.denominator is None:
            return self
        judged = replace(self.denominator, resolution=max(self.denominator.resolution, least))
        if judged.state is not State.ILL_CONDITIONED:
            return replace(self, denominator=judged)
        none = Reading.absent(State.ILL_CONDITIONED)
        cells = tuple(replace(cell, recovery=none, oracle=none, precision=None) for cell in self.cells)
        return replace(self, baseline=none, oracle_baseline=none, cells=cells, denominator=judged)

    @property
    def is_grid(self) -> bool:
        """Whether a layer has a cell for each head, if only one, or several, one for each position."""
        by_head = any(cell.head is not None for cell in self.cells)
        return by_head or len({cell.layer for cell in self.cells}) < len(self.cells)

    def site(self, cell: Cell) -> Site:
        """Return where one of the cells is."""
        return Site(self.component, cell.layer, cell.position, cell.head)

    def paired(self, other: Curve) -> list[tuple[Cell, Cell]]:
        """Return the cells that both curves have, in this one's order: an engine may leave some out of either."""
        theirs = {(cell.layer, cell.position, cell.head): cell for cell in other.cells}
        pairs = [(cell, theirs.get((cell.layer, cell.position, cell.head))) for cell in self.cells]
        return [(cell, match) for cell, match in pairs if match is not None]

    def key(self, cell: Cell) -> int | tuple[int, ...]:
        """Return the layer; in a grid (layer, head), (layer, position) or (layer, head, position)."""
        if not self.is_grid:
            return cell.layer
        head = () if cell.head is None else (cell.head,)
        return (cell.layer, *head, *((int(cell.position),) if self._by_position else ()))

    @property
    def _by_position(self) -> bool:
        return len({cell.position for cell in self.cells}) > 1


@dataclass(frozen=True)
class Mistake:
    """What would make the numbers that were said of those that are right, and what mends it.

    `kind` is a word or two, the same wherever the same mistake was made.
    """

    kind: str
    said: str
    remedy: str = ""
    proven: bool = True
    """Whether it makes the very numbers; otherwise it is only of their size."""

    @property
    def is_rule(self) -> bool:
        """Whether it explains every cell, and is no account of which cells are wrong."""
        return self.kind != UNEXPLAINED and not self.kind.startswith("one ")

    @property
    def evidence(self) -> dict[str, str]:
        """The mistake as a finding carries it: its remedy stands in place of that of the finding's kind."""
        return {"mistake": self.kind, **({"remedy": self.remedy} if self.remedy else {})}

    def __str__(self) -> str:
        return f"{self.said}; {self.remedy}" if self.remedy else self.said


UNEXPLAINED = "no pattern"


@dataclass(frozen=True)
class Concordance:
    """How far two metrics rank the cells of one component alike.

    `tau` is Kendall's tau-b: 1 for the same order, -1 for the reverse; None where a metric puts no two cells in an
    order. `layers` are those of the cells that stand in opposite order to most others, three cells at most.
    """

    component: str
    metrics: tuple[str, str]
    tau: float | None
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What a check found: a code of `FINDINGS`, where, what was seen, and the numbers behind it."""

    code: str
    message: str
    site: Site | None = None
    metric: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    expected: bool = False
    known: str = ""
    """Why it is expected, where a file of known failures says so."""

    @property
    def kind(self) -> FindingKind:
        return kind_of(self.code)

    @property
    def severity(self) -> Severity:
        return self.kind.severity

    @property
    def hint(self) -> str:
        """What to do: the remedy of the mistake that the numbers show, else what the kind says."""
        return str(self.evidence.get("remedy") or self.kind.hint)

    def __str__(self) -> str:
        where = f" {self.site}" if self.site else ""
        metric = f" {self.metric}" if self.metric else ""
        return f"{self.code}{where}{metric}: {self.message}; {self.hint}"


@dataclass(frozen=True)
class Unanswered:
    """Cells that an engine does not answer, of a component under a metric (None: under any), and why.

    `raised`: its adapter said so when it was asked; otherwise its declaration did, beforehand.
    """

    component: str
    metric: str | None
    cells: int
    reason: str
    raised: bool = False

    def __str__(self) -> str:
        metric = "" if self.metric is None else f" ({self.metric})"
        return f"{number_of(self.cells, 'cell')} of {self.component}{metric}: {self.reason}"


@dataclass(frozen=True)
class Answer:
    """What an engine answered to a question, with the evidence the checks need.

    `curves` hold reported and float64 readings side by side; the summaries describe the engine's own logits, and
    `dtype` is theirs. `mistakes` has, by component and metric, what makes wrong numbers of the engine's own logits,
    where anything known does. `attribution` is what watching somebody else's engine showed, and `printed` what it wrote
    to standard output.
    """

    strategy: str
    clean: RowSummary
    corrupted: RowSummary
    curves: tuple[Curve, ...]
    patched: Mapping[Site, RowSummary] = field(default_factory=dict)
    answers: AnswerTokens | None = None
    suppressed: tuple[int, ...] = ()
    fallback: str | None = None
    proven_on: str = ""
    """The day of the remembered proof that a walk relied on, as in 2026-11-29; empty where it relied on none."""
    dtype: str = ""
    concordances: tuple[Concordance, ...] = ()
    stopped: str | None = None
    """`after 31 of 96 cells` where the sweep ended early; cells that were not computed are absent."""
    memory: Memory | None = None
    mistakes: Mapping[tuple[str, str], Mistake] = field(default_factory=dict)
    attribution: tuple[Finding, ...] = ()
    unasked: tuple[Finding, ...] = ()
    """Why metrics of the question have no curve: there are no answers for them to read."""
    unanswered: tuple[Unanswered, ...] = ()
    """What somebody else's engine does not do, while it answers the rest."""
    printed: str = ""
    dequantised: Dequantised | None = None
    """What became of the float32 copy; None where none was asked for, or the model is not quantised."""
