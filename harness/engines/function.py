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
from collections.abc import Callable, Mapping
from typing import Any

from harness.engines.declaration import declared_by
from harness.engines.foreign import EngineRequest, ForeignEngine, Reply
from harness.engines.roles import Place
from harness.vocabulary.errors import UsageError

_ALWAYS = ("model", "clean", "corrupted", "component", "layers", "metric")
_IF_NAMED = ("positions", "direction", "answers", "tokenizer")


def function_engine(function: Callable[..., Any], name: str | None = None) -> ForeignEngine:
    """Return a function as an engine, under its own name where none is given.

    Raises UsageError with what is wrong with it.
    """
    name = name or str(getattr(function, "__name__", type(function).__name__))
    asked = _arguments(name, function)
    declared = declared_by(name, getattr(function, "harness", None))
    about = (inspect.getdoc(function) or "a function of the user's own").splitlines()[0]

    def ask(request: EngineRequest) -> Reply:
        return _reply(function(**{key: _plain(getattr(request, key)) for key in asked}))

    return ForeignEngine(name, about, metrics=frozenset(declared.metrics), declared=declared, ask=ask)


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


def _reply(returned: Any) -> Reply:
    if not isinstance(returned, Mapping):
        raise TypeError(f"it returned {type(returned).__name__}; {{layer: recovery}} is expected")
    recoveries = returned.get("recoveries", returned) if "recoveries" in returned else returned
    baseline = returned.get("baseline") if "recoveries" in returned else None
    numbers = {_place(key): None if value is None else float(value) for key, value in recoveries.items()}
    return Reply(numbers, None if baseline is None else float(baseline))


def _place(key: Any) -> Place:
    if isinstance(key, tuple):
        layer, token = key
        return int(layer), int(token)
    return int(key), None
