"""The sweep against a patcher that shares no code with it: the same transformer, computed again by hand."""

from __future__ import annotations

import numpy as np
import pytest
from plain_transformer import CLEAN, COMPONENTS, CORRUPTED, LAYERS, ByHand, loaded

from harness.patching import walk
from harness.vocabulary import Direction, Question, Sweep, Tokens

POSITIONS = {"all": (0, 1, 2, 3), "last": (3,), (0,): (0,), (-1,): (3,), (3, -4): (3, 0)}


def question(sweep: Sweep) -> Question:
    clean, corrupted = (Tokens(ids, tuple(map(str, ids))) for ids in (CLEAN, CORRUPTED))
    return Question(clean, corrupted, sweep, ("l2",))


@pytest.mark.parametrize("positions", POSITIONS, ids=str)
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("strategy", ["stepwise", "one-pass"])
def test_every_cell_equals_a_computation_by_hand(plain, strategy, component, direction, positions):
    into, out_of = (CORRUPTED, CLEAN) if direction is Direction.DENOISING else (CLEAN, CORRUPTED)
    steps = walk(loaded(plain), question(Sweep((component,), None, direction, positions, strategy)))
    assert steps.strategy == strategy
    unpatched = np.array(steps.corrupted if direction is Direction.DENOISING else steps.clean)
    rows = {site.layer: np.array(row) for site, row in steps.patched}
    assert list(rows) == list(range(LAYERS))
    for layer, row in rows.items():
        wanted = ByHand(plain).patched(into, out_of, component, layer, POSITIONS[positions])
        np.testing.assert_allclose(row, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
        # A patch of a token that no later attention reads cannot reach the last one.
        if layer < LAYERS - 1 or 3 in POSITIONS[positions]:
            assert not np.array_equal(row, unpatched)


def test_the_unpatched_runs_are_the_bare_model(plain):
    steps = walk(loaded(plain), question(Sweep(("mlp",))))
    for row, ids in ((steps.clean, CLEAN), (steps.corrupted, CORRUPTED)):
        bare = ByHand(plain).patched(ids, ids, "none", 0, ())
        np.testing.assert_allclose(np.array(row), bare, rtol=0, atol=1e-6)
    assert not np.array_equal(np.array(steps.clean), np.array(steps.corrupted))


@pytest.mark.parametrize("direction", Direction)
def test_the_whole_residual_gives_the_other_run(plain, direction):
    steps = walk(loaded(plain), question(Sweep(("resid_post",), None, direction)))
    wanted = steps.clean if direction is Direction.DENOISING else steps.corrupted
    for _, row in steps.patched:
        np.testing.assert_array_equal(np.array(row), np.array(wanted))


def test_sites_name_every_cell_in_order(plain):
    steps = walk(loaded(plain), question(Sweep(("mlp", "resid_pre"), (-1, 0), positions=(0, -1))))
    names = ["layer 2 mlp, position 0,-1", "layer 0 mlp, position 0,-1"]
    names += [name.replace("mlp", "resid_pre") for name in names]
    assert [str(site) for site in steps.sites] == names
    assert [str(site) for site, _ in steps.patched] == names


def test_a_sweep_is_two_forwards_and_one_for_each_cell(plain):
    steps = walk(loaded(plain), question(Sweep(("mlp", "attn_out"), strategy="stepwise")))
    assert plain.forwards == 2
    list(steps.patched)
    assert plain.forwards == 2 + 2 * LAYERS
