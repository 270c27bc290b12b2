"""The weights: every tensor of files and of memory, in little memory, with what is wrong and where."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from planting import CLEAN, build, module_of, put, save_folder

from harness.diagnosis import diagnose
from harness.diagnosis.weights.census import census, scan
from harness.diagnosis.weights.faults import about_the_tensors
from harness.diagnosis.weights.tensors import MemoryTensor, of_file, of_folder
from harness.metrics.layouts import LAYOUTS
from harness.support.weight_files import BrokenFile

DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize("dtype", LAYOUTS)
@pytest.mark.parametrize("target", LAYOUTS)
def test_what_a_dtype_cannot_hold_is_what_its_cast_makes_of_it(tmp_path, dtype, target):
    """Values around both edges, held against MLX's own cast."""
    edges = [65504, 65519.9, 65520, 65536, 1e5, 3e38, 2**-24, 2**-25, 2.99e-8, 2.98e-8, 1e-9, 1e-39, 1e-45, 0, 1]
    values = mx.array(np.array([*edges, *(-edge for edge in edges)], np.float32)).astype(getattr(mx, dtype))
    mx.save_safetensors(str(tmp_path / "model.safetensors"), {"w": values})
    (tensor,) = of_file(tmp_path / "model.safetensors")
    wide = np.array(values.astype(mx.float32)).astype(np.float64)
    layout = LAYOUTS[target]
    half = 2.0 ** (math.floor(math.log2(layout.limit)) - layout.mantissa)
    found = census(tensor, target)
    assert found.over == (
        0 if target == dtype else int((np.isfinite(wide) & (np.abs(wide) >= layout.limit + half)).sum())
    )
    small = (wide != 0) & (np.abs(wide) <= layout.smallest / 2)
    assert found.flushed == (0 if target == dtype else int(small.sum()))
    assert found.counts.pos_inf == np.isposinf(wide).sum()


def broken(tensors):
    tensors[DOWN] = put(tensors[DOWN], ((3, 17), np.inf), ((5, 2), np.nan))


def test_a_tensor_of_a_file_is_counted_as_one_of_memory(tmp_path):
    model = build(dtype="bfloat16")
    folder = save_folder(model, tmp_path / "m", broken)
    layer = module_of(model, "model.layers.1.mlp.down_proj")
    layer.weight = put(layer.weight, ((3, 17), np.inf), ((5, 2), np.nan))
    from_file, from_memory = diagnose(folder, prompt=CLEAN), diagnose(model, prompt=CLEAN)
    assert from_file.findings[0].message == from_memory.findings[0].message
    assert (
        "1 NaN, 1 +inf of 8,192 values; first row 3, column 17, then row 5, column 2" in from_file.findings[0].message
    )
    assert from_file.place == from_memory.place
    assert (from_file.place.module, from_file.place.token, from_file.place.dimension) == (DOWN, 3, 17)


def test_a_nan_in_float64_is_counted():
    values = np.ones((4, 8))
    values[3, 5], values[1, 2] = np.nan, np.inf
    found = census(MemoryTensor("w", mx.array(values, mx.float64)))
    assert (found.counts.nan, found.counts.pos_inf, found.counts.first) == (1, 1, 1 * 8 + 2)
    assert [each.place.module for each in about_the_tensors([found], None)] == ["w"]


def dropped(tensors):
    del tensors[DOWN]


def added(tensors):
    tensors["model.layers.1.mlp.gate.weight"] = mx.ones((4, 4))


def reshaped(tensors):
    tensors[DOWN] = tensors[DOWN][:32]


