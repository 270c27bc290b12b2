"""A function as an engine, so that a team can test its own patching without a plug-in package.

    def patch(model, clean, corrupted, component, layers, metric):
        '''model: an mlx module; clean, corrupted: token ids, equally many; component: such as "mlp";
        layers: indices; metric: such as "l2". Returns {layer: recovery}, or {"baseline": b, "recoveries": {...}}.'''

    patch.harness = {"units": "percent", "metrics": ["l2"], "components": ["mlp"]}

A function that also names `positions`, `direction`, `answers` or `tokenizer` among its arguments is given those.
`docs/engines.md` has a complete example. A case, `conformance`, `diagnose` and a notebook all call it so.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from harness import metrics
from harness.engines.declaration import declared_by
from harness.engines.foreign import EngineRequest, ForeignEngine, Reply
from harness.engines.roles import CellPlace
from harness.support.checkout import Origin, origin_of
from harness.vocabulary import Reading
from harness.vocabulary.errors import UsageError
from harness.vocabulary.words import number_of

_ALWAYS = ("model", "clean", "corrupted", "component", "layers", "metric")
_IF_NAMED = ("positions", "direction", "answers", "tokenizer")


def function_engine(function: Callable[..., Any], name: str | None = None) -> ForeignEngine:
    """Return a function as an engine, under its own name where none is given.

    Raises UsageError with what is wrong with it.
    """
    name = name or str(getattr(function, "__name__", type(function).__name__))
    asked = _arguments(name, function)
    declared = declared_by(name, getattr(function, "harness", None)).come_from(_origin(function))
    about = (inspect.getdoc(function) or "a function of the user's own").splitlines()[0]

    def ask(request: EngineRequest) -> Reply:
        return _reply(function(**{key: _plain(getattr(request, key)) for key in asked}), request)

    return ForeignEngine(name, about, metrics=frozenset(declared.metrics), declared=declared, ask=ask)


def _origin(function: Callable[..., Any]) -> Origin:
    """Return where the code of a function, or of the class of an object that is called, comes from."""
    code = function if hasattr(function, "__qualname__") else type(function)
    return origin_of(sys.modules.get(getattr(code, "__module__", None) or ""))


def _arguments(name: str, function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return [*_ALWAYS, *_IF_NAMED]
    if lacking := [key for key in _ALWAYS if key not in parameters]:
        raise UsageError(f"{name} has no argument {', '.join(lacking)}; it is called with {', '.join(_ALWAYS)}")
    return [*_ALWAYS, *(key for key in _IF_NAMED if key in parameters)]


def _plain(value: Any) -> Any:
    """Return lists for tuples: the usual type of token ids and layers."""
    return list(value) if isinstance(value, tuple) else value


# -- what it may return ----------------------------------------------------------------------------------------------


def _reply(returned: Any, request: EngineRequest) -> Reply:
    if isinstance(returned, Mapping) and "logits" in returned:
        return _measured(returned, request)
    keyed = isinstance(returned, Mapping) and "recoveries" in returned
    recoveries = returned["recoveries"] if keyed else returned
    baseline = returned.get("baseline") if keyed else None
    numbers = {place: None if value is None else float(value) for place, value in _placed(recoveries, request, 0)}
    return Reply(numbers, None if baseline is None else float(baseline))


def _measured(returned: Mapping[str, Any], request: EngineRequest) -> Reply:
    """Return what float64 makes of rows of logits `[vocab]`: `clean`, `corrupted` and `logits` by place."""
    if lacking := [key for key in ("clean", "corrupted") if key not in returned]:
        raise TypeError(f"it returned logits without those of the {' and the '.join(lacking)} run")
    clean, corrupted = _row(returned["clean"]), _row(returned["corrupted"])

    def measure(row: metrics.Row) -> Reading:
        return metrics.measure(request.metric, clean, row, request.answers)

    ends = metrics.Ends.of(measure(clean), measure(corrupted))
    numbers: dict[CellPlace, float | None] = {}
    for place, row in _placed(returned["logits"], request, 1):
        numbers[place] = ends.recovery(measure(_row(row))).value
    return Reply(numbers, ends.baseline.value, measured=True)


def _row(given: Any) -> metrics.Row:
    return metrics.host_row(given) if isinstance(given, mx.array) else np.asarray(given, np.float64)


def _placed(given: Any, request: EngineRequest, inner: int) -> Iterator[tuple[CellPlace, Any]]:
    """Yield the values of a mapping by place, or of an array whose axes are those of the places and `inner` others."""
    if isinstance(given, Mapping):
        for key, value in given.items():
            yield _place(key, request), value
        return
    if not hasattr(given, "shape"):
        raise TypeError(f"it returned {type(given).__name__}; {{layer: recovery}} or an array is expected")
    outer = given.shape[: len(given.shape) - inner]
    if not 1 <= len(outer) <= 3 or outer[0] != len(request.layers):
        raise TypeError(
            f"it returned an array of shape {tuple(given.shape)} for {number_of(len(request.layers), 'layer')}"
        )
    for index in itertools.product(*map(range, outer)):
        yield _place((request.layers[index[0]], *index[1:]), request), given[index]


def _place(key: Any, request: EngineRequest) -> CellPlace:
    """Return the place that a key means: a layer, (layer, token), (layer, head) or (layer, token, head)."""
    if not isinstance(key, tuple):
        return CellPlace(int(key))
    layer, *others = map(int, key)
    if len(others) == 1 and request.positions != "each":
        return CellPlace(layer, None, others[0])
    if len(others) > 2:
        raise TypeError(f"the key {key!r} is no place; (layer, token, head) is the longest there is")
    return CellPlace(layer, *others)
