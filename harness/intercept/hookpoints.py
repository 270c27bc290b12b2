"""Hook points: a component at a layer, resolved on one model.

The value at a hook point is what a module returns, or, for `resid_pre`, `mlp_post` and `z`, what it is given. Modules
that return a tuple carry the activation first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.models.architectures import Architecture, architecture_of, blocks_of, heads_of
from harness.models.loaded import LoadedModel
from harness.vocabulary import COMPONENTS, PER_HEAD, Sweep
from harness.vocabulary.errors import UnknownName, UsageError, suggest
from harness.vocabulary.words import number_of

_BLOCK_OUTPUTS = ("resid_post", "output")
_INPUTS = ("resid_pre", "mlp_post", "z")


@dataclass(frozen=True)
class HookPoint:
    """Where a component of one layer lives: the module, and whether its input or its output is meant."""

    component: str
    layer: int
    module: Any = field(compare=False, repr=False)
    is_input: bool = False
    head: int | None = None
    slices: int = 1
    """With a head, the activation's width is cut into so many equal slices: the heads, or, where one projection gives
    queries, keys and values, the heads of all three."""
    slot: int = 0
    """Which of the slices the head is, from 0."""
    put_in: Callable[[Any], Any] | None = field(default=None, compare=False, repr=False)
    """What a patch puts in, made of the other run's activation; None where it is that activation."""

    @property
    def place(self) -> tuple[int, bool, int | None, int, int]:
        """What of the model this is, by whatever name: equal for two components that are the same values."""
        return id(self.module), self.is_input, self.head, self.slices, self.slot

    def given(self, activation: Any) -> Any:
        """Return what a patch puts in where the other run has this activation."""
        return activation if self.put_in is None else self.put_in(activation)

    def __str__(self) -> str:
        return f"layer {self.layer} {self.component}" + ("" if self.head is None else f", head {self.head}")


def resolve(model: LoadedModel, sweep: Sweep) -> list[HookPoint]:
    """Return the hook points of a sweep, components in order and layers within them.

    Raises UnknownName or UsageError before any forward pass when a component or a layer does not exist, or when one
    module is a component's in several layers: a tap is on the module, and would patch them all.
    """
    blocks = blocks_of(model.module)
    row = architecture_of(model.card.architecture)
    layers = resolve_layers(sweep.layers, len(blocks))
    for component in sweep.components:
        having = layers_with(model, component)
        if having and (lacking := [layer for layer in layers if layer not in having]):
            raise UsageError(f"layer {lacking[0]} has no {component}; the layers that have it are {having}")
    points = [
        each
        for component in sweep.components
        for layer in layers
        for each in _points(model, blocks[layer], layer, component, row)
    ]
    _refuse_shared(blocks, points)
    return points


def _refuse_shared(blocks: Sequence[Any], points: Sequence[HookPoint]) -> None:
    """mlx-lm's experts share one activation between all layers; other models share blocks."""
    holders: dict[int, list[int]] = {}
    for layer, block in enumerate(blocks):
        for key in {id(module) for _, module in block.named_modules()}:
            holders.setdefault(key, []).append(layer)
    for each in points:
        layers = holders.get(id(each.module), [])
        if len(layers) > 1:
            raise UsageError(
                f"layers {', '.join(map(str, layers))} share one module, the {each.component} of layer {each.layer}: "
                f"patched in one layer it would be patched in all; name a module that each layer has for itself"
            )


def _points(model: LoadedModel, block: Any, layer: int, component: str, row: Architecture) -> list[HookPoint]:
    """Return one hook point, or, for a component that is read per head, one for each head."""
    if component not in PER_HEAD:
        return [point(block, layer, component, row)]
    layout = heads_of(model.card.architecture)
    attention = _module(block, layer, "self_attn", row)
    needed = layout.projections(component)
    if lacking := [name for name in needed if not _is_module(getattr(attention, name, None))]:
        raise UsageError(
            f"layer {layer} has no {component} ({COMPONENTS[component]}): its {type(attention).__name__} has no "
            f"{' and no '.join(lacking)}; another layer's or another projection's output is used in its place"
        )
    slots, slices = layout.slots(attention, component)
    projection, is_input = getattr(attention, needed[0]), component in _INPUTS
    return [HookPoint(component, layer, projection, is_input, head, slices, slot) for head, slot in enumerate(slots)]


def layers_with(model: LoadedModel, component: str) -> list[int]:
    """Return the layers that have a component: blocks of several kinds in one model need not all have it."""
    row = architecture_of(model.card.architecture)
    heads = _needed_of_attention(model.card.architecture, component)
    return [layer for layer, block in enumerate(blocks_of(model.module)) if _has(block, component, row, heads)]