@pytest.mark.parametrize(
    ("change", "said"),
    [(dropped, "never loaded"), (added, "not a parameter of the model"), (reshaped, "the model wants")],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_files_that_do_not_fit_the_model_are_named_and_no_traceback(tmp_path, change, said):
    found = diagnose(save_folder(build(dtype="float32"), tmp_path / "m", change), prompt=CLEAN)
    assert found.findings[0].code == "DIA106"
    assert said in found.findings[0].message
    assert found.place.layer == 1


def test_a_file_that_ends_early_is_named_with_the_tensor_it_ends_in(tmp_path):
    folder = save_folder(build(dtype="float32"), tmp_path / "m")
    file = folder / "model.safetensors"
    data = file.read_bytes()
    last = max(of_file(file), key=lambda tensor: tensor.end)
    file.write_bytes(data[:-100])
    found = diagnose(folder, prompt=CLEAN)
    assert (found.findings[0].code, found.place.module) == ("DIA107", last.name)
    assert "truncated" in found.findings[0].message


@pytest.mark.parametrize("content", [b"", b"\x01", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b"version https://git-lfs"])
def test_a_file_that_is_none_is_broken_and_not_a_traceback(tmp_path, content):
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(BrokenFile, match=r"model\.safetensors"):
        of_file(file)


def test_a_file_that_the_index_wants_and_that_is_not_there(tmp_path):
    folder = save_folder(build(dtype="float32"), tmp_path / "m")
    index = {"weight_map": {DOWN: "model.safetensors", "other": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    _, wrong = of_folder(folder)
    assert [(each.file, each.reason.split(",")[0]) for each in wrong] == [
        ("model-00002-of-00002.safetensors", "is not there")
    ]


def test_one_zero_matrix_is_a_fault_and_zeros_in_most_layers_are_meant():
    model = build(dtype="float32")
    for layer in range(4):
        projection = module_of(model, f"model.layers.{layer}.mlp.down_proj")
        projection.weight = 0 * projection.weight
        found = diagnose(model)
        assert (found.verdict == "fault") == (layer < 2), layer


def test_a_layer_that_was_never_loaded_is_told_from_its_siblings():
    model = build(dtype="float32")
    module_of(model, "model.layers.2.mlp").down_proj = nn.Linear(128, 64, bias=False)
    found = diagnose(model)
    assert [each.code for each in found.findings] == ["DIA109"]
    assert found.place.module == "model.layers.2.mlp.down_proj.weight"
    assert found.findings[0].confidence == "suspected"


@pytest.mark.parametrize("mode", ["affine", "mxfp4"])
def test_the_scales_of_a_quantised_layer_are_looked_at(mode):
    model = build(dtype="float32")
    nn.quantize(model.module, group_size=32, bits=4, mode=mode)
    assert diagnose(model, prompt=CLEAN).verdict == "clean"
    layer = module_of(model, "model.layers.1.mlp.down_proj")
    scales = np.array(layer.scales)
    scales[3, 1] = 0xFF if mode == "mxfp4" else 0
    layer.scales = mx.array(scales)
    found = diagnose(model, prompt=CLEAN)
    assert found.findings[0].code == "DIA102"
    assert (found.place.module, found.place.token, found.place.dimension) == (
        "model.layers.1.mlp.down_proj.scales",
        3,
        1,
    )


def test_large_files_are_read_in_little_memory(tmp_path):
    """A file of 320 MB, in a process of its own: what the scan adds to the peak is the buffer and its masks."""
    script = """
import resource, sys
from pathlib import Path
from harness.diagnosis.weights.tensors import of_folder
from harness.diagnosis.weights.census import scan
tensors, _ = of_folder(Path(sys.argv[1]))
list(scan(tensors[:1], None))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
censuses = list(scan(tensors, 'float16'))
unit = 1 if sys.platform == 'darwin' else 1024
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit, sum(each.counts.nan for each in censuses))
"""
    values = {f"w{i}": mx.full((5000, 4000), 0.5, dtype=mx.float16) for i in range(8)}
    values["w7"] = put(values["w7"], ((4999, 3999), np.nan))
    mx.save_safetensors(str(tmp_path / "model.safetensors"), values)
    said = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    added, nan = map(int, said.stdout.split())
    assert added < 80 << 20
    assert nan == 1


def test_progress_counts_every_byte():
    model, seen = build(dtype="float32"), []
    diagnose(model, progress=lambda what, done, total: seen.append((what, done, total)))
    dones, totals = zip(*((done, total) for what, done, total in seen if what == "weights" and total), strict=True)
    assert list(dones) == sorted(dones)
    assert dones[-1] == totals[0] == sum(t.nbytes for t in _tensors(model))


def _tensors(model):
    from harness.diagnosis.weights.tensors import of_module

    return of_module(model.module)


def test_scanning_nothing_finds_nothing():
    assert list(scan([], None)) == []


def test_a_vector_has_no_rows_to_name():
    model = build("qwen2", "bfloat16")
    projection = module_of(model, "model.layers.1.self_attn.q_proj")
    projection.bias = put(projection.bias, ((3,), math.inf))
    assert diagnose(model).cause.message.endswith("holds 1 +inf of 64 values; first column 3")
