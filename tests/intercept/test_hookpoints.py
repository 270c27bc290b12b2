"""Hook points: every name resolves to the module it promises, or fails before the first forward with the right one."""

from __future__ import annotations

import mlx.nn as nn
import numpy as np
import pytest
from toy_model import IDS, Gain, loaded

from harness import models
from harness.intercept import forward, record, replace, resolve
from harness.models.sources import miniatures
from harness.models.spec import SyntheticRow
from harness.vocabulary import Sweep
from harness.vocabulary.errors import UnknownName, UsageError

POST_NORM = ("gemma2", "gemma3_text", "olmo2")
PLAIN = ("llama", "qwen3", "gpt2")
CONFIG = {"gemma2": {"query_pre_attn_scalar": 16}, "gemma3_text": {"sliding_window_pattern": 2}}


def tiny(architecture: str):
    config = CONFIG.get(architecture, {})
    return models.load(SyntheticRow(id="tiny", source="synthetic", architecture=architecture, vocab=256, config=config))


@pytest.fixture(scope="module")
def llama():
    return tiny("llama")


def modules_at(model, *components, layers=None):
    return [point.module for point in resolve(model, Sweep(components, layers))]


@pytest.mark.parametrize("architecture", [*PLAIN, *POST_NORM])
def test_attn_out_and_mlp_out_are_what_the_block_adds_to_the_residual(architecture):
    model = tiny(architecture)
    names = ("resid_pre", "attn_out", "mlp_out", "resid_post")
    points = resolve(model, Sweep(names))
    _, kept = record(model, IDS, points)
    values = {(point.component, point.layer): np.array(kept[point][0]) for point in points}
    for layer in range(model.card.layers):
        before, attention, mlp, after = (values[name, layer] for name in names)
        assert np.abs(attention).max() > 1e-2
        assert np.abs(mlp).max() > 1e-2
        np.testing.assert_allclose(before + attention + mlp, after, rtol=0, atol=1e-5 * np.abs(after).max())


@pytest.mark.parametrize("architecture", POST_NORM)
@pytest.mark.parametrize(("added", "own"), [("attn_out", "self_attn"), ("mlp_out", "mlp")])
def test_where_a_norm_follows_the_module_the_added_value_is_not_the_modules_own(architecture, added, own):
    model = tiny(architecture)
    points = resolve(model, Sweep((added, own), (0,)))
    _, kept = record(model, IDS, points)
    assert type(points[0].module) is not type(points[1].module)
    assert not np.allclose(np.array(kept[points[0]][0]), np.array(kept[points[1]][0]), rtol=1e-2)


def test_mlp_and_its_down_projection_are_the_same_place_on_llama(llama):
    _, source = record(llama, (4, 5, 6), resolve(llama, Sweep(("mlp", "mlp.down_proj"), (1,))))
    a, b = (replace(llama, IDS, [point], source, "all") for point in source)
    assert np.array(a).tobytes() == np.array(b).tobytes()
    assert np.array(a).tobytes() != np.array(forward(llama, IDS)).tobytes()


@pytest.mark.parametrize(
    ("component", "path"),
    [
        ("self_attn", "self_attn"),
        ("attn", "self_attn"),
        ("attn_out", "self_attn"),
        ("mlp", "mlp"),
        ("mlp_out", "mlp"),
        ("mlp.gate_proj", "mlp.gate_proj"),
        ("input_layernorm", "input_layernorm"),
    ],
)
def test_a_component_is_the_module_its_name_promises(llama, component, path):
    wanted = dict(llama.module.layers[2].named_modules())[path]
    assert modules_at(llama, component, layers=(2,)) == [wanted]


@pytest.mark.parametrize("component", ["resid_pre", "resid_post", "output"])
def test_the_residual_is_the_block(llama, component):
    (point,) = resolve(llama, Sweep((component,), (2,)))
    assert point.module is llama.module.layers[2]
    assert point.is_input == (component == "resid_pre")


