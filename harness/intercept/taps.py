"""Taps: our temporary interception of one module.

Python looks `__call__` up on the class, so setting it on an instance does nothing. A tap gives the instance another
class, a subclass of its own made for this one tap: parameters, `isinstance` and `in` stay as they are, and giving the
old class back undoes it exactly. A tapped model serves one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.intercept.interrupts import deferred
from harness.vocabulary.errors import TapError

Handler = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Called instead of the module with (the module's own call, args, kwargs); returns what the caller gets."""


@dataclass
class Tap:
    """One module, what happens when it is called, and how often it was."""

    module: Any
    handler: Handler
    fired: int = 0


@contextmanager
def tapped(root: Any, taps: Sequence[Tap]) -> Iterator[Callable[[], None]]:
    """Put every tap in place for the duration of the block, and yield `safe_point` for the caller's own long steps.

    Several taps on one module nest, the first innermost. Whatever ends the block, every module gets its class back.
    Raises TapError when `root` is tapped already.
    """
    with deferred() as safe_point:
        _refuse_tapped(root)
        originals: list[tuple[Any, type]] = []
        try:
            for tap in taps:
                originals.append((tap.module, type(tap.module)))
                tap.module.__class__ = _subclass(tap, safe_point)
            yield safe_point
        finally:
            for module, original in reversed(originals):
                # One that refused its tap would refuse this as well, and keep the others from getting theirs back.
                if type(module) is not original:
                    module.__class__ = original


def _subclass(tap: Tap, safe_point: Callable[[], None]) -> type:
    original = type(tap.module)

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807  the name Python looks up
        safe_point()
        tap.fired += 1
        return tap.handler(lambda *a, **k: original.__call__(self, *a, **k), args, kwargs)

    return type(original.__name__, (original,), {"__call__": __call__, "_harness_tap": True})


def _refuse_tapped(root: Any) -> None:
    for name, module in root.named_modules():
        if getattr(type(module), "_harness_tap", False):
            raise TapError(f"{name or 'the model'} is tapped already; a model serves one sweep at a time")


@contextmanager
def output_changed(root: Any, change: Callable[[Any], Any]) -> Iterator[None]:
    """Let a model return `change(output)` for the duration of the block, to whoever calls it.

    Unlike a tap this is no business of one sweep: a model so changed can be tapped, by any engine.
    """
    original = type(root)

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807  the name Python looks up
        return change(original.__call__(self, *args, **kwargs))

    with deferred():
        _refuse_tapped(root)
        try:
            root.__class__ = type(original.__name__, (original,), {"__call__": __call__})
            yield
        finally:
            root.__class__ = original
