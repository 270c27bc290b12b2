"""A folder against transformers: what differs is named with both values, and a right model is left alone."""

from __future__ import annotations

import importlib.util
import json

import pytest
from click.testing import CliRunner
from saved_model import save_model

from harness.cli import cli
from harness.diagnosis import diagnose
from harness.vocabulary.errors import EngineUnavailable, UnknownName

IDS = [3, 7, 11, 200, 5, 9]
ROPE = {"rope_theta": 1e4, "rope_type": "default"}
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the extra `reference` (torch)")


def test_an_ignored_key_is_the_fault_of_a_folder_and_the_diagnosis_goes_on(tmp_path):
    folder = save_model(tmp_path, "qwen2", without=("rope_theta",), rope_parameters=ROPE)
    found = diagnose(folder, prompt=IDS, repeat=2)
    assert (found.cause.code, found.place.step, found.verdict) == ("DIA213", "forward", "fault")
    assert "rope_parameters.rope_theta` is 10000.0, and mlx-lm computes with 1e+06" in found.paragraph
    assert next(step for step in found.steps if step.name == "comparisons").state == "ok"


def test_the_same_folder_with_the_key_where_it_is_read_has_no_fault(tmp_path):
    found = diagnose(save_model(tmp_path, "qwen2", rope_theta=1e4, rope_parameters=ROPE), prompt=IDS)
    assert found.verdict == "clean"


def test_an_engine_that_is_no_other_implementation_is_refused(tmp_path):
    with pytest.raises(UnknownName, match="'native' is not a reference implementation; known: transformers, "):
        diagnose(save_model(tmp_path), prompt=IDS, reference="native")


def test_without_torch_the_reference_is_missing_with_the_command_that_installs_it(tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else there(name))
    with pytest.raises(EngineUnavailable, match=r"torch not installed; pip install torch transformers"):
        diagnose(save_model(tmp_path), prompt=IDS, reference="transformers")


@needs_torch
@pytest.mark.slow
def test_a_wrong_rope_base_shows_at_the_first_module_after_the_rotation(tmp_path):
    folder = save_model(tmp_path, "qwen2", without=("rope_theta",), rope_parameters=ROPE)
    found = diagnose(folder, prompt=IDS, reference="transformers")
    text = next(each.message for each in found.findings if each.code == "DIA605")
    assert "is model.layers.0.self_attn.o_proj, after model.layers.0.self_attn.v_proj, which agrees: " in text
    assert " here, " in text
    assert text.endswith(" there")


@needs_torch
@pytest.mark.slow
def test_a_right_folder_agrees_and_a_changed_weight_does_not(tmp_path):
    from harness.models import load
    from harness.models.spec import PathRow

    model = load(PathRow(id="m", source="path", path=str(save_model(tmp_path))))
    found = diagnose(model, prompt=IDS, reference="transformers")
    assert found.verdict == "clean"
    assert "transformers agrees" in next(step.summary for step in found.steps if step.name == "comparisons")
    weight = model.module.model.layers[2].mlp.up_proj
    weight.weight = weight.weight * 1.01
    found = diagnose(model, prompt=IDS, reference="transformers")
    assert (found.cause.code, found.place.module) == ("DIA605", "model.layers.2.mlp.up_proj")


@needs_torch
@pytest.mark.slow
def test_the_command_says_so(tmp_path):
    folder = save_model(tmp_path, "glm", partial_rotary_factor=0.5)
    ids = ",".join(map(str, IDS))
    done = CliRunner().invoke(
        cli,
        [
            "diagnose",
            "-m",
            str(folder),
            "--prompt-ids",
            ids,
            "--reference",
            "transformers",
            "--json",
            str(tmp_path / "d.json"),
        ],
        standalone_mode=False,
    )
    codes = [each["code"] for each in json.loads((tmp_path / "d.json").read_text())["findings"]]
    assert done.return_value == 1
    assert codes == ["DIA213", "DIA605"]


@needs_torch
@pytest.mark.slow
def test_an_embedding_scaled_elsewhere_is_not_what_differs(tmp_path):
    """gemma's embedding is scaled inside the module there and after it here; what differs is the activation."""
    found = diagnose(
        save_model(tmp_path, "gemma", hidden_act="gelu_pytorch_tanh"), prompt=IDS, reference="transformers"
    )
    assert next(each.place.module for each in found.findings if each.code == "DIA605") == "model.layers.0.mlp.down_proj"
