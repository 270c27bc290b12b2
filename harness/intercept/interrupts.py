"""Ctrl-C that waits for a safe moment.

A KeyboardInterrupt can land between any two bytecodes, also between the line that changes a model and the line that
notes the change, and also on entering a context manager's exit; a context manager alone therefore leaks. Inside
`deferred()` the signal only sets a flag. The flag is looked at where stopping is safe: at `safe_point()`, and on the
way out, after the model is restored.

A forward pass may hang between two safe points. A second signal therefore goes through at once, unless the stack shows
that classes are being exchanged or given back just then: in this package's own code, or on the way into or out of a
context manager.

Somebody else's code has no safe points. `let_through()`, entered inside `deferred()`, lets one signal interrupt it at
once. Its own exit may be interrupted; that of `deferred()` around it may not, since every further signal is held back.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


@contextmanager
def deferred() -> Iterator[Callable[[], None]]:
    """Hold SIGINT back and yield `safe_point`, which lets a held one through to the handler that was there before.

    A second one ends what runs inside the block at once; the block's own entry and exit are never interrupted.
    Outside the main thread, where Python never delivers a signal, nothing needs holding back.
    """
    previous = signal.getsignal(signal.SIGINT)
    if not _signals_arrive() or not callable(previous):
        yield lambda: None
        return
    held = _Held(previous)
    try:
        signal.signal(signal.SIGINT, held.note)
        yield held.safe_point
    finally:
        signal.signal(signal.SIGINT, previous)
        held.safe_point()


@contextmanager
def let_through() -> Iterator[None]:
    """Let the next SIGINT, or one already held back, through `deferred()` at once; those after it are held as before.

    Belongs in a `with` statement of its own inside the block of the context manager that holds SIGINT back.
    """
    held = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if not _signals_arrive() or not isinstance(held, _Held):
        yield
        return
    try:
        held.open = True
        held.safe_point()
        yield
    finally:
        held.open = False


def _signals_arrive() -> bool:
    return threading.current_thread() is threading.main_thread()


def _exchanging(frame: FrameType | None) -> bool:
    """Return whether a stack is inside the code that exchanges classes: an exception there could leave one behind."""
    while frame is not None:
        code = frame.f_code
        if code.co_name in ("__enter__", "__exit__") or (code.co_filename in _OURS and code.co_name not in _PASSING):
            return True
        frame = frame.f_back
    return False


_OURS = (__file__, str(Path(__file__).with_name("swap.py")), contextlib.__file__)
"""The files of that code."""
_PASSING = ("__call__", "intercepted")
"""The functions of a tapped module in them, which only pass a call on."""


class _Held:
    def __init__(self, previous: Callable[[int, Any], Any]):
        self.previous = previous
        self.pending = self.open = False

    def note(self, signum: int, frame: FrameType | None) -> None:
        urgent, self.pending = self.pending, True
        if self.open or (urgent and not _exchanging(frame)):
            self.open = False
            self.safe_point()

    def safe_point(self) -> None:
        if self.pending:
            self.pending = False
            self.previous(signal.SIGINT, None)
