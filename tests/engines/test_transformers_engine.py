"""transformers as an engine: the same folder, the same cells, to the rounding of float32; and what it refuses."""

from __future__ import annotations

import importlib.util
import itertools
import json

import numpy as np
import pytest
from saved_model import save_model

from harness.engines import NAMES, answer, engine_named
from harness.models import load
from harness.models.sources import miniatures
from harness.models.spec import PathRow
from harness.vocabulary import METRICS, AnswerTokens, Direction, Question, Sweep, Tokens
from harness.vocabulary.errors import EngineUnavailable, TapError

CLEAN, CORRUPTED = (3, 7, 11, 200, 5, 9), (3, 8, 11, 200, 6, 9)
COMPONENTS = ("resid_pre", "attn_out", "mlp_out", "resid_post", "mlp.down_proj", "z")
POSITIONS = ("all", "last", (1, -2), "each")
ROUNDING = 0.02  # points; float32 leaves 0.01 where two answers are nearly level, else below 0.0002
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the extra `reference` (torch)")


def loaded(folder, dtype="float32"):
    return load(PathRow(id="saved", source="path", path=str(folder), dtype=dtype))


def question(
    components=COMPONENTS, layers=None, direction=Direction.DENOISING, positions="all", metrics=tuple(METRICS)
):
    clean, corrupted = (Tokens(ids, tuple(map(str, ids))) for ids in (CLEAN, CORRUPTED))
    return Question(clean, corrupted, Sweep(components, layers, direction, positions), metrics, AnswerTokens(1, 2))


def apart(model, asked, name="transformers"):
    ours, theirs = answer(engine_named("native"), model, asked), answer(engine_named(name), model, asked)
    cells = [pair for a, b in zip(ours.curves, theirs.curves, strict=True) for pair in a.paired(b)]
    assert len(cells) == sum(len(curve.cells) for curve in ours.curves) > 0
    assert [one.recovery.state for one, _ in cells] == [other.recovery.state for _, other in cells]
    return max(abs(one.recovery.value - other.recovery.value) for one, other in cells if one.recovery.finite)


def test_it_is_an_engine_by_name_whether_or_not_it_is_installed():
    assert {"transformers", "transformers-float32"} <= set(NAMES)


def test_where_torch_is_absent_it_is_unavailable_and_says_how_to_install_it(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else there(name))
    with pytest.raises(EngineUnavailable, match=r"torch not installed; pip install torch transformers"):
        engine_named("transformers")


@needs_torch
def test_one_sweep_of_a_tiny_model_agrees(tmp_path):
    model = loaded(save_model(tmp_path, hidden_act="silu"))
    given = answer(engine_named("transformers"), model, question(("attn_out",)))
    assert (given.dtype, given.strategy, given.memory) == ("float64", "stepwise", None)
    assert apart(model, question(("attn_out",))) < ROUNDING


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma2", "olmo2", "phi3"])
def test_every_component_position_and_direction_agrees(architecture, tmp_path):
    # Norms after the modules, fused projections, heads; the windows of the miniatures' gemma2 mlx-lm ignores.
    wide = {"sliding_window": 2048} if architecture in ("gemma2", "phi3") else {}
    model = loaded(save_model(tmp_path, architecture, **wide))
    for direction, positions in itertools.product(Direction, POSITIONS):
        assert apart(model, question(direction=direction, positions=positions)) < ROUNDING, (direction, positions)


@needs_torch
@pytest.mark.slow
def test_float32_is_further_away_than_float64_and_near_all_the_same(tmp_path):
    model = loaded(save_model(tmp_path))
    wide, narrow = (
        engine_named(name).walk(model, question()).clean for name in ("transformers", "transformers-float32")
    )
    assert (wide.dtype, narrow.dtype) == (np.float64, np.float32)
    assert 0 < np.abs(wide - narrow).max() < 1e-5 * np.abs(wide).max()
    assert apart(model, question(), "transformers-float32") < 10 * ROUNDING


