"""Asking the engine, and watching what its forward passes do.

An engine of the harness answers with its own numbers beside those of float64. A function is only observed: which ids
each of its forward passes ran, the last token's logits, and every block's dtype and size on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from harness import metrics
from harness.diagnosis.trail.masks import UNTRACEABLE, arrays
from harness.engines import Engine, answer, engine_named
from harness.intercept.swap import Handler, exchanged
from harness.metrics.layouts import dtype_name
from harness.models.loaded import LoadedModel
from harness.vocabulary import Question, Reading, RowSummary, Site
from harness.vocabulary.errors import UsageError


@dataclass(frozen=True)
class ModuleCall:
    """What one module returned in an observed pass: the sum of its magnitudes, and that of the last token's, if any."""

    module: str
    dtype: str
    size: float
    last: float


@dataclass(frozen=True)
class Pass:
    """One forward pass that was observed: its ids, its logits `[vocab]`, and its parts in the order of execution."""

    ids: tuple[int, ...]
    logits: mx.array
    parts: tuple[ModuleCall, ...]


@dataclass(frozen=True)
class Recovered:
    """One cell: what the engine reported, and what float64 makes of the same logits where they are known."""

    layer: int
    reported: Reading
    true: Reading | None


@dataclass
class Asked:
    """What an engine answered."""

    name: str
    baseline: float | None = None
    cells: tuple[Recovered, ...] = ()
    patched: Mapping[Site, RowSummary] = field(default_factory=dict)
    passes: tuple[Pass, ...] = ()
    error: str | None = None
    guards: bool = False


def engine_of(engine: Any) -> Any:
    """Return an Engine or a function. Raises UnknownName or UsageError."""
    if isinstance(engine, str):
        return engine_named(engine)
    if isinstance(engine, Engine) or callable(engine):
        return engine
    raise UsageError(
        f"{engine!r} is no engine; give a name, an Engine, or a function (module, clean, corrupted, component, metric)"
    )


def name_of(engine: Any) -> str:
    return str(getattr(engine, "name", None) or getattr(engine, "__name__", None) or type(engine).__name__)


def ask(engine: Any, model: LoadedModel, question: Question) -> Asked:
    """Ask an engine, whatever it is."""
    return (
        _ask_engine(engine, model, question) if isinstance(engine, Engine) else _ask_function(engine, model, question)
    )


def _ask_engine(engine: Engine, model: LoadedModel, question: Question) -> Asked:
    given = answer(engine, model, question)
    (curve,) = given.curves
    cells = tuple(Recovered(cell.layer, cell.recovery, cell.oracle) for cell in curve.cells)
    return Asked(engine.name, _number(curve.baseline), cells, given.patched, guards=engine.formula is not None)


def _number(reading: Reading) -> float | None:
    if reading.value is not None:
        return reading.value
    return {"inf": float("inf"), "nan": float("nan")}.get(reading.state.value)


def _ask_function(engine: Callable[..., Any], model: LoadedModel, question: Question) -> Asked:
    found = Asked(name_of(engine), guards=True)
    passes: list[Pass] = []
    clean, corrupted = list(question.clean.ids), list(question.corrupted.ids)
    component, metric = question.sweep.components[0], question.metrics[0]
    try:
        with observed(model.module, passes):
            given = engine(model.module, clean, corrupted, component, metric)
    except Exception as error:  # noqa: BLE001  whatever an engine raises is a finding about that engine
        found.error = f"{type(error).__name__}: {error}"
        return found
    finally:
        found.passes = tuple(passes)
    found.baseline, recoveries = _read(given)
    found.cells = tuple(_cells(recoveries, passes, question))
    return found


def _read(given: Any) -> tuple[float | None, dict[int, float]]:
    if not isinstance(given, Mapping):
        raise UsageError(f"the engine returned {type(given).__name__}; a mapping of layer to percent is needed")
    baseline = given.get("baseline")
    values = given.get("recoveries", given if "baseline" not in given else {})
    try:
        recoveries = {int(layer): float(value) for layer, value in values.items()}
        return (None if baseline is None else float(baseline)), recoveries
    except (TypeError, ValueError) as error:
        raise UsageError(f"the engine returned {given!r}; layer: percent pairs are needed") from error


