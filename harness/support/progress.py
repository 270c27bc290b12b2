"""What is going on right now, for whoever wants to know.

Loading a model and walking a sweep take seconds and say so here; a screen that shows progress listens, and without a
listener nothing happens. Whoever works needs to know nobody.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Phase(NamedTuple):
    """What goes on, and how much of it is done; a total of 0 means that nobody knows."""

    what: str = ""
    done: int = 0
    total: int = 0


Listener = Callable[[str, int, int], None]
"""Called with the parts of a phase."""

FOLLOWED = "harness_phase"
"""What a worker of xdist is told the file under, in which it keeps what its job does."""

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


@contextmanager
def kept_in(file: Path, name: str) -> Iterator[None]:
    """Keep what is said inside the block in a file, for another process; `name` is what goes on here.

    The last word is its first line. A file that cannot be written is nobody's trouble.
    """

    def keep(what: str, done: int, total: int) -> None:
        with suppress(OSError), file.open("r+b" if file.exists() else "wb") as out:
            out.write(f"{json.dumps([name, what, done, total])}\n".encode())

    with listening(keep):
        yield


def last_kept(file: Path) -> tuple[str, Phase] | None:
    """Return the name of what goes on in another process and what it said last; None where it said nothing yet."""
    with suppress(OSError, ValueError, TypeError):
        name, *said = json.loads(file.read_bytes().partition(b"\n")[0])
        return name, Phase(*said)
    return None
