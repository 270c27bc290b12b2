"""Exchanging a module's class: how the harness changes what a module does when it is called.

Python looks `__call__` up on the class, so setting it on an instance does nothing. The instance is given another class,
a subclass of its own made for this one time: parameters, `isinstance` and `in` stay as they are, and giving the old
class back undoes it exactly. A model whose classes are exchanged serves one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from harness.intercept.interrupts import deferred
from harness.vocabulary.errors import TapError

CALL = "__call__"
Handler = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Called instead of the module with (the module's own call, args, kwargs); returns what the caller gets."""


@contextmanager
def exchanged(
    root: Any,
    handlers: Iterable[tuple[Any, Handler] | tuple[Any, Handler, str]],
    *,
    sweep: bool = False,
    watching: bool = False,
) -> Iterator[Callable[[], None]]:
    """Let a handler stand for each module's call, or for a method of it that is named, for the duration of the block.

    Several handlers of one module nest, the first innermost. However the block ends, and also when a module further on
    cannot be changed, every class is given back, the last one first. Ctrl-C is held back meanwhile and let through
    whenever a changed module is called, and at `safe_point`, which is yielded; `interrupts.let_through` is for a block
    of somebody else's code.

    With `sweep`, no other sweep may start on `root` before the block ends. `watching` is for a block in which somebody
    else's engine patches the model: a model it holds is not refused, and a class it leaves on top of ours stays, so
    that a comparison of the model with what it was shows it. Otherwise raises TapError when a sweep holds `root`.
    """
    with deferred() as safe_point, ExitStack() as changed:
        if not watching:
            _refuse_tapped(root)
        for module, handler, *method in handlers:
            original, ours = type(module), _subclass(type(module), handler, safe_point, sweep, *method)
            _give(module, ours)
            changed.callback(_give_back, module, original, ours if watching else None)
        yield safe_point


def plant(module: Any, handler: Handler) -> None:
    """Let a handler stand for a module's call for good. Raises TapError when a sweep holds the module."""
    _refuse_tapped(module)
    _give(module, _subclass(type(module), handler))


def _subclass(
    original: type,
    handler: Handler,
    safe_point: Callable[[], None] = lambda: None,
    sweep: bool = False,
    method: str = CALL,
) -> type:
    def intercepted(self: Any, *args: Any, **kwargs: Any) -> Any:
        safe_point()
        return handler(partial(getattr(original, method), self), args, kwargs)

    mark = {"_harness_tap": True} if sweep else {}
    return type(original.__name__, (original,), {method: intercepted, **mark})


def _refuse_tapped(root: Any) -> None:
    for name, module in root.named_modules():
        if getattr(type(module), "_harness_tap", False):
            raise TapError(f"{name or 'the model'} is tapped already; a model serves one sweep at a time")


def _give_back(module: Any, original: type, only: type | None) -> None:
    if only is None or type(module) is only:
        _give(module, original)


def _give(module: Any, kind: type) -> None:
    module.__class__ = kind
