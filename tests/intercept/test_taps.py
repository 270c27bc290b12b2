"""A tap sees every call of one module, and the model is afterwards what it was, whatever ended the block."""

from __future__ import annotations

import threading

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from toy_model import IDS, Gain, Toy, portrait

from harness.intercept import Tap, output_changed, tapped
from harness.vocabulary.errors import TapError


def doubled(call, args, kwargs):
    return 2 * call(*args, **kwargs)


def untouched(call, args, kwargs):
    return call(*args, **kwargs)


def taps_on(toy: Toy, handler=untouched) -> list[Tap]:
    return [Tap(layer, handler) for layer in toy.layers] + [Tap(layer.mlp, handler) for layer in toy.layers]


def logits(toy: Toy) -> np.ndarray:
    return np.array(toy(mx.array([IDS])))


def test_a_tap_handles_the_call_and_counts_it(toy):
    bare, tap = logits(toy), Tap(toy.layers[0].mlp, doubled)
    with tapped(toy, [tap]):
        changed = logits(toy)
    x = np.array(toy.embedding)[list(IDS)]
    for layer, factor in zip(toy.layers, (2, 1, 1), strict=True):
        x = x + factor * x @ np.array(layer.mlp.weight)
    np.testing.assert_allclose(changed[0], x @ np.array(toy.head), rtol=1e-5)
    assert tap.fired == 1
    assert not np.array_equal(changed, bare)


def test_inside_the_block_the_model_looks_the_same(toy):
    names = [name for name, _ in tree_flatten(toy.parameters())]
    with tapped(toy, taps_on(toy)):
        assert [name for name, _ in tree_flatten(toy.parameters())] == names
        assert isinstance(toy.layers[1].mlp, Gain)
        assert isinstance(toy.layers[1].mlp, nn.Module)
        assert toy.layers[0] in toy.layers
        assert "weight" in toy.layers[1].mlp
        assert type(toy.layers[1].mlp).__name__ == "Gain"
        assert type(toy.layers[1].mlp) is not Gain


def test_after_success_the_model_is_what_it_was(toy):
    before = portrait(toy)
    with tapped(toy, taps_on(toy, doubled)):
        logits(toy)
    assert portrait(toy) == before
    assert type(toy.layers[1].mlp) is Gain


@pytest.mark.parametrize("layer", [0, 1, 2], ids="layer{}".format)
def test_after_an_exception_the_model_is_what_it_was(toy, layer):
    before = portrait(toy)

    def fails(call, args, kwargs):
        raise RuntimeError("planted")

    taps = taps_on(toy)
    taps[layer] = Tap(toy.layers[layer], fails)
    with pytest.raises(RuntimeError, match="planted"), tapped(toy, taps):
        logits(toy)
    assert portrait(toy) == before


def test_after_a_failure_to_tap_the_model_is_what_it_was(toy):
    before = portrait(toy)
    with pytest.raises(TypeError), tapped(toy, [*taps_on(toy), Tap(object(), untouched)]):
        pass
    assert portrait(toy) == before


def test_taps_on_one_module_nest_with_the_first_innermost(toy):
    order = []

    def noting(name):
        def handler(call, args, kwargs):
            order.append(f"{name} in")
            out = call(*args, **kwargs)
            order.append(f"{name} out")
            return out

        return handler

    with tapped(toy, [Tap(toy.layers[0].mlp, noting("first")), Tap(toy.layers[0].mlp, noting("second"))]):
        logits(toy)
    assert order == ["second in", "first in", "first out", "second out"]
    assert type(toy.layers[0].mlp) is Gain


def test_a_tapped_model_refuses_a_second_tap_and_keeps_the_first(toy):
    before, tap = portrait(toy), Tap(toy.layers[2].mlp, untouched)
    with tapped(toy, [tap]):
        with (
            pytest.raises(TapError, match=r"layers\.2\.mlp is tapped already"),
            tapped(toy, [Tap(toy.layers[0], untouched)]),
        ):
            pass
        assert type(toy.layers[0]).__name__ == "ToyBlock"
        logits(toy)
    assert tap.fired == 1
    assert portrait(toy) == before


def test_another_thread_may_tap(toy):
    before, fired = portrait(toy), []

    def work():
        tap = Tap(toy.layers[0].mlp, doubled)
        with tapped(toy, [tap]):
            logits(toy)
        fired.append(tap.fired)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert fired == [1]
    assert portrait(toy) == before


def test_a_changed_output_reaches_whoever_calls_and_leaves_nothing_behind():
    model = Toy()
    before, plain = portrait(model), model(mx.array([IDS]))
    with output_changed(model, lambda out: 2 * out):
        assert isinstance(model, Toy)
        assert mx.array_equal(model(mx.array([IDS])), 2 * plain)
        with tapped(model, []):
            assert mx.array_equal(model(mx.array([IDS])), 2 * plain)
    assert portrait(model) == before


def test_a_changed_output_is_undone_when_the_block_fails():
    model = Toy()
    with pytest.raises(RuntimeError, match="planted"), output_changed(model, lambda out: 2 * out):
        raise RuntimeError("planted")
    assert type(model) is Toy


def test_the_output_of_a_tapped_model_is_not_changed():
    model = Toy()
    with (
        tapped(model, [Tap(model.layers[0], untouched)]),
        pytest.raises(TapError, match="tapped already"),
        output_changed(model, lambda out: out),
    ):
        pass
