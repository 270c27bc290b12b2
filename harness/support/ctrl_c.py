"""Ctrl-C told from a KeyboardInterrupt that somebody's code raises: the one ends a run, the other is an answer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

_TOLD: ContextVar[bool] = ContextVar("_TOLD", default=False)


class CtrlC(KeyboardInterrupt):
    """What a signal raises inside `told_apart()`."""


@contextmanager
def told_apart() -> Iterator[None]:
    """Let SIGINT raise CtrlC. A handler of somebody's own stays, and then nothing is told apart."""
    before = signal.getsignal(signal.SIGINT)
    usual = before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    told = _TOLD.set(usual or before in (signal.SIG_IGN, raise_ctrl_c))
    try:
        if usual:
            signal.signal(signal.SIGINT, raise_ctrl_c)
        yield
    finally:
        if usual:
            signal.signal(signal.SIGINT, before)
        _TOLD.reset(told)


def raise_ctrl_c(signum: int, frame: FrameType | None) -> None:
    """The handler of a signal that ends a run."""
    raise CtrlC


def is_of_code(error: BaseException) -> bool:
    """Return whether a KeyboardInterrupt is known to come from no signal."""
    chain: list[BaseException | None] = [error]
    while (last := chain[-1]) is not None and last not in chain[:-1]:
        if isinstance(last, CtrlC):
            return False
        chain.append(last.__cause__ or last.__context__)
    return _TOLD.get()