def _cells(recoveries: Mapping[int, float], passes: Sequence[Pass], question: Question) -> Iterator[Recovered]:
    """The patched runs are the last passes over the corrupted ids, one for each layer, or their roles are unknown."""
    layers = sorted(recoveries)
    over = [each for each in passes if each.ids == question.corrupted.ids]
    rows = over[-len(layers) :] if len(over) > len(layers) else []
    clean = next((each for each in passes if each.ids == question.clean.ids), None)
    metric = question.metrics[0]
    for i, layer in enumerate(layers):
        true = None
        if rows and clean is not None:
            a, b, p = (metrics.host_row(each.logits) for each in (clean, over[0], rows[i]))
            ends = (metrics.measure(metric, a, row, question.answers) for row in (a, b, p))
            true = metrics.recovery(*ends)
        yield Recovered(layer, Reading.of(recoveries[layer]), true)


Sizes = tuple[str, str, mx.array, mx.array]


@contextmanager
def observed(root: Any, passes: list[Pass]) -> Iterator[None]:
    """Note every forward pass of a model, under whatever interception is put on it meanwhile."""
    parts: list[Sizes] = []

    def note_pass(args: tuple[Any, ...], out: Any) -> None:
        logits = out[0] if isinstance(out, tuple) else out
        ids = next((array for _, array in arrays("", args)), None)
        if isinstance(logits, mx.array) and logits.ndim == 3 and ids is not None:
            row = logits[0, -1]
            mx.eval(row)
            seen = tuple(part for each in parts if (part := _part(*each)))
            passes.append(Pass(tuple(int(i) for i in np.array(ids).reshape(-1)), row, seen))
        parts.clear()

    notes = {id(root): note_pass}
    with _observing(root, parts, notes):
        yield


@contextmanager
def _observing(root: Any, parts: list[Sizes], notes: Mapping[int, Callable[..., None]]) -> Iterator[None]:
    """Note what every module returns. These are no taps: an engine that taps would refuse a tapped model."""

    def note_part(name: str, args: tuple[Any, ...], out: Any) -> None:
        for _, array in list(arrays("", out))[:1]:
            if mx.issubdtype(array.dtype, mx.floating):
                wide = mx.abs(array.astype(mx.float32))
                # Only [1, tokens, width] has its tokens where one knows them: experts, for one, sort theirs.
                last = wide[:, -1] if wide.ndim == 3 and len(wide) == 1 else mx.zeros(())
                parts.append((name, dtype_name(array), mx.sum(wide), mx.sum(last)))

    modules = root.named_modules()
    with exchanged(root, [(each, _noting(notes.get(id(each), partial(note_part, name)))) for name, each in modules]):
        yield


def compiled(root: Any, ids: Sequence[int]) -> Pass:
    """Run the model once, compiled as a whole, with its parts among the outputs where they can be."""
    names: list[tuple[str, str]] = []

    def whole(x: mx.array, observe: bool) -> list[mx.array]:
        parts: list[Sizes] = []
        with _observing(root, parts, {id(root): lambda args, out: None}) if observe else nullcontext():
            out = root(x)
        names[:] = [(name, dtype) for name, dtype, _, _ in parts]
        logits = out[0] if isinstance(out, tuple) else out
        return [logits[0, -1], *(size for _, _, size, _ in parts), *(last for _, _, _, last in parts)]

    for observe in (True, False):
        try:
            row, *sizes = mx.compile(partial(whole, observe=observe))(mx.array([list(ids)]))
            mx.eval(row, sizes)
        except UNTRACEABLE:
            if observe:
                continue  # parts that a part compiles for itself cannot leave it
            raise
        pairs = zip(names, sizes[: len(names)], sizes[len(names) :], strict=True)
        parts = (_part(name, dtype, size, last) for (name, dtype), size, last in pairs)
        return Pass(tuple(ids), row, tuple(part for part in parts if part))
    raise AssertionError("the second attempt returns or raises")


def _part(name: str, dtype: str, size: mx.array, last: mx.array) -> ModuleCall | None:
    """Return a part, or None for one that was compiled together with its surroundings and has no value of its own."""
    try:
        return ModuleCall(name, dtype, float(np.array(size)), float(np.array(last)))
    except UNTRACEABLE:
        return None


def _noting(note: Callable[[tuple[Any, ...], Any], None]) -> Handler:
    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = call(*args, **kwargs)
        note((*args, *kwargs.values()), out)
        return out

    return handler


def bare(root: Any, ids: Sequence[int]) -> Pass:
    """Run the bare model once, observed only."""
    passes: list[Pass] = []
    with observed(root, passes):
        root(mx.array([list(ids)]))
    if not passes:
        raise UsageError("the model did not return logits of shape [1, tokens, vocab]")
    return passes[-1]