@needs_torch
@pytest.mark.slow
def test_float64_is_float64_in_norms_angles_and_softmax_too(tmp_path):
    """A float32 step would leave a grain of 1e-7 in values that differ by less than that."""
    from harness.engines.transformers.model import torch_model
    from harness.engines.transformers.runs import module_outputs

    net = torch_model(loaded(save_model(tmp_path)), "float64")
    angles = net.net.model.rotary_emb.inv_freq
    assert str(angles.dtype) == "torch.float64"
    assert np.abs(angles.numpy() - angles.float().double().numpy()).max() > 0
    for name, value in module_outputs(net, CLEAN).items():
        if value.size > 100 and "embed" not in name:
            assert (value != value.astype(np.float32)).mean() > 0.5, name


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_weights_are_those_that_the_model_holds(dtype, tmp_path):
    from harness.engines.transformers.model import torch_model

    model = loaded(save_model(tmp_path), dtype)
    theirs = torch_model(model, "float64").net.model.layers[1].mlp.up_proj.weight.detach().numpy()
    import mlx.core as mx

    ours = np.array(model.module.model.layers[1].mlp.up_proj.weight.astype(mx.float32))
    assert np.array_equal(theirs, ours)


@needs_torch
@pytest.mark.slow
def test_pairs_of_neighbours_are_brought_into_halves(tmp_path):
    """`rope_traditional` is a key of mlx-lm's own; transformers drops it, and would rotate other pairs."""
    assert apart(loaded(save_model(tmp_path, rope_traditional=True)), question()) < ROUNDING


@needs_torch
@pytest.mark.slow
def test_another_rope_base_is_seen(tmp_path):
    folder = save_model(tmp_path, "qwen2", without=("rope_theta",), rope_parameters={"rope_theta": 1e4})
    assert apart(loaded(folder), question()) > 1


@needs_torch
@pytest.mark.slow
def test_a_model_that_it_cannot_read_is_refused_with_the_reason(tmp_path):
    engine = engine_named("transformers")

    def refused(model, match):
        with pytest.raises(EngineUnavailable, match=match):
            engine.walk(model, question(("mlp_out",)))

    refused(miniatures.load("llama"), "llama has no folder on disk")
    refused(loaded(save_model(tmp_path / "plamo", "plamo")), "has no architecture 'plamo'")
    refused(loaded(save_model(tmp_path / "mixtral", "mixtral")), r"name weights of .* otherwise: .*not in the files")
    model = loaded(save_model(tmp_path / "packed"))
    config = tmp_path / "packed" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization": {"bits": 4, "group_size": 32}}))
    refused(model, "packed as MLX packs them")


@needs_torch
@pytest.mark.slow
def test_every_hook_is_gone_after_a_sweep_and_after_one_that_failed(tmp_path):
    from harness.engines.transformers import runs
    from harness.engines.transformers.model import torch_model

    model = loaded(save_model(tmp_path))
    net = torch_model(model, "float64")
    bare = runs.forward(net, CLEAN)
    list(runs.walk("float64", model, question()).patched)
    point = net.point(next(iter(runs.check_question(model, question(("mlp_out",))))), "llama")
    patch = runs.patches_of([point], "all", len(CLEAN))[0]
    with pytest.raises(TapError, match="which was not recorded"):
        runs._patched(net, CLEAN, patch, point, {point: []})
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.net.modules())
    assert np.array_equal(runs.forward(net, CLEAN), bare)


CASE = """
models: [saved]
engines: [native]
reference: transformers
prompts: {clean: [3, 7, 11, 200, 5, 9], corrupted: [3, 8, 11, 200, 6, 9]}
sweep: {components: [attn_out, mlp_out]}
checks: [reference]
tolerance: {reference_points: 0.02}
"""


def ran(folder, tmp_path):
    from harness.jobs.planning import jobs_in
    from harness.jobs.run import ModelCache, run
    from harness.models import load_table

    table, case = tmp_path / "models.yaml", tmp_path / "c.case.yaml"
    table.write_text(f"models:\n  - {{id: saved, source: path, path: '{folder}', dtype: float32}}\n")
    case.write_text(CASE)
    (job,) = jobs_in(case, load_table([table]))
    return run(job, ModelCache())


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_a_case_with_the_reference_is_skipped_with_the_reason(tmp_path):
    result = ran(save_model(tmp_path / "model"), tmp_path)
    assert (result.status, result.reason[:19]) == ("skipped", "torch not installed")


@needs_torch
@pytest.mark.slow
def test_a_case_passes_on_a_right_model_and_fails_on_a_wrong_one(tmp_path):
    assert ran(save_model(tmp_path / "right"), tmp_path).status == "passed"
    wrong = ran(save_model(tmp_path / "wrong", "glm", partial_rotary_factor=0.5), tmp_path)
    assert (wrong.status, {finding.code for finding in wrong.findings}) == ("failed", {"REF001"})
