"""The forms in which an engine can be asked: a component, a metric, a form of positions and a direction, as declared.

All of them are asked where they are few. Where they are many, a covering design asks every pair of two declared things
together at least once, which is where defects of one of them, and of two that meet, are seen. Only a metric and a
component need not meet: a metric is computed of logits, whichever component they come from.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

from harness.engines import Engine, ForeignEngine
from harness.intercept import resolve
from harness.intercept.hookpoints import layers_with
from harness.models.loaded import LoadedModel
from harness.vocabulary import COMPONENTS, METRICS, Direction, Positions, Sweep
from harness.vocabulary.errors import UnknownName, UsageError

FEW = 8
"""Products up to this size are asked whole."""


@dataclass(frozen=True)
class Form:
    """One way to ask; `positions` is `all`, `last`, `list` or `each`."""

    component: str
    metric: str
    positions: str = "all"
    direction: str = Direction.DENOISING

    def __str__(self) -> str:
        return f"{self.metric} of {self.component}, positions {self.positions}, {self.direction}"


def forms(engine: Engine, model: LoadedModel) -> list[Form]:
    """Return the forms to ask an engine in on this model, the plainest first."""
    positions, directions = _declared(engine)
    known = [metric for metric in METRICS if engine.knows(metric)]
    axes = (components(engine, model), known, positions, directions)
    product = [Form(*each) for each in itertools.product(*axes)]
    return product if len(product) <= FEW else list(_covering(product))


def components(engine: Engine, model: LoadedModel) -> list[str]:
    """Return the components that an engine declares and the model has, each module once."""
    found: dict[tuple[tuple[int, bool, int | None], ...], str] = {}
    (asked, *_), (direction, *_) = _declared(engine)
    at: Positions = (0,) if asked == "list" else asked
    for name in COMPONENTS:
        having = tuple(layers_with(model, name))
        sweep = Sweep((name,), having, Direction(direction), at)
        if not having or engine.cannot(model, sweep):
            continue
        try:
            points = resolve(model, sweep)
        except (UsageError, UnknownName):
            continue
        found.setdefault(tuple((id(point.module), point.is_input, point.head) for point in points), name)
    return list(found.values())


def _declared(engine: Engine) -> tuple[Sequence[str], Sequence[str]]:
    """Return the forms of positions and the directions that an engine declares, in the order of the vocabulary."""
    if not isinstance(engine, ForeignEngine):
        return ("all", "last", "list", "each"), tuple(Direction)
    declared = engine.declared
    return (
        [each for each in ("all", "last", "list", "each") if each in declared.positions],
        [each for each in Direction if each in declared.directions],
    )


def _covering(product: Sequence[Form]) -> Iterator[Form]:
    """Yield forms, the first of the product first, until every pair of values has been in one; greedily."""
    open_pairs = {pair for form in product for pair in _pairs(form)}
    while open_pairs:
        best = max(product, key=lambda form: len(open_pairs & _pairs(form)))
        open_pairs -= _pairs(best)
        yield best


def _pairs(form: Form) -> set[tuple[tuple[int, str], tuple[int, str]]]:
    component, metric, *how = enumerate(map(str, astuple(form)))
    return {pair for what in (component, metric) for pair in itertools.combinations((what, *how), 2)}
