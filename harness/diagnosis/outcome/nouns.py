"""The nouns of a diagnosis: where (`Place`), what was found there (`PlacedFinding`), each step, and the trail's frames.

A diagnosis names the first place: the place before which everything is finite and right, and after which it is not.
The cause is what was seen there; `confidence` says whether it was proven (by replay, by counting, by comparison) or is
only what usually lies behind the sight.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.vocabulary import Finding, Site
from harness.vocabulary.findings.diagnosis import FAULT_OF

STEP_NAMES = ("environment", "weights", "forward", "shadow", "patched", "metric", "recovery", "comparisons")
"""The steps in the order of the report; one that the cause makes unnecessary is reported as `not reached`."""

RUNS = ("weights", "clean", "corrupted", "patched", "metric", "recovery")

APPEARS, PROPAGATES, DISAPPEARS = "APPEARS", "PROPAGATES", "DISAPPEARS"
"""The flow of a non-finite value through a module: out of finite inputs; in and out; in and not out."""

PROVEN, SUSPECTED = "proven", "suspected"

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|transformer_layers)\.(\d+)(?=\.|$)")


def layer_of(module: str) -> int | None:
    """Return the layer that a dotted name is in, or None."""
    found = _LAYER.search(module)
    return int(found.group(1)) if found else None


@dataclass(frozen=True)
class Place:
    """Where: the step, which of RUNS, the module (or tensor) by mlx-lm's dotted name, and the element in it.

    The model itself has the name "". `dimension` counts along the last axis. In a weight, `token` is the flat row
    before it. What does not apply is None.
    """

    step: str
    run: str | None = None
    module: str | None = None
    layer: int | None = None
    token: int | None = None
    dimension: int | None = None

    @classmethod
    def of_module(
        cls, step: str, run: str, module: str | None, token: int | None = None, dimension: int | None = None
    ) -> Place:
        """Return the place in a module or tensor, whose name says the layer."""
        return cls(step, run, module, layer_of(module) if module else None, token, dimension)

    def __str__(self) -> str:
        parts = [
            f"the {self.run} run" if self.run in ("clean", "corrupted", "patched") else f"the {self.run or self.step}"
        ]
        parts += [] if self.module is None else [self.module or "the model itself"]
        element = (("token", self.token), ("dimension", self.dimension))
        if self.run == "weights":
            element = (("row", self.token), ("column", self.dimension))
        parts += [f"{name} {value}" for name, value in element if value is not None]
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the parts as the JSON of a diagnosis names them."""
        given = asdict(self)
        return {"rung": given.pop("step"), **given}


@dataclass(frozen=True)
class PlacedFinding(Finding):
    """A finding of a diagnosis: its place in a run of the model, and whether what it says was proven."""

    place: Place = field(kw_only=True)
    confidence: str = field(kw_only=True, default=PROVEN)
    fault: str | None = field(kw_only=True, default=None)
    """An id of the fault zoo (`harness zoo list`), or None for a cause that is not in it."""

    @classmethod
    def of(
        cls, code: str, message: str, place: Place, confidence: str = PROVEN, site: Site | None = None, **evidence: Any
    ) -> PlacedFinding:
        """Return the finding with the fault that its code stands for; `site` is the cell of a sweep it is about."""
        fault = FAULT_OF.get(code)
        return cls(code, message, site, evidence=evidence, place=place, confidence=confidence, fault=fault)

    def __str__(self) -> str:
        return f"{self.code} {self.place}: {self.message}; {self.hint}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "fault": self.fault,
            "severity": self.severity.value,
            "confidence": self.confidence,
            "message": self.message,
            "evidence": dict(self.evidence),
            "hint": self.hint,
            "place": self.place.to_dict(),
        }


@dataclass(frozen=True)
class StepResult:
    """One step of a diagnosis: `state` is `ok`, `fault`, `warning`, `skipped` or `not reached`."""

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
    method: str = "__call__"
    call: int = 1
    """Which call of that method in this run."""
    given: str = ""
    """The dtype of the first float array that the module was given."""

    @property
    def finite(self) -> bool:
        return not (self.nan or self.pos_inf or self.neg_inf)
