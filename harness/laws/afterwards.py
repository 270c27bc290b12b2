"""The model afterwards: after an answer, after an exception in its forward pass, and after Ctrl-C in it.

Bits and order of the parameters, the class of every module, the logits of a bare run and the engine's next answer must
be what they were. The signal is a real one, raised while a block runs.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

from harness.engines import ForeignEngine
from harness.intercept import forward
from harness.intercept.interrupts import let_through
from harness.intercept.swap import exchanged
from harness.laws.breach import LawBreach
from harness.laws.subject import EngineUnderTest, Fresh, Outcome
from harness.metrics.tolerances import AGAIN, Work, equal, equal_readings, same_bits, work_between
from harness.models.architectures import blocks_of
from harness.models.fingerprint import ORDER, fingerprint
from harness.support.ctrl_c import raise_ctrl_c
from harness.vocabulary.errors import DoesNotApply, described_at
from harness.vocabulary.raised import refuse_device_failure


class Planted(Exception):
    """The exception that the model's forward pass raises."""


def unchanged_after_an_answer(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """An answer leaves the model as it was."""
    return _damage(subject, subject.fresh, lambda: None, again=subject.asked == subject.declared.sample[0])


def unchanged_after_an_exception(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """An exception in the forward pass leaves the model as an answer does."""
    disturb = _in_the_last_call(subject, _raise)
    return _damage(subject, subject.state(), disturb)


def unchanged_after_ctrl_c(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """Ctrl-C in the forward pass leaves the model as an answer does."""
    if threading.current_thread() is not threading.main_thread():
        raise DoesNotApply("a signal reaches the main thread only")
    ask = _in_the_last_call(subject, _interrupt)

    def disturb() -> None:
        with _python_handles_sigint(), suppress(KeyboardInterrupt):
            ask()

    return _damage(subject, subject.state(), disturb)


def _raise() -> None:
    raise Planted("planted in the forward pass")


def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def _damage(
    subject: EngineUnderTest, before: Fresh, disturb: Callable[[], object], again: bool = True
) -> tuple[LawBreach, ...]:
    """Answer, disturb, and return what is not as it was before, by kind; a damaged model is given up.

    Another order of the same parameters is told, and no damage. `again` asks for another answer.
    """
    plain = subject.plain
    disturb()
    found = _changed(subject, before)
    if left := _left(subject):
        found["engine"] = left
    if again and not found.keys() - {ORDER} and not plain.error:
        later = subject.ask()
        if later.error:
            found["answer"] = f"it can no longer answer: {later.error}"
        elif not _agree(plain, later, subject.model.card.dtype):
            found["answer"] = "its next answer differs from the one before"
    if found.keys() - {ORDER}:
        subject.discard()
    return tuple(LawBreach(kind, text, "LAW017" if kind == ORDER else "") for kind, text in found.items())


def _changed(subject: EngineUnderTest, before: Fresh) -> dict[str, str]:
    """Return what is otherwise about the model, by kind; the logits are run where nothing that can be read differs."""
    try:
        found = before.fingerprint.differences(fingerprint(before.model.module))
        if not found.keys() - {ORDER} and not _runs_as_before(subject, before):
            found["logits"] = "a bare run of the model gives other logits than before"
    except Exception as error:  # noqa: BLE001  a model that cannot be read or run any more is the worst breach
        refuse_device_failure(error)
        return {"broken": f"the model is broken: {described_at(error)}"}
    return found


def _runs_as_before(subject: EngineUnderTest, before: Fresh) -> bool:
    """Return whether a bare run gives the bits of before.

    A machine that rounds a call otherwise now and then may have done so in either run. What differs by no more than
    that is run again, and held against a model of the same weights that no engine has seen.
    """
    runs = [forward(before.model, subject.corrupted)]
    if same_bits(before.bare, runs[0]):
        return True
    if not equal(before.bare, runs[0], Work.SAME, equal_nan=True):
        return False
    runs += [forward(before.model, subject.corrupted) for _ in range(AGAIN)]
    unseen = subject.build()
    untouched = [before.bare, *(forward(unseen, subject.corrupted) for _ in range(AGAIN))]
    return any(same_bits(one, other) for one in untouched for other in runs)


def _left(subject: EngineUnderTest) -> str | None:
    """Return what the engine keeps in its own state, and have it cleared: the next law must not pay for this one."""
    return subject.engine.left_behind() if isinstance(subject.engine, ForeignEngine) else None


def _agree(one: Outcome, other: Outcome, dtype: str) -> bool:
    work, places = work_between(one.strategy, other.strategy), {**one.numbers, **other.numbers}
    return all(equal_readings(one.numbers.get(at), other.numbers.get(at), work, dtype) for at in places)


def _in_the_last_call(subject: EngineUnderTest, act: Callable[[], None]) -> Callable[[], None]:
    """Return a way to ask while `act` happens in a block's last call of a plain answer: in a patched run, if any."""
    calls: list[int] = []
    _ask_telling(subject, calls.append)
    if not calls:
        raise DoesNotApply("the engine never calls the model's blocks")

    def tell(call: int) -> None:
        if call == calls[-1]:
            act()

    # What `act` does may send an answer another way, which says nothing of the model.
    disturbed = replace(subject, shared=replace(subject.shared, fallbacks={}))
    return partial(_ask_telling, disturbed, tell)


def _ask_telling(subject: EngineUnderTest, tell: Callable[[int], None]) -> None:
    """Ask, and tell the number of each call of a block in the middle of the model, before the block runs."""
    blocks, numbers = blocks_of(subject.model.module), count(1)

    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tell(next(numbers))
        return call(*args, **kwargs)

    with exchanged(subject.model.module, [(blocks[len(blocks) // 2], handler)], watching=True), let_through():
        subject.ask()


@contextmanager
def _python_handles_sigint() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, raise_ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
