"""`positions="each"`: a layer x position grid, known in closed form, as a notebook sees it."""

from __future__ import annotations

import pytest

from harness import InterpretableModel
from harness.models import bundled, load
from harness.vocabulary import Curve, Reading, State

PROMPTS = {"clean_text": "anna likes to drink", "corrupted_text": "bert likes to drink"}


@pytest.fixture(scope="module")
def circuit():
    loaded = load(bundled()["circuit-llama-2k-f32"])
    return InterpretableModel(loaded.module, tokenizer=loaded.tokenizer)


def test_a_grid_is_a_mapping_from_layer_and_position(circuit):
    grid = circuit.activation_patching(**PROMPTS, component="resid_pre", positions="each")
    assert list(grid)[:5] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    # The subject stands at position 0 until attention at layer 2 moves it to the last token.
    for layer in range(12):
        wanted = [100, 0, 0, 0] if layer <= 2 else [0, 0, 0, 100]
        assert [grid[layer, token] for token in range(4)] == pytest.approx(wanted, abs=1e-4)
    assert set(grid.states.values()) == {State.FINITE}
    assert grid.strategy == "one-pass"


def test_a_grid_of_one_layer_still_has_positions_in_its_keys(circuit):
    grid = circuit.activation_patching(**PROMPTS, component="mlp", layers=[4], positions="each")
    assert dict(grid) == pytest.approx({(4, 0): 0, (4, 1): 0, (4, 2): 0, (4, 3): 75}, abs=1e-4)
    with pytest.raises(KeyError):
        grid[4]


def test_heads_are_in_the_keys_if_there_is_only_one(circuit):
    """Two heads of queries read one of values, which carries the subject into layer 2 at position 0."""
    values = circuit.activation_patching(**PROMPTS, component="v")
    assert dict(values) == pytest.approx({(layer, 0): 100.0 * (layer == 2) for layer in range(12)}, abs=1e-4)
    grid = circuit.activation_patching(**PROMPTS, component="v", layers=[2], positions="each")
    assert dict(grid) == pytest.approx({(2, 0, 0): 100, (2, 0, 1): 0, (2, 0, 2): 0, (2, 0, 3): 0}, abs=1e-4)
    queries = circuit.activation_patching(**PROMPTS, component="q", layers=[1, 2])
    assert dict(queries) == pytest.approx(dict.fromkeys([(1, 0), (1, 1), (2, 0), (2, 1)], 0), abs=1e-4)
    assert circuit.activation_patching(**PROMPTS, component="mlp_post")[4] == pytest.approx(75, abs=1e-4)


def test_a_grid_is_drawn_as_a_heat_map_that_names_its_states(circuit):
    pytest.importorskip("matplotlib").use("Agg")
    grid = circuit.activation_patching(**PROMPTS, component="attn_out", positions="each")
    figure = grid.plot()
    image = figure.axes[0].images[0].get_array()
    assert image.shape == (12, 4)
    assert image[2, 3] == pytest.approx(100, abs=1e-4)
    assert image.sum() == pytest.approx(100, abs=1e-2)
    first, *rest = grid.curve.cells
    broken = type(first)(first.layer, first.position, Reading.absent(State.NAN), first.oracle)
    fields = {name: getattr(grid.curve, name) for name in Curve.__dataclass_fields__} | {"cells": (broken, *rest)}
    drawn = type(grid)(Curve(**fields), "one-pass").plot()
    assert [text.get_text() for text in drawn.axes[0].texts] == ["nan"]
