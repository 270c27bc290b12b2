"""From a length on: a kernel, the way through the cache, or a mask; and a model that ignores `cache` is not accused."""

from __future__ import annotations

import mlx.core as mx
import pytest
from planting import CLEAN, build

from harness.diagnosis import diagnose
from harness.diagnosis.zoo.surgery import at, behave

MLP, ATTENTION = "model.layers.1.mlp", "model.layers.1.self_attn"


def diagnosed(module, call, architecture="llama", longest=40, dtype="float32"):
    model = build(architecture, dtype)
    behave(at(model.module, module) if module else model.module, call)
    found = diagnose(model, prompt=CLEAN, lengths=(1, longest))
    return found, next(step.summary for step in found.steps if step.name == "comparisons")


def named(found):
    (each,) = found.findings
    return each.code, each.confidence, each.place.module, each.evidence["length"]


@pytest.mark.parametrize("size", [2, 7])
def test_a_module_that_is_wrong_at_a_size_is_a_kernels_fault_and_proven(size):
    found, _ = diagnosed(MLP, lambda own, x: own(x) * (2 if x.shape[1] >= size else 1))
    assert named(found) == ("DIA601", "proven", MLP, size)


def test_keys_that_are_not_kept_are_the_caches_fault_and_not_the_whole_runs():
    found, _ = diagnosed(ATTENTION, lambda own, x, mask=None, cache=None: own(x, mask, None))
    assert named(found) == ("DIA606", "proven", ATTENTION, 2)
    assert "not the whole run that is patched" in found.cause.message
    assert "kernel" not in found.paragraph


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_the_halves_hide_at_two_tokens_float32_tells(dtype):
    """A fault of the halves alone keeps its length in them; the model is given back in its own dtype."""
    found, _ = diagnosed(ATTENTION, lambda own, x, mask=None, cache=None: own(x, mask, None), dtype=dtype)
    assert named(found) == ("DIA606", "proven", ATTENTION, 2)

    def of_this_dtype(own, x):
        return own(x) * (2 if x.shape[1] >= 7 and str(x.dtype).endswith(dtype) else 1)

    model = build("llama", dtype)
    behave(at(model.module, MLP), of_this_dtype)
    own = diagnose(model, prompt=CLEAN, lengths=(1, 40))
    assert named(own)[::3] == ("DIA601", 7)
    assert str(model.module.model.norm.weight.dtype).endswith(dtype)


def test_attention_that_is_wrong_at_a_size_that_is_no_window_is_suspected_only():
    found, _ = diagnosed(ATTENTION, lambda own, x, *a, **k: own(x, *a, **k) * (2 if x.shape[1] >= 30 else 1))
    assert named(found)[:2] == ("DIA601", "suspected")
    assert "nothing shows to be a kernel's" in found.cause.message


def test_tokens_that_are_not_finite_in_pieces_either_are_not_called_a_size():
    def beyond(own, ids, cache=None):
        seen = cache[0].offset if cache else 0
        return own(ids, cache) + mx.where(mx.arange(ids.shape[1]) + seen >= 12, mx.nan, 0.0)[None, :, None]

    found, _ = diagnosed("", beyond)
    (each,) = [each for each in found.findings if each.code == "DIA601"]
    assert each.confidence == "suspected"
    assert "not how many" in each.hint


def test_a_model_that_ignores_its_cache_is_said_to_and_not_accused():
    found, summary = diagnosed("", lambda own, ids, cache=None: own(ids))
    assert found.findings == ()
    assert "ignores `cache`" in summary


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "recurrent_gemma", "mamba2"])
def test_a_right_model_passes_at_every_length(architecture):
    found = diagnose(build(architecture, "float32"), prompt=CLEAN, lengths=(1, 40))
    assert found.findings == ()


def test_a_model_that_an_empty_cache_changes_is_not_said_to_have_a_wrong_cache():
    found, _ = diagnosed(ATTENTION, lambda own, x, mask=None, cache=None: own(x, mask, cache) * (1 if cache else 2))
    assert found.cause.code == "DIA606"
    assert "without a cache the model computes something else" in found.cause.message
