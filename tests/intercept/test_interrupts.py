"""Ctrl-C during a tap: real signals, at every moment, never leave a tapped model or a foreign handler behind."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time

import mlx.core as mx
import mlx.nn as nn
import pytest
from toy_model import IDS, loaded, portrait

from harness.intercept import Tap, record, tapped
from harness.intercept.hookpoints import point
from harness.intercept.interrupts import deferred
from harness.models.architectures import Architecture
from harness.patching import walk
from harness.vocabulary import Question, Sweep, Tokens

QUESTION = Question(Tokens((1, 2, 3), ("a", "b", "c")), Tokens((4, 2, 3), ("d", "b", "c")), Sweep(("mlp",)), ("l2",))


class Trap(nn.Module):
    """Sends the process a real SIGINT while it is called, once armed."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.armed = inner, False

    def __call__(self, x: mx.array) -> mx.array:
        if self.armed:
            self.armed = False
            signal.raise_signal(signal.SIGINT)
        return self.inner(x)


@pytest.fixture(autouse=True)
def handler():
    """The handler that was there before is there afterwards; a shell may have started us with SIGINT ignored."""
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    after = signal.signal(signal.SIGINT, ours)
    assert after is signal.default_int_handler


def untouched(call, args, kwargs):
    return call(*args, **kwargs)


@pytest.mark.parametrize("layer", [0, 2], ids=["first layer", "last layer"])
def test_a_sigint_in_a_forward_ends_it_and_leaves_the_model_as_it_was(toy, layer):
    trap = toy.layers[layer].mlp = Trap(toy.layers[layer].mlp)
    before = portrait(toy)
    points = [point(block, i, "mlp", Architecture()) for i, block in enumerate(toy.layers)]
    trap.armed = True
    with pytest.raises(KeyboardInterrupt):
        record(loaded(toy), IDS, points)
    assert portrait(toy) == before


def test_a_sigint_stops_at_the_next_tap_not_at_the_end(toy):
    trap = toy.layers[0].mlp = Trap(toy.layers[0].mlp)
    last = Tap(toy.layers[2], untouched)
    trap.armed = True
    with pytest.raises(KeyboardInterrupt), tapped(toy, [Tap(toy.layers[1], untouched), last]):
        toy(mx.array([IDS]))
    assert last.fired == 0


def test_a_sigint_and_an_exception_together_end_as_an_interrupt(toy):
    def fails(call, args, kwargs):
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("planted")

    before = portrait(toy)
    with pytest.raises(KeyboardInterrupt), tapped(toy, [Tap(toy.layers[0], fails)]):
        toy(mx.array([IDS]))
    assert portrait(toy) == before


def test_a_handler_of_the_caller_is_called_once_and_kept(toy, handler):
    calls = []
    signal.signal(signal.SIGINT, lambda signum, frame: calls.append(signum))
    try:
        mine = signal.getsignal(signal.SIGINT)
        with tapped(toy, [Tap(toy.layers[0], untouched)]):
            signal.raise_signal(signal.SIGINT)
            assert calls == []
            toy(mx.array([IDS]))
            assert calls == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is mine
        assert calls == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, handler)


def test_an_ignored_sigint_stays_ignored(toy, handler):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with tapped(toy, [Tap(toy.layers[0], untouched)]):
            signal.raise_signal(signal.SIGINT)
            toy(mx.array([IDS]))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)


def test_deferred_holds_a_signal_back_until_it_is_asked_for():
    with deferred() as safe_point:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            safe_point()
        safe_point()  # what was let through once is not let through again


def test_a_sigint_at_every_bytecode_of_the_interception_leaks_nothing(toy):
    """Python runs a handler between two bytecodes; this tries every such place of entering and leaving a tap."""
    before, places = portrait(toy), 0
    while _interrupted_at(places, toy):
        places += 1
        assert type(toy.layers[0]).__name__ == "ToyBlock"
        assert not hasattr(type(toy.layers[0]), "_harness_tap"), f"leaked at bytecode {places}"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, f"handler lost at bytecode {places}"
    assert places > 100
    assert portrait(toy) == before


def _interrupted_at(place: int, toy) -> bool:
    """Run one tapped forward with a SIGINT at the given bytecode; say whether there was such a bytecode."""
    count = -1

    def trace(frame, event, arg):
        nonlocal count
        name = frame.f_code.co_filename
        if not name.endswith(("taps.py", "interrupts.py", "contextlib.py")) or frame.f_code.co_name == _here:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            count += 1
            if count == place:
                signal.raise_signal(signal.SIGINT)
        return trace

    _here = "_interrupted_at"
    old = sys.gettrace()
    try:
        sys.settrace(trace)
        with tapped(toy, [Tap(toy.layers[0], untouched), Tap(toy.layers[1], untouched)]):
            toy.layers[0](toy.embedding[None])
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(old)
    assert count < place, "a SIGINT was swallowed"
    return False


def sweep(model) -> None:
    list(walk(model, QUESTION).patched)


def tap_and_let_go(model) -> None:
    with tapped(model.module, [Tap(layer, untouched) for layer in model.module.layers]):
        pass


@pytest.mark.parametrize("work", [sweep, tap_and_let_go], ids=lambda work: work.__name__)
def test_hundreds_of_interrupts_at_random_moments_leak_nothing(toy, work):
    before, model, chance = portrait(toy), loaded(toy), random.Random(7)
    for _ in range(300):
        with pytest.raises(KeyboardInterrupt):
            _repeat_until_interrupted(work, model, chance.uniform(0, 0.002))
        assert not any(hasattr(type(child), "_harness_tap") for _, child in toy.named_modules())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert portrait(toy) == before


def _repeat_until_interrupted(work, model, delay: float) -> None:
    def send():
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGINT)

    # Python drops an exception that arises while it collects garbage, a KeyboardInterrupt too. That is not ours to
    # mend, but the model has to be whole all the same.
    dropped: list[object] = []
    sender, deadline, hook = threading.Thread(target=send), time.monotonic() + 20, sys.unraisablehook
    sys.unraisablehook = lambda what: dropped.append(what) if what.exc_type is KeyboardInterrupt else hook(what)
    try:
        sender.start()
        while time.monotonic() < deadline and not dropped:
            work(model)
    finally:
        sender.join()
        sys.unraisablehook = hook
    if dropped:
        raise KeyboardInterrupt
    raise AssertionError("the interrupt was swallowed")
