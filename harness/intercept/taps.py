"""Taps: our temporary interception of one module, for one sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from harness.intercept.swap import CALL, Handler, exchanged


@dataclass
class Tap:
    """One module, what happens when it is called, and how often it was."""

    module: Any
    handler: Handler
    fired: int = 0
    method: str = CALL
    """What is intercepted of the module: that it is called, or another of its methods."""

    def __call__(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.fired += 1
        return self.handler(call, args, kwargs)


def tapped(root: Any, taps: Sequence[Tap]) -> AbstractContextManager[Callable[[], None]]:
    """Put every tap in place for the duration of a block, with `safe_point` for the caller's own long steps.

    Several taps on one module nest, the first innermost. Whatever ends the block, every module gets its class back.
    Raises TapError when `root` is tapped already.
    """
    return exchanged(root, [(tap.module, tap, tap.method) for tap in taps], sweep=True)


def output_changed(root: Any, change: Callable[[Any], Any]) -> AbstractContextManager[Callable[[], None]]:
    """Let a model return `change(output)` for the duration of a block, to whoever calls it.

    Unlike a tap this is no business of one sweep: a model so changed can be tapped, by any engine.
    """
    return exchanged(root, [(root, lambda call, args, kwargs: change(call(*args, **kwargs)))])
