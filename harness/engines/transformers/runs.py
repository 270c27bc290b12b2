"""Runs of a torch model: bare, recorded, and patched one cell at a time by forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from harness.engines.transformers.model import TorchModel, torch_model
from harness.intercept import HookPoint, resolve_positions
from harness.models.loaded import LoadedModel
from harness.patching import Walk, check_question
from harness.patching.patch import Patch, patches_of
from harness.patching.sweep import Runs
from harness.vocabulary import Direction, Positions, Question
from harness.vocabulary.errors import EngineUnavailable, TapError

Edit = Callable[[Any], Any]
"""From an activation to the one that takes its place."""
Recording = Mapping[HookPoint, Sequence[Any]]


def walk(dtype: str, model: LoadedModel, question: Question) -> Walk:
    """Return the sweep of a question, one forward pass a cell, in the implementation of transformers.

    Raises what `harness.patching.walk` raises, and EngineUnavailable where transformers cannot answer.
    """
    points = check_question(model, question)
    net = torch_model(model, dtype)
    theirs = {point: net.point(point, model.card.architecture) for point in points}
    patches = patches_of(points, question.sweep.positions, len(question.clean.ids))
    source, target = question.clean.ids, question.corrupted.ids
    noising = question.sweep.direction is Direction.NOISING
    if noising:
        source, target = target, source
    row, recording = record(net, source, list(theirs.values()))
    cells = ((patch, _patched(net, target, patch, theirs[patch.point], recording)) for patch in patches)
    runs = Runs(row, forward(net, target), cells, "stepwise")
    clean, corrupted = (runs.target, runs.source) if noising else (runs.source, runs.target)
    patched = ((patch.site, row) for patch, row in runs.cells)
    return Walk(clean, corrupted, tuple(patch.site for patch in patches), patched, runs)


def forward(net: TorchModel, ids: Sequence[int]) -> Any:
    """Run the bare model on `[tokens]` and return the last token's logits `[vocab]` as a NumPy array."""
    with net.running():
        return _run(net, ids)[0, -1].numpy()


def _run(net: TorchModel, ids: Sequence[int]) -> Any:
    return net.net(input_ids=torch.tensor([list(ids)]), use_cache=False).logits


def record(net: TorchModel, ids: Sequence[int], points: Sequence[HookPoint]) -> tuple[Any, Recording]:
    """Run the model and keep the activations at every hook point, in the order of the calls."""
    kept: dict[HookPoint, list[Any]] = {point: [] for point in points}

    def keeper(point: HookPoint) -> Edit:
        def keep(value: Any) -> Any:
            kept[point].append(value.clone())
            return value

        return keep

    with edited({point: keeper(point) for point in points}):
        row = forward(net, ids)
    for point, values in kept.items():
        if not values:
            raise EngineUnavailable(f"{point}: transformers never calls this module")
    return row, kept


def _patched(net: TorchModel, ids: Sequence[int], patch: Patch, point: HookPoint, recording: Recording) -> Any:
    pending = list(recording[point])

    def put(value: Any) -> Any:
        if not pending or pending[0].shape != value.shape:
            raise TapError(f"{point}: transformers calls it with {tuple(value.shape)}, which was not recorded")
        return _at(patch.positions, value, pending.pop(0), point, len(ids))

    with edited({point: put}):
        row = forward(net, ids)
    if pending:
        raise TapError(f"{point}: transformers calls it less often than it was recorded")
    return row


def _at(positions: Positions, value: Any, given: Any, point: HookPoint, tokens: int) -> Any:
    """Return an activation `[1, tokens, width]` with another's values at some positions, in one head's slice or all."""
    if positions == "all" and point.head is None:
        return given
    if value.ndim != 3 or value.shape[1] != tokens:
        raise EngineUnavailable(f"{point}: transformers' activation {tuple(value.shape)} has no axis of tokens")
    width = value.shape[2] // point.slices
    start = point.slot * width
    out, chosen = value.clone(), resolve_positions(positions, tokens)
    out[:, chosen, start : start + width] = given[:, chosen, start : start + width]
    return out


@contextmanager
def edited(edits: Mapping[HookPoint, Edit]) -> Iterator[None]:
    """Let an edit stand between each hook point and its reader for the duration of the block."""
    with ExitStack() as hooks:
        for point, edit in edits.items():
            module: Any = point.module
            handle = (
                module.register_forward_pre_hook(_on_input(point, edit), with_kwargs=True)
                if point.is_input
                else module.register_forward_hook(_on_output(edit))
            )
            hooks.callback(handle.remove)
        yield


def _on_input(point: HookPoint, edit: Edit) -> Callable[..., Any]:
    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (edit(args[0]), *args[1:]), kwargs
        name = next((name for name, value in kwargs.items() if torch.is_tensor(value) and value.ndim == 3), None)
        if name is None:
            raise EngineUnavailable(f"{point}: transformers calls the module without an activation")
        return args, {**kwargs, name: edit(kwargs[name])}

    return hook


def _on_output(edit: Edit) -> Callable[..., Any]:
    return lambda module, args, out: (edit(out[0]), *out[1:]) if isinstance(out, tuple) else edit(out)


def module_outputs(net: TorchModel, ids: Sequence[int]) -> dict[str, Any]:
    """Return what each module returns in its first call, as float64 arrays by dotted name; the model's are `logits`."""
    found: dict[str, Any] = {}

    def keeper(name: str) -> Edit:
        def keep(value: Any) -> Any:
            if torch.is_tensor(value) and value.is_floating_point():
                found.setdefault(name, value.double().numpy().copy())
            return value

        return keep

    points = {HookPoint(name, 0, module): keeper(name) for name, module in net.net.named_modules() if name}
    with edited(points), net.running():
        found["logits"] = _run(net, ids).double().numpy()
    return found
