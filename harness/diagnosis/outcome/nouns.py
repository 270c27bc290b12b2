"""The nouns of a diagnosis: where (`Place`), what was seen (`Observation`), every rung, the trail, and all in one.

A diagnosis names the first place: the place before which everything is finite and right, and after which it is not.
The cause is what was seen there; `confidence` says whether it was proven (by replay, by counting, by comparison) or is
only what usually lies behind the sight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.vocabulary.findings import FINDINGS, Severity
from harness.vocabulary.findings.diagnosis import FAULT_OF

RUNGS = ("environment", "weights", "forward", "shadow", "patched", "metric", "recovery", "comparisons")
"""The ladder, in order; a rung that the cause makes unnecessary is reported as `not reached`."""

RUNS = ("weights", "clean", "corrupted", "patched", "metric", "recovery")

APPEARS, PROPAGATES, DISAPPEARS = "APPEARS", "PROPAGATES", "DISAPPEARS"
"""The flow of a non-finite value through a module: out of finite inputs; in and out; in and not out."""

PROVEN, SUSPECTED = "proven", "suspected"

SCHEMA = "mlx-patch-harness/diagnosis/1"


@dataclass(frozen=True)
class Place:
    """Where: the rung, which of RUNS, the module (or tensor) by mlx-lm's dotted name, and the element in it.

    The model itself has the name "". `dimension` counts along the last axis. In a weight, `token` is the flat row
    before it. What does not apply is None.
    """

    rung: str
    run: str | None = None
    module: str | None = None
    layer: int | None = None
    token: int | None = None
    dimension: int | None = None

    def __str__(self) -> str:
        parts = [
            f"the {self.run} run" if self.run in ("clean", "corrupted", "patched") else f"the {self.run or self.rung}"
        ]
        parts += [] if self.module is None else [self.module or "the model itself"]
        element = (("token", self.token), ("dimension", self.dimension))
        if self.run == "weights":
            element = (("row", self.token), ("column", self.dimension))
        parts += [f"{name} {value}" for name, value in element if value is not None]
        return ", ".join(parts)


@dataclass(frozen=True)
class Observation:
    """One finding of a diagnosis: a code of `FINDINGS` and what was seen, at a place."""

    code: str
    message: str
    place: Place
    evidence: Mapping[str, Any] = field(default_factory=dict)
    confidence: str = PROVEN
    fault: str | None = None
    """An id of the fault zoo (F01 ... F23), or None for a cause that is not in it."""

    @classmethod
    def of(cls, code: str, message: str, place: Place, confidence: str = PROVEN, **evidence: Any) -> Observation:
        """Return the observation with the fault that its code stands for."""
        return cls(code, message, place, evidence, confidence, FAULT_OF.get(code))

    @property
    def severity(self) -> Severity:
        return FINDINGS[self.code].severity

    @property
    def hint(self) -> str:
        return FINDINGS[self.code].hint

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    def to_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "fault": self.fault,
            "severity": self.severity.value,
            "confidence": self.confidence,
            "message": self.message,
            "evidence": dict(self.evidence),
            "hint": self.hint,
            "place": asdict(self.place),
        }


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: `state` is `ok`, `fault`, `warning`, `skipped` or `not reached`."""

    name: str
    state: str
    summary: str


@dataclass(frozen=True)
class Frame:
    """What one module returned, reduced to statistics as it appeared.

    `absmax` is that of the finite values; `headroom` is the dtype's limit divided by it. `first` is the first
    non-finite element as (token, dimension). `flow` is empty where inputs and output are finite.
    """

    index: int
    run: str
    module: str
    layer: int | None
    kind: str
    dtype: str
    shape: tuple[int, ...]
    absmax: float | None
    nan: int = 0
    pos_inf: int = 0
    neg_inf: int = 0
    first: tuple[int | None, int | None] | None = None
    headroom: float | None = None
    flow: str = ""
    between: str | None = None

    @property
    def finite(self) -> bool:
        return not (self.nan or self.pos_inf or self.neg_inf)


@dataclass(frozen=True)
class Diagnosis:
    """The answer: `verdict` is `clean` or `fault`; `place` and the paragraph are those of the first error."""

    findings: tuple[Observation, ...] = ()
    rungs: tuple[Rung, ...] = ()
    trail: tuple[Frame, ...] = ()
    subject: Mapping[str, Any] = field(default_factory=dict)
    """What was diagnosed: model, dtype, prompts, engine."""

    @property
    def cause(self) -> Observation | None:
        """The first error: what everything after it follows from."""
        return next((found for found in self.findings if found.is_error), None)

    @property
    def verdict(self) -> str:
        return "fault" if self.cause else "clean"

    @property
    def place(self) -> Place | None:
        return self.cause.place if self.cause else None

    @property
    def paragraph(self) -> str:
        """What a person pastes into an issue: place, cause, evidence, remedy, confidence."""
        from harness.diagnosis.outcome.paragraph import paragraph

        return paragraph(self)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, without a bare NaN or Infinity."""
        plain: dict[str, Any] = _plain(
            {
                "schema": SCHEMA,
                "verdict": self.verdict,
                "place": asdict(self.place) if self.place else None,
                "paragraph": self.paragraph,
                "subject": dict(self.subject),
                "findings": [found.to_dict() for found in self.findings],
                "rungs": [asdict(rung) for rung in self.rungs],
                "trail": [asdict(frame) for frame in self.trail],
            }
        )
        return plain


def _plain(value: Any) -> Any:
    """Return the value in JSON types; a number that JSON cannot hold becomes its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
