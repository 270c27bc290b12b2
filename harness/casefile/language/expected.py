"""What a case expects: known values, properties of the numbers, findings, and jobs that are skipped or fail.

Every entry may be narrowed to one engine and to models; those about recoveries also to a component and a metric. An
entry that is not narrowed speaks of every job and every curve of the case.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Self, TypeVar

from pydantic import Field, model_validator

from harness.casefile.language.fields import (
    DISTINCT,
    FLAG,
    LIST,
    MAPPING,
    TEXT,
    Component,
    Engine,
    ModelPattern,
    NameOf,
    Number,
    Refusal,
    Size,
    StrictModel,
    Text,
    either,
    refuse,
)
from harness.vocabulary import METRICS, Finding
from harness.vocabulary.backends import BACKENDS
from harness.vocabulary.findings import FINDINGS
from harness.vocabulary.words import number_of

# An expectation about expectations would be circular.
EXPECTABLE = tuple(code for code, kind in FINDINGS.items() if kind.check != "expectation" and "/" not in kind.check)

MetricName = Annotated[str, NameOf("a metric", tuple(METRICS), or_code=True)]
FindingCode = Annotated[str, NameOf("a finding to expect", EXPECTABLE)]
FindingCodes = Annotated[tuple[FindingCode, ...], DISTINCT]
# An expectation that fails is a failure like others; only that of the failure itself is none.
FAILING = tuple(code for code, kind in FINDINGS.items() if code != "XFL001" and "/" not in kind.check)
FailureCodes = Annotated[tuple[Annotated[str, NameOf("a finding that fails a job", FAILING)], ...], DISTINCT]


_DISTANCES = ("l2", "mse", "cosine", "kl_divergence")
# Logits of float32 are at most 7e38 apart, and a mean square 5e77.
Bound = Annotated[Number, Field(ge=-1e78, le=1e78)]


class OfJobs(StrictModel):
    """Something said of every job of the case, or of those on one engine or some models."""

    engine: Engine | None = Field(default=None, description="only this engine")
    model: ModelPattern | None = Field(default=None, description="only this model, or those that match a pattern")

    def meant(self, engine: str, model: str) -> bool:
        """Return whether a job on this engine and model is spoken of."""
        return self.engine in (None, engine) and (self.model is None or fnmatchcase(model, self.model))


class OfCurves(OfJobs):
    """Something said of every curve of such jobs, or of those of one component or metric."""

    component: Component | None = Field(default=None, description="only this component")
    metric: MetricName | None = Field(default=None, description="only this metric")


class Known(OfJobs):
    """A value that is known beforehand."""

    metric: MetricName = Field(description="the metric")
    value: Number = Field(description="what it is")
    within: Size = Field(description="how far it may be away")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if message := self._void():
            raise refuse([Refusal(("within",), message)])
        return self

    def _void(self) -> str | None:
        """Return why anything would be within this distance, if so."""
        return None


class KnownBaseline(Known):
    """A known baseline; `value` and `within` are in the metric's own unit."""

    component: Component | None = Field(default=None, description="the component; a baseline is that of all")

    def _void(self) -> str | None:
        most = max(abs(self.value), 1.0)
        return f"{self.within:g} is more than the baseline itself; at most {most:g}" if self.within > most else None


class KnownRecovery(Known):
    """A known recovery of one component at one layer; `value` is in percent, `within` in percentage points."""

    component: Component = Field(description="the component")
    layer: int = Field(description="the layer; negative numbers count from the end")
    position: int | None = Field(default=None, description="the token, in a sweep with positions: each")
    head: int | None = Field(default=None, description="the head, of a component read per head: z, q, k, v")

    def _void(self) -> str | None:
        anything = self.value - self.within <= 0 and self.value + self.within >= 100
        return f"within {self.within:g} points of {self.value:g} %, 0 % and 100 % would both do" if anything else None


class BaselineRange(OfJobs):
    """The range that a baseline must stand in, in the metric's own unit."""

    metric: MetricName = Field(description="the metric")
    at_least: Bound | None = Field(default=None, description="the lower end")
    at_most: Bound | None = Field(default=None, description="the upper end")

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise refuse([Refusal((), "needs at_least, at_most or both")])
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise refuse([Refusal(("at_most",), f"is below at_least, {self.at_least:g}")])
        if self.at_most is None and (self.at_least or 0) <= 0 and self.metric in _DISTANCES:
            raise refuse([Refusal(("at_least",), f"{self.metric} is never below 0, so any baseline would do")])
        return self


