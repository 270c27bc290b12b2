"""What is going on right now, for whoever wants to know.

Loading a model and walking a sweep take seconds and say so here; a screen that shows progress listens, and without a
listener nothing happens. Whoever works needs to know nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str, int, int], None]
"""Called with (what, done, total); a total of 0 means that nobody knows."""

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


def say(what: str, done: int = 0, total: int = 0) -> None:
    """Tell the listener, if there is one."""
    if listener := _LISTENER.get():
        listener(what, done, total)


def listener() -> Listener:
    """Return who listens here: a thread started now would hear nobody."""
    return _LISTENER.get() or (lambda what, done, total: None)


def over(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the items and tell how many of them are done."""
    for done, item in enumerate(items):
        say(what, done, total)
        yield item
    say(what, total, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` with whatever is said inside the block."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)
