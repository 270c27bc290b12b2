"""Watching a forward pass: what goes into every module and what comes out, in the order of execution.

Each value is reduced where it appears and let go of. Reductions are evaluated together, whenever the arrays they hang
on would take more than HELD_BYTES: to evaluate each on its own would make the device wait for every module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import isfunction
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from harness.diagnosis.trail.masks import UNTRACEABLE, Masks, arguments, arrays, fused_attention, is_causal
from harness.diagnosis.trail.statistics import StatisticsProbe
from harness.intercept import CALL, Tap, tapped
from harness.intercept.outputs import activation_of
from harness.metrics import summarize
from harness.metrics.layouts import dtype_name, layout_of
from harness.vocabulary import RowSummary
from harness.vocabulary.errors import UsageError

HELD_BYTES = 32 << 20
HELD_VALUES = 512


@dataclass
class Value:
    """One float array that went into a module or came out of it. `counts` is None until it is evaluated."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    counts: RowSummary | None = None
    first_argument: bool = False
    meant: bool = False
    """Whether what is not finite is the -inf of a causal mask."""


@dataclass
class Event:
    """A module is called (`enter`) or returns; `seen` holds its arrays. `call` counts the calls of this method."""

    enter: bool
    module: str
    kind: str
    call: int
    method: str = CALL
    seen: list[Value] = field(default_factory=list)


class ModuleWatcher:
    """Collects the events of one forward pass."""

    def __init__(self, root: Any):
        self.root = root
        self.names = {id(module): name for name, module in reversed(list(root.named_modules()))}
        self.events: list[Event] = []
        self.open: list[str] = []
        self.calls: dict[tuple[str, str], int] = {}
        self._pending: list[tuple[Value, StatisticsProbe, mx.array]] = []
        self._bytes = 0
        self.unseen: set[str] = set()
        self.masks = Masks()

    def taps(self) -> list[Tap]:
        modules = {id(module): module for _, module in self.root.named_modules()}
        return [
            Tap(module, self._handler(self.names[key], type(module).__name__, method), method=method)
            for key, module in modules.items()
            for method in (CALL, *_methods(type(module)))
        ]

    def _handler(self, name: str, kind: str, method: str) -> Callable[..., Any]:

        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if method != CALL and self.open[-1:] in ([], [name]):
                return call(*args, **kwargs)  # a part of the module's own call, or of nobody's
            count = self.calls[name, method] = self.calls.get((name, method), 0) + 1
            self.masks.look(name, args, kwargs)
            self._note(Event(True, name, kind, count, method), arguments(args, kwargs))
            self.open.append(name)
            out = call(*args, **kwargs)
            self.open.pop()
            self._note(Event(False, name, kind, count, method), arrays("output", out))
            return out

        return handler

    def attend(self, out: mx.array, *args: Any, mask: Any = None, **kwargs: Any) -> None:
        """Look at the mask of a fused attention that the innermost open module calls."""
        if isinstance(mask, mx.array):
            self.masks.add(self.open[-1], mask)

    def _note(self, event: Event, found: Iterator[tuple[str, mx.array]]) -> None:
        self.events.append(event)
        for i, (name, array) in enumerate(found):
            value = Value(name, dtype_name(array), tuple(array.shape), first_argument=i == 0)
            event.seen.append(value)
            layout = layout_of(array)
            if layout is None or not array.size:
                value.counts = RowSummary(size=array.size)
                continue
            # A handle of its own: a model's `x += y` changes the one it holds.
            mine = mx.array(array)
            self._pending.append((value, StatisticsProbe(mine, layout), mine))
            self._bytes += array.nbytes
        if self._bytes > HELD_BYTES or len(self._pending) > HELD_VALUES:
            self.flush()

    def flush(self) -> None:
        """Evaluate what is pending and let go of the arrays."""
        pending, self._pending, self._bytes = self._pending, [], 0
        try:
            mx.eval([scalar for _, probe, _ in pending for scalar in probe.pending])
        except UNTRACEABLE:
            # Inside a compiled function nothing can be evaluated, and what it traces has no values.
            pending = [each for each in pending if self._can_be_evaluated(each)]
        for value, probe, array in pending:
            magnitude = probe.magnitude()
            if magnitude < probe.layout.infinity:
                value.counts = RowSummary(absmax=probe.layout.value(magnitude), size=probe.size)
            else:
                value.counts = summarize(array)
                value.meant = value.counts.only_neg_inf and is_causal(array)

    def _can_be_evaluated(self, each: tuple[Value, StatisticsProbe, mx.array]) -> bool:
        try:
            mx.eval(*each[1].pending)
        except UNTRACEABLE:
            self.unseen.add(each[0].name)
            return False
        return True


def _methods(kind: type) -> list[str]:
    """Return the methods that a module's class and its parents define, such as an embedding's `as_linear`."""
    found: dict[str, None] = {}
    for each in kind.__mro__[: kind.__mro__.index(nn.Module)]:
        found |= {name: None for name, value in vars(each).items() if isfunction(value) and not _is_dunder(name)}
    return list(found)


def _is_dunder(name: str) -> bool:
    return name.startswith("__")


def watch(root: Any, ids: Sequence[int], inner: Sequence[Tap] = ()) -> tuple[ModuleWatcher, mx.array]:
    """Run the model once over token ids and return what was seen and the logits as the model returned them.

    `inner` are taps of the caller's, such as a patch; what they change is seen. Raises UsageError for a model that
    returns anything but logits.
    """
    watcher = ModuleWatcher(root)
    with tapped(root, [*inner, *watcher.taps()]), fused_attention(watcher.attend):
        logits = activation_of(root(mx.array([list(ids)])))
        watcher.flush()
    if not isinstance(logits, mx.array):
        kind = type(logits).__name__
        raise UsageError(f"the model returned a {kind}; logits [batch, tokens, vocab] are needed, or first in a tuple")
    mx.eval(logits)
    return watcher, logits