class TopLayers(OfCurves):
    """The layers that recover most, in any order: exactly these, or these among more."""

    layers: Annotated[tuple[int, ...], Field(min_length=1), DISTINCT] = Field(description="the layers, in any order")
    among: int | None = Field(default=None, ge=1, description="how many are looked at; as many as are named")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.among is not None and self.among < len(self.layers):
            raise refuse(
                [Refusal(("among",), f"{number_of(len(self.layers), 'layer')} are named, so at least that many")]
            )
        return self


class MinimumRecovery(OfCurves):
    """The recovery (percent) that one layer, or the best one, must reach."""

    at_least: Annotated[Number, Field(ge=-1000)] = Field(description="percent")
    layer: int | None = Field(default=None, description="this layer; the best one without it")


class RankOrder(OfCurves):
    """Layers, from the one that recovers most to the one that recovers least; no two the same."""

    layers: Annotated[tuple[int, ...], Field(min_length=2), DISTINCT] = Field(description="the highest first")


class Expectation(StrictModel):
    """Findings that must appear and findings that may appear; any other error fails the job."""

    findings: FindingCodes = Field(default=(), description="codes that must be found")
    may_find: FindingCodes = Field(default=(), description="codes that may be found")


class Expect(Expectation):
    """What a case expects. An engine named under `engines` gets those findings instead of the case's own."""

    baselines: tuple[KnownBaseline, ...] = Field(default=(), description="known baselines")
    recoveries: tuple[KnownRecovery, ...] = Field(default=(), description="known recoveries")
    finite: Annotated[
        Annotated[bool, FLAG] | Annotated[tuple[OfCurves, ...], LIST],
        either("true, false, or a list of what must be finite"),
    ] = Field(default=False, description="every baseline and recovery has a value; `true`, or which ones")
    baseline_range: tuple[BaselineRange, ...] = Field(default=(), description="ranges that baselines stand in")
    top_layers: tuple[TopLayers, ...] = Field(default=(), description="the layers that recover most, in any order")
    minimum_recovery: tuple[MinimumRecovery, ...] = Field(default=(), description="recoveries that are reached")
    rank_order: tuple[RankOrder, ...] = Field(default=(), description="layers by recovery, the highest first")
    engines: dict[Engine, Expectation] = Field(default_factory=dict, description="findings of one engine")

    def must_be_finite(self) -> tuple[OfCurves, ...]:
        """Return what must be finite: everything is an entry that is not narrowed."""
        if isinstance(self.finite, bool):
            return (OfCurves(),) if self.finite else ()
        return self.finite


class Exemption(OfJobs):
    """Jobs that are skipped, or known to fail, and why."""

    reason: Text = Field(description="why; shown with the job")
    backend: Annotated[str, NameOf("a backend", BACKENDS)] | None = Field(default=None, description="only there")


class KnownFailure(Exemption):
    """Jobs that are known to fail, why, and with which findings."""

    codes: FailureCodes = Field(default=(), description="the findings that fail them; without it any but ENG001")

    def explains(self, finding: Finding) -> bool:
        """Return whether a job's failure by this finding is the one that is known.

        An engine that raises may do so for want of a letter in its own code: that is known only where it is named.
        """
        return finding.code in self.codes if self.codes else finding.code != "ENG001"


_REASONS = "the reason, an entry with a reason, or a list of them"
Exemptions = Annotated[
    Annotated[Text, TEXT] | Annotated[Exemption, MAPPING] | Annotated[tuple[Exemption, ...], Field(min_length=1), LIST],
    either(_REASONS),
]
KnownFailures = Annotated[
    Annotated[Text, TEXT]
    | Annotated[KnownFailure, MAPPING]
    | Annotated[tuple[KnownFailure, ...], Field(min_length=1), LIST],
    either(_REASONS),
]


E = TypeVar("E", bound=Exemption)


def exemptions(written: str | E | tuple[E, ...] | None, kind: type[E]) -> tuple[E, ...]:
    """Return the entries of a `skip` or `xfail`; the reason alone is one for every job."""
    if written is None:
        return ()
    if isinstance(written, str):
        return (kind(reason=written),)
    return written if isinstance(written, tuple) else (written,)
