"""The model against another implementation of the same folder: the first module whose output differs.

Modules are paired by their names: inside a block by the path in it, outside by the whole name. What has no namesake of
the same shape, such as a rotation that is a module in one and a function in the other, is passed over; the modules
before and after it say where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness.diagnosis.outcome.nouns import PROVEN, Place, PlacedFinding, layer_of
from harness.diagnosis.trail.masks import UNTRACEABLE
from harness.engines import engine_named
from harness.engines.transformers import DTYPES
from harness.intercept import Tap, tapped
from harness.intercept.outputs import activation_of
from harness.metrics.host import host_values
from harness.metrics.tolerances import Work, row_tolerance
from harness.models.config_keys import ignored_keys
from harness.models.loaded import LoadedModel
from harness.vocabulary.errors import UnknownName

Values = npt.NDArray[np.float64]
Said = tuple[list[PlacedFinding], str]

_LOGITS = "logits"
_IN_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+\..*|\d+$)")


def ignored(model: LoadedModel, tokens: int) -> list[PlacedFinding]:
    """Return a finding for each key of config.json that mlx-lm drops and that changes what it computes on a
    prompt of so many tokens."""
    if model.folder is None:
        return []
    place = Place.of_module("forward", "clean", "")
    return [
        PlacedFinding.of("DIA213", f"config.json: {each}", place, PROVEN, key=each.key, stated=each.stated)
        for each in ignored_keys(model.folder, tokens)
    ]


def against(model: LoadedModel, ids: Sequence[int], name: str, run: str) -> Said:
    """Hold one run of the model against the engine `name`, which must be an implementation of its own.

    Raises UnknownName for another engine, EngineUnavailable where it is not installed or cannot read the folder.
    """
    if name not in DTYPES:
        raise UnknownName("reference implementation", name, DTYPES)
    engine_named(name)
    from harness.engines.transformers.model import torch_model
    from harness.engines.transformers.runs import module_outputs

    theirs = module_outputs(torch_model(model, DTYPES[name]), ids)
    ours = _outputs(model.module, ids)
    most = row_tolerance(Work.OTHER_CODE, model.card.dtype)
    logits = _apart(theirs[_LOGITS][:, -1], ours[_LOGITS][:, -1])
    if logits <= most:
        return [], f"{name} agrees: the logits are off by {logits:.1e} of the largest"
    text, place = _first(ours, theirs, most, run)
    text = f"{name} gives other logits, off by {logits:.2g} of the largest; {text}"
    return [PlacedFinding.of("DIA605", text, place, PROVEN, difference=logits, reference=name)], text


def _first(ours: Mapping[str, Values], theirs: Mapping[str, Values], most: float, run: str) -> tuple[str, Place]:
    agrees, pairs = None, list(_pairs(ours, theirs))
    same = {name for name, one, other in pairs if _apart(other, one) <= most}
    # What differs before a layer that agrees is a convention, as where an embedding is scaled: nothing follows from it.
    right = max((_layer(name) for name in same), default=-1)
    for name, one, other in pairs:
        if name not in same and _layer(name) >= right:
            at = tuple(map(int, np.unravel_index(np.argmax(np.abs(one - other)), one.shape)))
            after = f", after {agrees}, which agrees" if agrees else ""
            values = f"{one[at]:.6g} here, {other[at]:.6g} there"
            where = Place.of_module("comparisons", run, name, *((at[1], at[-1]) if len(at) == 3 else ()))
            return f"the first module that differs is {name}{after}: {values}", where
        agrees = name if name in same else agrees
    return "no module that both have differs before them", Place.of_module("comparisons", run, "")


def _pairs(ours: Mapping[str, Values], theirs: Mapping[str, Values]) -> Iterator[tuple[str, Values, Values]]:
    """Yield (our name, our output, theirs) in the order in which our modules returned."""
    named = {_common(name): value for name, value in theirs.items()}
    for name, value in ours.items():
        other = named.get(_common(name))
        if other is not None and other.shape == value.shape:
            yield name, value, other


def _layer(name: str) -> int:
    layer = layer_of(name)
    return -1 if layer is None else layer


def _common(name: str) -> str:
    inside = _IN_BLOCK.search(name)
    return inside[1] if inside else name


def _outputs(root: Any, ids: Sequence[int]) -> dict[str, Values]:
    """Return what every module returns, by name, in the order in which they do; and the logits."""
    found: dict[str, Values] = {}

    def handler(name: str) -> Any:
        def noted(call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            out = call(*args, **kwargs)
            value = activation_of(out)
            if name not in found and isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.floating):
                with suppress(*UNTRACEABLE):  # inside a function that the model compiles nothing has a value yet
                    found[name] = host_values(value)
            return out

        return noted

    unique = {id(module): (name, module) for name, module in reversed(root.named_modules()) if name}
    with tapped(root, [Tap(module, handler(name)) for name, module in unique.values()]):
        logits = activation_of(root(mx.array([list(ids)])))
        found[_LOGITS] = host_values(logits)
    return found


def _apart(wanted: Values, got: Values) -> float:
    largest = float(np.abs(wanted).max())
    return float(np.abs(wanted - got).max()) / largest if largest else float(np.abs(got).max())
