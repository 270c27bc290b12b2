"""Local mlx-lm folders: loaded as they are, or refused by naming what is missing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from model_helpers import last_logits
from pydantic import ValidationError

from harness import models
from harness.cli import exit_code_of
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


CONFIGURED = {
    "a million layers": {"num_hidden_layers": 1_000_000},
    "400 digits": {"num_hidden_layers": 10**400},
    "no width": {"hidden_size": 0},
    "a huge width": {"hidden_size": 10**12},
    "fewer than no tokens": {"vocab_size": -1},
    "no heads": {"num_attention_heads": 0},
    "text for a number": {"num_attention_heads": "x"},
    "text for rope": {"rope_scaling": "x"},
    "a list of quantizations": {"quantization": [1]},
    "no architecture": {"model_type": "../x"},
    "text for a text_config": {"text_config": "x", "vocab_size": None},
}


@pytest.mark.parametrize("change", CONFIGURED)
def test_a_hostile_configuration_is_a_usage_error(folder, change):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | CONFIGURED[change]))
    with pytest.raises(UsageError, match=r"^local: .*model"):
        models.load(row(folder))


BROKEN = {
    "config.json": [b"[" * 100_000, b'{"a":' * 5000, b'{"vocab_size": ' + b"9" * 5000 + b"}", b"\xff\xfe", b"3"],
    "tokenizer_config.json": [b"[]", b"{", b'{"tokenizer_class": 3}'],
    "generation_config.json": [b"[]"],
    "model.safetensors": [b"", b"\x00" * 8, b"\xff" * 40, b"\x02" + b"\x00" * 7 + b"[]"],
}


@pytest.mark.parametrize(("name", "number"), [(name, i) for name in BROKEN for i in range(len(BROKEN[name]))])
def test_a_hostile_file_is_a_usage_error(folder, name, number):
    (folder / name).write_bytes(BROKEN[name][number])
    with pytest.raises(UsageError, match=r"^local: .*model"):
        models.load(row(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "folder"])
def test_what_is_no_file_is_a_usage_error(folder, name, kind):
    (folder / name).unlink()
    {
        "pipe": os.mkfifo, "device": lambda file: file.symlink_to("/dev/zero"),
        "loop": lambda file: file.symlink_to(name), "folder": Path.mkdir,
    }[kind](folder / name)  # fmt: skip
    with pytest.raises(UsageError, match=r"^local: .*model"):
        models.load(row(folder))


def test_integers_for_weights_are_not_the_harness_fault(folder, capsys):
    import mlx.core as mx

    file = str(folder / "model.safetensors")
    arrays = {name: value.astype(mx.int32) for name, value in mx.load(file).items()}
    mx.eval(list(arrays.values()))
    mx.save_safetensors(file, arrays)
    assert exit_code_of(["patch", "-m", str(folder), "--ids", "--clean", "1,2", "--corrupted", "1,3"]) in (1, 4)
    assert "internal error" not in capsys.readouterr().err


ASKED_FOR = [
    {"layers": 1_000_000}, {"vocab": 10**11}, {"config": {"hidden_size": 90_000_000}},
    {"config": {"num_hidden_layers": 10**6}}, {"config": {"head_dim": 10**12}},
    {"config": {"rope_scaling": {"b_layers": 10**6}}}, {"architecture": "qwen3_moe", "config": {"num_experts": 10**6}},
]  # fmt: skip


@pytest.mark.parametrize("asked", ASKED_FOR, ids=str)
def test_sizes_of_a_table_are_bounded_before_anything_is_made(asked):
    fields = {"id": "x", "source": "synthetic", "architecture": "llama", "vocab": 64} | asked
    with pytest.raises((UsageError, ValidationError), match=r"more than any model has|at most|less than or equal"):
        models.load(SyntheticRow(**fields))
