"""What an engine says of itself: its units, and what it can do. The harness translates and never guesses."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.intercept import HookPoint, resolve
from harness.intercept.hookpoints import layers_with
from harness.metrics import Ends
from harness.models.architectures import blocks_of
from harness.models.loaded import LoadedModel
from harness.support.checkout import Origin
from harness.vocabulary import Reading, State, Sweep, metric_named
from harness.vocabulary.errors import UnknownName, UsageError

_PATHS = "paths"


class Declaration(BaseModel):
    """The facts about an engine that no one could read off its numbers.

    `units`, of every recovery: percent, fraction, or absolute, which is m(patched) - m(corrupted) in the metric's unit.
    `components`: names of the harness's vocabulary; `paths` stands for the path of any module in a block, such as `mlp`
    or `mlp.down_proj`. `positions`: `all`, `last`, `list` (token indices patched together), `each` (a layer x token
    grid). `architectures`: model types, or patterns of them; without it nothing is said of models. `baseline`, of
    scores: m(corrupted), or the gap m(clean) - m(corrupted); without it either is accepted. That of a distance is
    always m(corrupted). `estimate`: recoveries are first-order estimates (attribution patching), not exact.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    units: Literal["percent", "fraction", "absolute"] = "percent"
    metrics: tuple[str, ...] = ("l2",)
    components: tuple[str, ...] = ("mlp",)
    positions: tuple[Literal["all", "last", "list", "each"], ...] = ("all",)
    directions: tuple[Literal["denoising", "noising"], ...] = ("denoising",)
    architectures: tuple[str, ...] | None = None
    baseline: Literal["corrupted", "gap"] | None = None
    estimate: bool = False
    version: str | None = None
    revision: str | None = Field(default=None, description="the git commit, where it is known")
    branch: str | None = Field(default=None, description="the git branch, where the code is that of a checkout")

    @property
    def version_text(self) -> str | None:
        """Return such as "0.1.0+2935fbf, feature/causal-interp"."""
        if not self.revision:
            return self.version
        commit = self.revision[:7]
        code = f"{self.version}+{commit}" if self.version else f"git {commit}"
        return f"{code}, {self.branch}" if self.branch else code

    def come_from(self, origin: Origin) -> Declaration:
        """Return the declaration with what is known of where the code comes from, where it says nothing itself."""
        own = {name: getattr(self, name) or getattr(origin, name) for name in ("version", "revision")}
        branch = self.branch or (origin.branch if own["revision"] == origin.revision else None)
        return self.model_copy(update={**own, "branch": branch})

    def percent(self, recovery: float) -> float:
        """Return a recovery in the harness's unit."""
        return 100 * recovery if self.units == "fraction" else recovery

    def reading(self, said: float | None, ends: Ends | None) -> Reading:
        """Return in percent what the engine says of a cell. `ends` are those that an absolute effect is measured by.

        None is undefined, or has the state of ends that leave no recovery.
        """
        if said is None:
            nothing = ends.recovery(ends.corrupted) if ends else Reading.absent(State.UNDEFINED)
            return Reading.absent(State.UNDEFINED) if nothing.finite else nothing
        if self.units == "absolute" and ends:
            return ends.share(Reading.of(said))
        return Reading.of(self.percent(said))

    def is_gap(self, said: float, ends: Ends, metric: str, relative: float) -> bool:
        """Return whether a baseline is meant as m(clean) - m(corrupted), as some say it of a score.

        Declared is declared; otherwise it is where the number is that one within `relative`, and not m(corrupted).
        """
        if ends.denominator is None or not metric_named(metric).needs_answers:
            return False
        if self.baseline:
            return self.baseline == "gap"
        gap, corrupted = ends.denominator.gap, ends.denominator.corrupted
        return abs(said - gap) <= relative * abs(gap) and not abs(said - corrupted) <= relative * abs(corrupted)

    def claims(self, model: LoadedModel) -> bool | None:
        """Return whether a model is among the architectures that are declared; None where none are."""
        if self.architectures is None:
            return None
        return any(fnmatchcase(model.card.architecture, pattern) for pattern in self.architectures)

    def cannot(self, name: str, model: LoadedModel, sweep: Sweep) -> str | None:
        """Return the first thing of a sweep that this engine does not claim to do."""
        if self.claims(model) is False:
            return f"{name} does {', '.join(self.architectures or ())}, not {model.card.architecture}"
        if sweep.direction not in self.directions:
            return f"{name} does {' and '.join(self.directions)} only, not {sweep.direction}"
        if sweep.value != "other":
            return f"{name} puts in the other run's activation only, not {sweep.value}"
        asked = "list" if isinstance(sweep.positions, tuple) else sweep.positions
        if asked not in self.positions:
            return f"{name} patches positions {' and '.join(self.positions)}, not {asked}"
        for component in sweep.components:
            try:
                self.own_name(model, component)
            except UsageError as error:
                return f"{name}: {error}"
        return None

    def own_name(self, model: LoadedModel, component: str) -> str:
        """Return what the engine calls a component: its own name, the module's path, or another name that is the same
        module in every layer.

        Raises UsageError where it has none.
        """
        if component in self.components:
            return component
        path = _path(model, component) if _PATHS in self.components else None
        if path:
            return path
        wanted = _modules(model, component)
        for name in self.components:
            if name != _PATHS and wanted and _modules(model, name) == wanted:
                return name
        raise UsageError(f"{component!r} is not among its components {', '.join(self.components)} on this model")


def _path(model: LoadedModel, component: str) -> str | None:
    """Return the path in its block of the module whose output a component is; None where layers differ in it."""
    points = [point for point in _points(model, component) if not point.is_input and point.head is None]
    names = {
        name
        for point in points
        for name, module in blocks_of(model.module)[point.layer].named_modules()
        if module is point.module
    }
    return names.pop() if len(names) == 1 else None


def _modules(model: LoadedModel, component: str) -> list[Any]:
    """Return which values of the model a component is, layer by layer; empty where a layer lacks it."""
    return [point.place for point in _points(model, component)]


def _points(model: LoadedModel, component: str) -> list[HookPoint]:
    try:
        return resolve(model, Sweep((component,), tuple(layers_with(model, component)) or None))
    except (UsageError, UnknownName):
        return []


def declared_by(owner: str, written: Any) -> Declaration:
    """Return a declaration as somebody wrote it. Raises UsageError with what is wrong in it."""
    from pydantic import ValidationError

    known = list(Declaration.model_fields)
    if not isinstance(written, dict):
        raise UsageError(
            f"{owner}.harness is missing: a dict of {', '.join(known)}; "
            "`harness init --engine MODULE:FUNCTION` writes an example"
        )
    lacking = [name for name in ("units", "metrics", "components") if name not in written]
    if lacking:
        raise UsageError(f"{owner}.harness says nothing of {', '.join(lacking)}; the harness does not guess")
    try:
        return Declaration.model_validate({k: tuple(v) if isinstance(v, list) else v for k, v in written.items()})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise UsageError(f"{owner}.harness: {faults}") from error