def _needed_of_attention(architecture: str, component: str) -> tuple[str, ...]:
    """Return the modules that attention must have for a component; none where it needs none, or nobody has looked."""
    try:
        return heads_of(architecture).projections(component) if component in PER_HEAD else ()
    except UsageError:
        return ()  # `resolve` says so


def parts_of(model: LoadedModel, block: Any) -> list[Any]:
    """Return the modules of a block that mix tokens and that do not, as far as the architecture's row names them."""
    return _named_by_row(model, block, ("attn_out", "self_attn", "mlp", "mlp_out"))


def mixers_of(model: LoadedModel, block: Any) -> list[Any]:
    """Return the modules of a block that mix tokens, as far as the architecture's row names them."""
    return _named_by_row(model, block, ("attn_out", "self_attn"))


def _named_by_row(model: LoadedModel, block: Any, components: Sequence[str]) -> list[Any]:
    row = architecture_of(model.card.architecture).of(block)
    paths = [path for component in components for path in row.paths(component)]
    found = {id(module): module for path in paths if _is_module(module := _walk(block, path))}
    return list(found.values())


def mlp_of(model: LoadedModel, block: Any) -> Any:
    """Return a block's MLP, or None where its architecture's row names none."""
    paths = architecture_of(model.card.architecture).of(block).paths("mlp")
    return next((module for path in paths if _is_module(module := _walk(block, path))), None)


def resolve_layers(layers: Sequence[int] | None, count: int) -> list[int]:
    """Return layer indices in 0..count-1; negative ones count from the end, None means all."""
    if layers is None:
        return list(range(count))
    if not layers:
        raise UsageError("no layer is given, so nothing would be patched; leave `layers` out for all of them")
    outside = [layer for layer in layers if not -count <= layer < count]
    if outside:
        raise UsageError(f"layer {outside[0]} does not exist; the model has layers 0 to {count - 1}")
    resolved = [layer % count for layer in layers]
    if len(set(resolved)) < len(resolved):
        raise UsageError(f"layers {list(layers)} name a layer twice on a model of {number_of(count, 'layer')}")
    return resolved


def point(block: Any, layer: int, component: str, row: Architecture) -> HookPoint:
    """Resolve one component on one block."""
    if component == "resid_pre" or component in _BLOCK_OUTPUTS:
        return HookPoint(component, layer, block, component in _INPUTS)
    return HookPoint(component, layer, _module(block, layer, component, row), component in _INPUTS)


def _module(block: Any, layer: int, component: str, row: Architecture) -> Any:
    for path in row.of(block).paths(component):
        found = _walk(block, path)
        if _is_module(found):
            return found
    raise _lacking(block, layer, component, row)


def _lacking(block: Any, layer: int, component: str, row: Architecture) -> UsageError:
    """Return the error for a component that a block does not have."""
    children, candidates = _paths(block), row.of(block).paths(component)
    mlp = next((found for path in row.of(block).paths("mlp") if _is_module(found := _walk(block, path))), None)
    if component == "mlp_post" and mlp is not None:
        return UsageError(
            f"layer {layer} has no mlp_post ({COMPONENTS[component]}): its MLP, {type(mlp).__name__}, has no one down "
            f"projection, as a mixture of experts has none; it has {', '.join(_paths(mlp)) or 'no modules'}"
        )
    if component in COMPONENTS:
        return UsageError(
            f"layer {layer} has no {component} ({COMPONENTS[component]}): none of {', '.join(candidates)} "
            f"is in {type(block).__name__}, which has {', '.join(children)}"
        )
    if "." in component:
        return UsageError(f"layer {layer} has no module {component!r}; {suggest(component, children)}")
    return UnknownName("component", component, [*COMPONENTS, *children])


def _has(block: Any, component: str, row: Architecture, heads: Sequence[str]) -> bool:
    """Return whether a block has a component; of its attention, the modules called `heads` are needed for it."""
    if component in ("resid_pre", *_BLOCK_OUTPUTS):
        return True
    named = "self_attn" if component in PER_HEAD else component
    found = next((each for path in row.of(block).paths(named) if _is_module(each := _walk(block, path))), None)
    return found is not None and all(_is_module(getattr(found, name, None)) for name in heads)


def _walk(block: Any, path: str) -> Any:
    found = block
    for name in path.split("."):
        if isinstance(found, list):
            found = found[int(name)] if name.isdigit() and int(name) < len(found) else None
        else:
            found = getattr(found, name, None)
    return found


def _paths(block: Any) -> list[str]:
    return sorted(name for name, _ in block.named_modules() if name)


def _is_module(found: Any) -> bool:
    return callable(found) and hasattr(found, "named_modules") and not isinstance(found, type)
