"""Local mlx-lm folders: loaded as they are, or refused by naming what is missing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from model_helpers import last_logits

from harness import models
from harness.models.sources import synthetic
from harness.models.spec import PathRow, SyntheticRow
from harness.vocabulary.errors import UsageError

SMALL = SyntheticRow(id="small", source="synthetic", architecture="llama", vocab=96, layers=2)


@pytest.fixture(scope="module")
def original():
    return synthetic.build(SMALL)


@pytest.fixture
def folder(original, tmp_path):
    import mlx.core as mx
    from mlx.utils import tree_flatten

    module, config = original
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(place / "model.safetensors"), dict(tree_flatten(module.parameters())))
    return place


def row(folder, **fields):
    return PathRow(id="local", source="path", path=str(folder), **fields)


def edit_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_folder_gives_the_model_that_was_saved(folder, original):
    model = models.load(row(folder))
    assert np.array_equal(last_logits(model.module, [1, 2, 3]), last_logits(original[0], [1, 2, 3]))
    assert (model.card.id, model.card.source, model.card.architecture) == ("local", "path", "llama")
    assert (model.card.layers, model.card.vocab, model.card.dtype) == (2, 96, "float32")
    assert model.tokenizer is None
    assert models.availability(row(folder)) == (True, "ready")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_row_may_override_the_dtype(folder, dtype):
    import mlx.core as mx

    model = models.load(row(folder, dtype=dtype))
    assert model.card.dtype == dtype
    assert model.module(mx.array([[1, 2]])).dtype == getattr(mx, dtype)


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", r"has no model\*.safetensors"),
    ],
)
def test_a_missing_part_is_named(folder, remove, message):
    (folder / remove).unlink()
    with pytest.raises(UsageError, match=f"local: .*{message}"):
        models.load(row(folder))
    assert models.availability(row(folder))[0] is False


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere is not there"):
        models.load(row(tmp_path / "nowhere"))


def test_a_file_is_not_a_folder(folder):
    with pytest.raises(UsageError, match="is not a folder"):
        models.load(row(folder / "config.json"))


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[]", "holds a list, not an object")], ids=["cut-off", "list"]
)
def test_a_config_that_is_no_object_is_refused(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        models.load(row(folder))


@pytest.mark.parametrize(
    "changes",
    [{"model_type": "nonesuch"}, {"num_hidden_layers": 3}, {"hidden_size": 32}],
    ids=["unknown-architecture", "more-layers", "other-width"],
)
def test_what_mlx_lm_refuses_is_a_usage_error_in_one_line(folder, changes):
    edit_config(folder, **changes)
    with pytest.raises(UsageError, match="local: mlx-lm cannot load") as caught:
        models.load(row(folder))
    assert len(str(caught.value).splitlines()) == 1


def test_damaged_weights_are_a_usage_error(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"model\.safetensors: 1,000 bytes hold no header"):
        models.load(row(folder))


def test_a_damaged_tokenizer_is_a_usage_error(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match=r"local: the tokenizer in .* cannot be loaded"):
        models.load(row(folder))


def test_a_folders_own_python_is_not_run(folder, tmp_path):
    (folder / "custom.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    edit_config(folder, model_file="custom.py")
    with pytest.raises(UsageError, match=r"wants to run its own Python \(custom.py\)"):
        models.load(row(folder))
    assert not (tmp_path / "ran").exists()
