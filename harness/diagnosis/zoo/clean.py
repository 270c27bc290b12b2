"""Models without a fault, which a diagnosis must leave alone: warnings about precision are allowed, errors are not.

Every row of the model table that is meant to be sound, SmolLM2 in its four dtypes among them, and every architecture of
mlx-lm in its small configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.diagnosis.zoo import constancy
from harness.diagnosis.zoo.arithmetic import TWINS
from harness.diagnosis.zoo.injection import HALF
from harness.diagnosis.zoo.loading import LOOKALIKES
from harness.diagnosis.zoo.metric import AS_DEFINED
from harness.diagnosis.zoo.models import VOCAB, both, build, names_in
from harness.diagnosis.zoo.surgery import at, behave
from harness.intercept.hookpoints import layers_with
from harness.models import bundled, load
from harness.models.loaded import LoadedModel
from harness.models.sources import installed
from harness.models.sources.miniatures import reasons
from harness.models.spec import CircuitRow, DialRow, HubRow, ModelRow
from harness.vocabulary.errors import ModelUnavailable, described

TWO = ("llama", "qwen3")
_LOOKALIKES = {**LOOKALIKES, **constancy.LOOKALIKES}

SMALL = 10_000
"""A vocabulary below this makes a subject cheap."""


@dataclass(frozen=True)
class CleanModel:
    """A model without a fault: its name, and the arguments of a diagnosis, made when they are needed."""

    name: str
    arguments: Callable[[], Mapping[str, Any]]
    cheap: bool


def subjects() -> list[CleanModel]:
    """Return every clean model: rows of the table, families in four dtypes, sound twins, all architectures."""
    rows = [_of_row(row) for row in bundled().values() if not isinstance(row, HubRow) and _is_sound(row)]
    halves = [_of_family(name, dtype) for name in HALF.split() for dtype in ("float32", "float16", "bfloat16", "4bit")]
    known = [name for name in installed.architectures() if "builds" not in reasons.REASONS.get(name, {})]
    near = [_of_twin(name, each) for name in TWINS for each in TWO]
    near += [_of_definition(name) for name in AS_DEFINED]
    near += [_of_planting(name) for name in _LOOKALIKES]
    return [*rows, *halves, *near, *(_of_architecture(name) for name in known if name not in HALF.split())]


def twins() -> list[CleanModel]:
    """Return what comes near a fault, and the models that faults are planted in, of two architectures each."""
    return [
        twin
        for each in TWO
        for twin in (
            CleanModel(each, partial(_healthy, each), True),
            *(_of_twin(name, each) for name in TWINS),
            *(_of_definition(name, each) for name in AS_DEFINED),
            *(_of_planting(name, each) for name in _LOOKALIKES),
        )
    ]


def _healthy(architecture: str) -> dict[str, Any]:
    return both(build(architecture))


def _is_sound(row: ModelRow) -> bool:
    return not (isinstance(row, DialRow) and row.logits in ("nan", "inf"))


def _of_row(row: ModelRow) -> CleanModel:
    if isinstance(row, DialRow):
        prompts: dict[str, Any] = {"clean": (0,), "corrupted": (1,), "component": "mlp"}
    elif isinstance(row, CircuitRow):
        prompts = {"clean": (1, 5, 6, 7), "corrupted": (2, 5, 6, 7)}
    else:
        prompts = {"clean": "Paris is the capital of France", "corrupted": "London is the capital of France"}
    return CleanModel(row.id, lambda: {"model": load(row), **prompts}, getattr(row, "vocab", SMALL) < SMALL)


def _of_definition(name: str, architecture: str = TWO[0]) -> CleanModel:
    metric, engine = AS_DEFINED[name]
    more = {"engine": engine, "metric": metric, "component": "mlp_out"}
    return CleanModel(name, lambda: both(build(architecture, "float32"), **more), cheap=True)


def _of_family(architecture: str, dtype: Any) -> CleanModel:
    more = {"quantize": "4bit"} if dtype == "4bit" else {}

    def arguments() -> dict[str, Any]:
        return both(build(architecture, "float32" if more else dtype, vocab=VOCAB, **more))

    return CleanModel(f"{architecture}, {dtype}", arguments, dtype in ("float16", "4bit"))


def _of_twin(name: str, architecture: str) -> CleanModel:
    part, dtype, call = TWINS[name]

    def arguments() -> dict[str, Any]:
        model = build(architecture, dtype)
        behave(at(model.module, names_in(architecture)[part]), call)
        return both(model)

    return CleanModel(f"{architecture}, {name}", arguments, True)


def _of_architecture(architecture: str) -> CleanModel:
    """Return the small model, patched where it can be: blocks of some kinds have no MLP, or no residual stream."""

    def arguments() -> dict[str, Any]:
        model = build(architecture, "float32")
        return both(model, component=_component(model, architecture))

    return CleanModel(architecture, arguments, False)


def _of_planting(name: str, architecture: str = TWO[0]) -> CleanModel:
    """Return a look-alike of a fault. What it needs of the disk is kept until the process ends."""
    return CleanModel(name, lambda: _UNTIL_THE_END.enter_context(_LOOKALIKES[name](architecture)), True)


_UNTIL_THE_END = ExitStack()


def _component(model: LoadedModel, architecture: str) -> str:
    if len(layers_with(model, "mlp_out")) == model.card.layers:
        return "mlp_out"
    return "resid_post"


def examine(subject: CleanModel, diagnose: Callable[..., Any]) -> str | None:
    """Diagnose a clean model and return what is wrong with the diagnosis: an error it names, or that it raises."""
    try:
        found = diagnose(**subject.arguments())
    except ModelUnavailable:
        return None
    except Exception as error:  # noqa: BLE001  one model must not end the list
        return f"{subject.name}: {described(error)}"
    if found.verdict == "clean":
        return None
    return f"{subject.name}: {found.place}, {found.cause.code}: {found.cause.message}"
