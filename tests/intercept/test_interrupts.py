"""Ctrl-C while classes are exchanged: real signals, at every moment, leave no changed model and no foreign handler."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import pytest
from toy_model import IDS, ToyBlock, loaded, portrait

from harness.diagnosis.comparisons import bare
from harness.diagnosis.zoo.injection import _calls
from harness.diagnosis.zoo.surgery import input_of
from harness.engines import ForeignEngine
from harness.engines.foreign import EngineRequest, hear
from harness.intercept import Tap, output_changed, record, tapped
from harness.intercept.hookpoints import point
from harness.intercept.interrupts import deferred, let_through
from harness.intercept.observer import watched
from harness.laws.afterwards import _ask_telling
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


def test_let_through_lets_one_signal_interrupt_and_holds_the_next_one():
    def interrupted_twice():
        try:
            signal.raise_signal(signal.SIGINT)
            reached.append("the line after the first")
        finally:
            signal.raise_signal(signal.SIGINT)
            reached.append("the line after the second")

    reached = []
    with deferred() as safe_point:
        with pytest.raises(KeyboardInterrupt), let_through():
            interrupted_twice()
        reached.append("after the block")
        with pytest.raises(KeyboardInterrupt):
            safe_point()
    assert reached == ["the line after the second", "after the block"]


def test_after_let_through_signals_are_held_back_again():
    with deferred() as safe_point:
        with let_through():
            pass
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            safe_point()


def test_let_through_lets_a_held_signal_through():
    reached = []
    with deferred():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), let_through():
            reached.append("the block")
    assert not reached


def test_a_thread_does_not_let_through_what_the_main_thread_holds_back():
    def work():
        with let_through():
            entered.set()
            leave.wait(20)

    entered, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    with deferred() as safe_point:
        thread.start()
        assert entered.wait(20)
        signal.raise_signal(signal.SIGINT)
        leave.set()
        thread.join()
        with pytest.raises(KeyboardInterrupt):
            safe_point()


def test_a_sigint_interrupts_the_code_of_a_foreign_engine_at_once(toy):
    def asked(request):
        signal.raise_signal(signal.SIGINT)
        reached.append("the engine's next line")

    reached, before = [], portrait(toy)
    engine = ForeignEngine("theirs", "planted", metrics=frozenset({"l2"}), ask=asked)
    with pytest.raises(KeyboardInterrupt):
        hear(engine, EngineRequest(toy, None, IDS, IDS, "mlp", (0,), "l2"))
    assert not reached
    assert portrait(toy) == before


class Slow(nn.Module):
    """A module whose own code never comes to a safe point."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.signals = inner, 0

    def __call__(self, x: mx.array) -> mx.array:
        while self.signals:
            self.signals -= 1
            time.sleep(0.01)
            signal.raise_signal(signal.SIGINT)
        return self.inner(x)


@pytest.mark.parametrize("tap", ["block", "another block", "model"])
def test_the_second_sigint_goes_through_a_slow_forward_pass(toy, tap):
    slow = toy.layers[1].mlp = Slow(toy.layers[1].mlp)
    before, classes = portrait(toy), [type(module) for _, module in toy.named_modules()]
    module = {"block": toy.layers[1], "another block": toy.layers[0], "model": toy}[tap]
    slow.signals = 5
    with pytest.raises(KeyboardInterrupt), tapped(toy, [Tap(module, untouched)]):
        toy(mx.array([IDS]))
    assert slow.signals == 3
    slow.signals = 0
    assert [type(module) for _, module in toy.named_modules()] == classes
    assert portrait(toy) == before


def test_the_second_sigint_waits_while_classes_are_given_back(toy):
    """Two signals in the middle of the exit: every class is given back first."""

    class Stubborn(ToyBlock):
        def __setattr__(self, name, value):
            if name == "__class__" and armed:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            super().__setattr__(name, value)

    armed = False
    toy.layers = [toy.layers[0], Stubborn(5), toy.layers[2]]
    classes = [type(module) for _, module in toy.named_modules()]
    with pytest.raises(KeyboardInterrupt), tapped(toy, [Tap(layer, untouched) for layer in toy.layers]):
        armed = True
    assert [type(module) for _, module in toy.named_modules()] == classes


