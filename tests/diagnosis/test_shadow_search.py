"""The search for the blocks that need float32: the same answer as trying every block, in a few runs."""

from __future__ import annotations

import random

import mlx.core as mx
import pytest
from planting import CLEAN, behave, build, module_of, put, returning

from harness.diagnosis.trail import shadow as search
from harness.diagnosis.trail.shadow import REST, WideSets, minimal, mixed
from harness.models.fingerprint import fingerprint

LAYERS = 12


def llama():
    return build(layers=LAYERS)


def overflowing(model, *paths):
    """Let modules compute 300 x 300 on the way, which float16 does not hold."""

    def call(own, *args, **kwargs):
        out = own(*args, **kwargs)
        large = mx.zeros_like(out) + 300
        return out + 0 * (large * large)

    for path in paths:
        behave(module_of(model, path), call)
    return model


def out_of_range_from(layer):
    """The residual stream leaves float16 in a block, and stays outside."""
    model = returning(llama(), f"model.layers.{layer}", ((0, 3, 9), 6e4))
    attention = module_of(model, f"model.layers.{layer + 1}.self_attn")
    behave(attention, lambda own, *args, **kwargs: put(own(*args, **kwargs), ((0, 3, 9), 1e4)))
    return model


def healed(*paths, by):
    """A block that takes what is not finite for 0, after others that overflow."""
    model = overflowing(llama(), *paths)
    behave(module_of(model, by), lambda own, x, *more, **k: own(mx.where(mx.isfinite(x), x, 0), *more, **k))
    return model


MLP = "model.layers.{}.mlp".format
PLANTED = {
    "the stream from a block on": (lambda: out_of_range_from(3), [*range(4, LAYERS), REST]),
    "one block": (lambda: overflowing(llama(), MLP(7)), [7]),
    "the first and the last": (lambda: overflowing(llama(), MLP(0), MLP(11)), [0, 11]),
    "six apart": (lambda: overflowing(llama(), *map(MLP, (0, 2, 4, 6, 8, 10))), [0, 2, 4, 6, 8, 10]),
    "the last norm": (lambda: overflowing(llama(), "model.norm"), [REST]),
    "a block and the head": (lambda: overflowing(llama(), MLP(5), "lm_head"), [5, REST]),
    "one of two is healed": (lambda: healed(MLP(2), MLP(9), by="model.layers.4"), [9]),
    "the second is healed": (lambda: healed(MLP(2), MLP(5), by="model.layers.6"), None),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_answer_is_that_of_trying_every_block(name):
    build_it, wanted = PLANTED[name]
    model, units = build_it(), [*range(LAYERS), REST]

    def enough(kept):
        with mixed(model.module, frozenset(kept), "float16"):
            return search._finite(model.module, CLEAN)

    slowly = minimal(units, enough) if enough(units) else []
    told = []
    found = search._needed(model.module, CLEAN, "float16", lambda *about: told.append(about))
    assert found == slowly
    assert wanted is None or found == wanted
    if "healed" not in name:
        assert len(told) <= 8


def test_the_model_is_what_it_was():
    model = out_of_range_from(3)
    before = fingerprint(model.module)
    search._needed(model.module, CLEAN, "float16", lambda *about: None)
    assert before.difference(fingerprint(model.module)) is None


@pytest.mark.parametrize("seed", range(20))
def test_what_follows_from_earlier_runs_is_not_run_and_changes_no_answer(seed):
    """Random monotone rules: enough is whatever holds one of some sets."""
    chance, units = random.Random(seed), list(range(12))
    ways = [set(chance.sample(units, chance.randint(1, 4))) for _ in range(chance.randint(1, 3))]
    asked: list[frozenset[int]] = []

    def rule(kept):
        return any(way <= set(kept) for way in ways)

    def run(kept):
        asked.append(kept)
        return rule(kept)

    slowly: list[tuple[int, ...]] = []
    wanted = minimal(units, lambda kept: slowly.append(tuple(kept)) or rule(kept))
    assert minimal(units, WideSets(run, [frozenset(units)])) == wanted
    assert len(asked) == len(set(asked)) <= len(slowly)
