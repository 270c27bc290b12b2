"""Ctrl-C that waits for a safe moment.

A KeyboardInterrupt can land between any two bytecodes, also between the line that changes a model and the line that
notes the change; a context manager alone therefore leaks. Inside `deferred()` the signal only sets a flag. The flag is
looked at where stopping is safe: at `safe_point()`, and on the way out, after the model is restored.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred() -> Iterator[Callable[[], None]]:
    """Hold SIGINT back and yield `safe_point`, which lets a held one through to the handler that was there before.

    Outside the main thread, where Python never delivers a signal, nothing needs holding back.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield lambda: None
        return
    held = _Held(previous)
    try:
        signal.signal(signal.SIGINT, held.note)
        yield held.safe_point
    finally:
        signal.signal(signal.SIGINT, previous)
        held.safe_point()


class _Held:
    def __init__(self, previous: Callable[[int, Any], Any]):
        self.previous = previous
        self.pending = False

    def note(self, signum: int, frame: Any) -> None:
        self.pending = True

    def safe_point(self) -> None:
        if self.pending:
            self.pending = False
            self.previous(signal.SIGINT, None)
