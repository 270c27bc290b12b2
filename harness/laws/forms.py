"""The forms in which an engine can be asked: a component, a metric, a form of positions and a direction, as declared.

For right numbers all of them are asked where they are few. Where they are many, a covering design asks every pair of
two declared things together at least once, which is where defects of one of them, and of two that meet, are seen. But a
metric and a component need not meet: a metric is computed of logits, whichever component they come from.

The other laws are asked in a sample: as few forms as have every declared thing in one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from harness.engines import Engine, ForeignEngine
from harness.intercept import record, resolve
from harness.intercept.hookpoints import HookPoint, layers_with
from harness.models.loaded import LoadedModel
from harness.vocabulary import COMPONENTS, METRICS, Direction, Positions, Sweep, positions_text
from harness.vocabulary.errors import HarnessError
from harness.vocabulary.words import number_of

FEW = 8
"""Products up to this size are asked whole."""


@dataclass(frozen=True)
class Form:
    """One way to ask; `positions` is `all`, `last`, `each`, or token indices where lists are declared."""

    component: str
    metric: str
    positions: Positions = "all"
    direction: Direction = Direction.DENOISING

    @property
    def axes(self) -> tuple[tuple[str, str], ...]:
        """Each axis of the design with the value in this form, as a person reads it."""
        return (
            ("component", self.component), ("metric", self.metric), ("positions", positions_text(self.positions)),
            ("direction", str(self.direction)),
        )  # fmt: skip

    def __str__(self) -> str:
        component, metric, positions, direction = (value for _, value in self.axes)
        return f"{metric} of {component}, positions {positions}, {direction}"


@dataclass(frozen=True)
class Declared:
    """Everything that an engine declares and a model has, each axis with the plainest first."""

    components: tuple[str, ...]
    metrics: tuple[str, ...]
    own_metrics: tuple[str, ...]
    """Metrics that the harness does not know."""
    positions: tuple[Positions, ...]
    directions: tuple[Direction, ...]

    @property
    def product(self) -> list[Form]:
        """Every form whose right numbers are known."""
        axes = (self.components, self.metrics, self.positions, self.directions)
        return [Form(*each) for each in itertools.product(*axes)]

    @property
    def forms(self) -> list[Form]:
        """The forms to hold against the right numbers."""
        return self.product if len(self.product) <= FEW else list(_covering(self.product))

    @property
    def sample(self) -> list[Form]:
        """As few forms as have each declared thing in one of them, the plainest first."""
        axes = (self.components, self.metrics + self.own_metrics, self.positions, self.directions)
        if not all(axes):
            return []
        return [Form(*(axis[at % len(axis)] for axis in axes)) for at in range(max(map(len, axes)))]  # type: ignore[arg-type]

    @property
    def unmet(self) -> list[tuple[str, str]]:
        """The pairs of a metric and a component, of those whose numbers are known, that no form has."""
        met = {(form.metric, form.component) for form in self.forms}
        return [pair for pair in itertools.product(self.metrics, self.components) if pair not in met]


def declared(engine: Engine, model: LoadedModel, clean: Sequence[int], corrupted: Sequence[int]) -> Declared:
    """Return what an engine can be asked about a model with these prompts."""
    asked, directions = _ways(engine)
    lists = lists_of(clean, corrupted)
    positions = [each for name in asked for each in (lists if name == "list" else [name])]
    known = tuple(metric for metric in METRICS if engine.knows(metric))
    own = engine.declared.metrics if isinstance(engine, ForeignEngine) else ()
    sweep = Sweep((), None, directions[0], positions[0])
    return Declared(
        tuple(components(engine, model, sweep, corrupted)), known, tuple(name for name in own if name not in METRICS),
        tuple(positions), tuple(directions),
    )  # fmt: skip


def lists_of(clean: Sequence[int], corrupted: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the lists of token indices to ask for: where the prompts first differ with the last token but one, and the
    last token alone."""
    last = len(clean) - 1
    first = next((at for at, (a, b) in enumerate(zip(clean, corrupted, strict=True)) if a != b), 0)
    return list(dict.fromkeys((tuple(sorted({first, max(last - 1, 0)})), (last,))))


CANDIDATES = ("mlp", "self_attn", "mlp_out", "attn_out", "resid_post")
"""The components to ask about first, where every layer has them."""


def components(engine: Engine, model: LoadedModel, sweep: Sweep, ids: Sequence[int]) -> Iterator[str]:
    """Yield the components that an engine declares and the model has: those of a name of their own in the declaration,
    and of those that are only paths each module once. A module that is never called on these ids is none."""
    every, seen = list(range(model.card.layers)), set[_Modules]()
    named = engine.declared.components if isinstance(engine, ForeignEngine) else ()
    names = {name: tuple(layers_with(model, name)) for name in (*CANDIDATES, *COMPONENTS)}
    found: dict[str, tuple[list[HookPoint], _Modules]] = {}
    for name in sorted(names, key=lambda name: names[name] != tuple(every)):
        asked = Sweep((name,), names[name], sweep.direction, sweep.positions)
        if names[name] and not engine.cannot(model, asked):
            with suppress(HarnessError):
                points = list(resolve(model, asked))
                found[name] = points, tuple(point.place for point in points)
    own = {modules for name, (_, modules) in found.items() if name in named}
    for name, (points, modules) in found.items():
        if name not in named and (modules in own or modules in seen):
            continue
        seen.add(modules)
        with suppress(HarnessError):
            record(model, tuple(ids), points)
            yield name


_Modules = tuple[tuple[int, bool, int | None, int, int], ...]


def _ways(engine: Engine) -> tuple[list[str], list[Direction]]:
    """Return the forms of positions and the directions that an engine declares, in the order of the vocabulary."""
    every = ["all", "last", "list", "each"]
    if not isinstance(engine, ForeignEngine):
        return every, list(Direction)
    said = engine.declared
    return [each for each in every if each in said.positions], [each for each in Direction if each in said.directions]


def _covering(product: Sequence[Form]) -> Iterator[Form]:
    """Yield forms, the first of the product first, until every pair of values has been in one; greedily."""
    open_pairs = {pair for form in product for pair in _pairs(form)}
    while open_pairs:
        best = max(product, key=lambda form: len(open_pairs & _pairs(form)))
        open_pairs -= _pairs(best)
        yield best


def _pairs(form: Form) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    component, metric, *how = form.axes
    return {pair for what in (component, metric) for pair in itertools.combinations((what, *how), 2)}


def in_common(broken: Sequence[Form], asked: Sequence[Form]) -> str:
    """Return how many of the forms asked are broken, and what those have in common that no other has; nothing where
    only one was asked."""
    if len(asked) == 1:
        return ""
    if len(broken) == len(asked):
        return f"all {number_of(len(asked), 'form')} asked: "
    if len(broken) == 1:
        return f"{broken[0]}: "
    shared = [
        value
        for axis, value in broken[0].axes
        if len(broken) == sum((axis, value) in form.axes for form in asked) < len(asked)
        and all((axis, value) in form.axes for form in broken)
    ]
    which = f", those with {' and '.join(shared)} and no other" if shared else ""
    return f"{len(broken)} of {number_of(len(asked), 'form')} asked{which}, first {broken[0]}: "