def tapping(toy):
    with tapped(toy, [Tap(toy.layers[0], untouched), Tap(toy.layers[0].mlp, untouched)]):
        toy.layers[0](toy.embedding[None])


def changing_the_output(toy):
    with output_changed(toy, lambda out: 2 * out):
        toy(mx.array([IDS]))


def watching_an_engine(toy):
    with watched(toy), let_through():
        toy.layers[0](toy.embedding[None])


def disturbing_an_engine(toy):
    asked = SimpleNamespace(model=SimpleNamespace(module=toy), ask=lambda: toy.layers[0](toy.embedding[None]))
    _ask_telling(asked, lambda number: None)


def asking_a_function(toy):
    bare(toy, IDS)


def looking_for_an_input(toy):
    input_of(toy, "layers.0.mlp", IDS)


def looking_for_all_inputs(toy):
    _calls(toy, IDS)


USERS = (tapping, changing_the_output, watching_an_engine, disturbing_an_engine, asking_a_function,
         looking_for_an_input, looking_for_all_inputs)  # fmt: skip


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.parametrize("use", USERS, ids=lambda use: use.__name__)
def test_a_sigint_at_every_bytecode_of_the_interception_leaks_nothing(toy, use, signals):
    """Python runs a handler between two bytecodes; this tries every such place of exchanging and giving back."""
    toy.layers = toy.layers[:1]
    before, places = portrait(toy), 0
    classes = [type(module) for _, module in toy.named_modules()]
    while _interrupted_at(places, toy, use, signals):
        places += 1
        left = sum(type(module) is not kind for kind, (_, module) in zip(classes, toy.named_modules(), strict=True))
        assert not left, f"{left} modules changed at bytecode {places}"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, f"handler lost at bytecode {places}"
    assert places > 100
    assert portrait(toy) == before


def _interrupted_at(place: int, toy, use, signals: int) -> bool:
    """Use the interception with SIGINTs at the given bytecode; say whether there was such a bytecode."""
    count = -1

    def trace(frame, event, arg):
        nonlocal count
        if not any(part in frame.f_code.co_filename for part in ("harness/intercept/", "contextlib.py")):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            count += 1
            if count == place:
                for _ in range(signals):
                    signal.raise_signal(signal.SIGINT)
        return trace

    old = sys.gettrace()
    try:
        sys.settrace(trace)
        use(toy)
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


def watch_and_let_go(model) -> None:
    with watched(model.module), let_through():
        pass


@pytest.mark.parametrize("work", [sweep, tap_and_let_go, watch_and_let_go], ids=lambda work: work.__name__)
def test_hundreds_of_interrupts_at_random_moments_leak_nothing(toy, work):
    before, model, chance = portrait(toy), loaded(toy), random.Random(7)
    classes = [type(module) for _, module in toy.named_modules()]
    for _ in range(300):
        with pytest.raises(KeyboardInterrupt):
            _repeat_until_interrupted(work, model, chance.uniform(0, 0.002))
        assert [type(module) for _, module in toy.named_modules()] == classes
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


HANGING = """
import signal, sys, time
import mlx.core as mx
sys.path.insert(0, {tests!r})
from toy_model import IDS, Toy, portrait
from harness.intercept import Tap, tapped

class Hanging(type(Toy().layers[0].mlp)):
    def __call__(self, x):
        if self.training:
            print("inside", flush=True)
            while True:
                time.sleep(0.05)
        return super().__call__(x)

signal.signal(signal.SIGINT, signal.default_int_handler)
toy = Toy()
toy.layers[1].mlp = Hanging(3)
toy.layers[1].mlp.train(False)
before, classes = portrait(toy), [type(module) for _, module in toy.named_modules()]
toy.layers[1].mlp.train(True)
try:
    with tapped(toy, [Tap(layer, lambda call, args, kwargs: call(*args, **kwargs)) for layer in toy.layers]):
        toy(mx.array([IDS]))
except KeyboardInterrupt:
    toy.layers[1].mlp.train(False)
    print(portrait(toy) == before, [type(module) for _, module in toy.named_modules()] == classes)
"""


def test_a_process_ends_at_its_second_ctrl_c_with_its_model_as_it_was():
    code = HANGING.format(tests=str(Path(__file__).parent))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "True True\n"
