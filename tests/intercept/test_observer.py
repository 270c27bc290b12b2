"""Every forward pass of a model is noted, and what its modules return, whatever an engine puts on it meanwhile."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from toy_model import IDS, Toy, portrait

from harness.intercept.observer import watched

CALLED = ["layers.0.mlp", "layers.0", "layers.1.mlp", "layers.1", "layers.2.mlp", "layers.2"]


def ran(toy: Toy, *prompts: tuple[int, ...], calls: bool = True):
    with watched(toy, calls) as watch:
        out = toy(mx.array(prompts))
    return watch.seen, out


def residuals(toy: Toy, ids: tuple[int, ...]) -> list[np.ndarray]:
    """What every module returns, `[tokens, width]`, computed apart."""
    x, found = np.array(toy.embedding)[list(ids)], []
    for layer in toy.layers:
        found += [x @ np.array(layer.mlp.weight), x + x @ np.array(layer.mlp.weight)]
        x = found[-1]
    return found


def test_a_run_holds_what_each_module_returned_in_order(toy):
    (run,), out = ran(toy, IDS)
    assert run.ids == IDS
    assert np.array_equal(run.logits, out[0, -1])
    assert [call.module for call in run.calls] == CALLED
    assert {call.dtype for call in run.calls} == {"float32"}
    for call, value in zip(run.calls, residuals(toy, IDS), strict=True):
        assert call.size == pytest.approx(np.abs(value).sum(), rel=1e-5)
        assert call.last == pytest.approx(np.abs(value[-1]).sum(), rel=1e-5)


def test_modules_are_noted_only_where_they_are_asked_for(toy):
    (run,), _ = ran(toy, IDS, calls=False)
    assert run.calls == ()
    assert len(run.stages) == len(toy.layers) + 1


def test_a_batch_gives_one_run_a_prompt_and_no_calls(toy):
    """A sum over several prompts is none of theirs."""
    other = (3, 2, 1)
    runs, out = ran(toy, IDS, other)
    assert [run.ids for run in runs] == [IDS, other]
    assert np.array_equal(runs[1].logits, out[1, -1])
    assert [run.calls for run in runs] == [(), ()]


def test_a_module_called_between_two_runs_belongs_to_neither(toy):
    with watched(toy, calls=True) as watch:
        toy(mx.array([IDS]))
        toy.layers[0](mx.ones((1, 2, 4)))
        toy(mx.array([IDS]))
    assert [[call.module for call in run.calls] for run in watch.seen] == [CALLED, CALLED]


def test_the_first_module_of_another_dtype_is_the_one_that_was_patched(toy):
    toy.set_dtype(mx.float16)
    with watched(toy, calls=True) as watch:
        noting = type(toy.layers[1])
        widened = {"__call__": lambda self, x: noting.__call__(self, x).astype(mx.float32)}
        toy.layers[1].__class__ = type("Widened", (noting,), widened)
        toy(mx.array([IDS]))
    assert [call.dtype for call in watch.seen[0].calls] == ["float16"] * 4 + ["float32"] * 2


def test_a_model_without_a_list_of_blocks_shows_its_runs(toy):
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(8, 4), nn.Linear(4, 8)

        def __call__(self, ids: mx.array) -> mx.array:
            return self.head(self.embed(ids))

    (run,), _ = ran(Flat(), IDS)
    assert [call.module for call in run.calls] == ["embed", "head"]
    assert len(run.stages) == 1


@pytest.mark.parametrize("calls", [False, True])
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_model_is_afterwards_what_it_was(toy, calls, error):
    before = portrait(toy)
    try:
        with watched(toy, calls):
            toy(mx.array([IDS]))
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert portrait(toy) == before


@pytest.mark.parametrize("calls", [False, True])
def test_a_class_that_an_engine_left_stays_unless_every_module_is_noted(toy, calls):
    own = type(toy.layers[1])
    with watched(toy, calls):
        left = toy.layers[1].__class__ = type("Left", (type(toy.layers[1]),), {})
        toy(mx.array([IDS]))
    assert type(toy.layers[1]) is (own if calls else left)