def test_a_dotted_path_may_count_through_a_list(toy):
    for layer in toy.layers:
        layer.experts = [Gain(1), Gain(2)]
    assert modules_at(loaded(toy), "experts.1", layers=(0,))[0] is toy.layers[0].experts[1]
    with pytest.raises(UsageError, match=r"no module 'experts\.2'; did you mean 'experts\.[01]'\?"):
        modules_at(loaded(toy), "experts.2")


def test_components_come_in_order_and_layers_within_them(llama):
    points = resolve(llama, Sweep(("mlp", "attn"), (2, 0)))
    assert [(point.component, point.layer) for point in points] == [("mlp", 2), ("mlp", 0), ("attn", 2), ("attn", 0)]


def test_negative_layers_count_from_the_end(llama):
    assert [point.layer for point in resolve(llama, Sweep(("mlp",), (-1, -4, 1)))] == [3, 0, 1]


@pytest.mark.parametrize(
    ("sweep", "error", "said"),
    [
        (Sweep(("mpl",)), UnknownName, "'mpl' is not a component; did you mean 'mlp'?"),
        (Sweep(("resid_prost",)), UnknownName, "did you mean 'resid_post'?"),
        (Sweep(("mlp.gate_porj",)), UsageError, "layer 0 has no module 'mlp.gate_porj'; did you mean 'mlp.gate_proj'?"),
        (Sweep(("",)), UnknownName, "'' is not a component"),
        (Sweep(("__class__",)), UnknownName, "'__class__' is not a component"),
        (Sweep(("update",)), UnknownName, "'update' is not a component"),
        (Sweep(("mlp",), (4,)), UsageError, "layer 4 does not exist; the model has layers 0 to 3"),
        (Sweep(("mlp",), (-5,)), UsageError, "layer -5 does not exist; the model has layers 0 to 3"),
        (Sweep(("mlp",), (3, -1)), UsageError, "name a layer twice"),
        (Sweep(("mlp",), ()), UsageError, "no layer"),
    ],
    ids=["typo", "typo of a residual", "typo in a path", "empty", "a class", "a method", "too high", "too low", "twice",
         "no layer"],
)  # fmt: skip
def test_what_does_not_exist_is_an_error_with_the_right_name(llama, sweep, error, said):
    with pytest.raises(error) as raised:
        resolve(llama, sweep)
    assert said in str(raised.value)


def test_a_known_component_that_this_model_lacks_says_where_it_was_looked_for(toy):
    with pytest.raises(UsageError) as raised:
        modules_at(loaded(toy), "attn_out")
    assert "layer 0 has no attn_out" in str(raised.value)
    assert "none of self_attn, attn, attention, linear_attn, mamba" in str(raised.value)
    assert "is in ToyBlock, which has mlp" in str(raised.value)


def test_a_module_that_several_layers_share_is_no_place_in_one_of_them(toy):
    """A tap is on the module: a patch "in layer 0" would be made in all of them, and every layer read the same."""
    toy.layers[2].mlp = toy.layers[0].mlp
    with pytest.raises(UsageError, match="layers 0, 2 share one module, the mlp of layer 0: patched"):
        resolve(loaded(toy), Sweep(("mlp",), (0,)))
    assert [point.layer for point in resolve(loaded(toy), Sweep(("mlp",), (1,)))] == [1]
    assert len(resolve(loaded(toy), Sweep(("resid_post",)))) == 3
    with pytest.raises(UsageError, match="layers 0, 1, 2, 3 share one module"):
        resolve(miniatures.load("qwen3_moe"), Sweep(("mlp.switch_mlp.activation",)))


def test_a_model_without_blocks_says_what_is_missing():
    class Bare(nn.Module):
        layers = ()

    with pytest.raises(UsageError, match=r"Bare has no list of blocks; a model needs `\.layers`"):
        resolve(loaded(Bare()), Sweep(("mlp",)))
