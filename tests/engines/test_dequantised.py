"""A sweep on a float32 copy of a quantised model: the same numbers up to rounding, said in the result, refused where it
does not pay or is another model, and the model itself stays what it was."""

from __future__ import annotations

import gc
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import pytest

from harness import InterpretableModel, models
from harness.engines import ENGINES, NATIVE, answer, dequantised, engine_of
from harness.engines.dequantised import Float32Copy, saying
from harness.metrics.tolerances import Work, equal_readings
from harness.models import dequantised as weights
from harness.models.fingerprint import fingerprint
from harness.models.spec import SyntheticRow
from harness.patching import remembered
from harness.support import blas
from harness.vocabulary import Question, Sweep, Tokens
from harness.vocabulary.raised import SweepFailed, SweepInterrupted

pytestmark = pytest.mark.on_cpu("there is nothing to gain from a copy in float32")

CLEAN, CORRUPTED = (Tokens(ids, tuple(map(str, ids))) for ids in ((3, 5, 7, 11, 9), (4, 5, 8, 11, 9)))
QUESTION = Question(CLEAN, CORRUPTED, Sweep(("attn_out", "mlp_out")), ("l2", "cosine"))


@pytest.fixture(autouse=True)
def _another_blas(monkeypatch):
    monkeypatch.setattr(blas, "is_reference", lambda: False)


def loaded(architecture="llama", quantize="4bit", **config):
    row = SyntheticRow(id="m", source="synthetic", architecture=architecture, vocab=512, quantize=quantize,
                       config=config)  # fmt: skip
    return models.load(row)


def of_mode(mode):
    """Linear layers quantised in one of MLX's modes; an embedding in one of the others would compute in bfloat16."""
    model = loaded(quantize=None)
    nn.quantize(model.module, mode=mode, class_predicate=lambda _, child: isinstance(child, nn.Linear))
    return model


MODELS = {
    "llama": loaded,
    "tied": lambda: loaded(tie_word_embeddings=True),
    "biased": lambda: loaded("qwen2"),
    "experts": lambda: loaded("qwen3_moe"),
    "latent attention": lambda: loaded("deepseek_v3"),
    **{mode: lambda mode=mode: of_mode(mode) for mode in ("mxfp4", "nvfp4", "mxfp8")},
}


def chosen(model, engine=NATIVE, question=QUESTION, **more):
    return Float32Copy(model).chosen(engine, question, **more)


def refusal(model, *args, **more):
    """Return why a model is swept itself."""
    swept, said = chosen(model, *args, **more)
    assert swept is model
    return said.refused


def apart(one, other):
    pairs = [pair for a, b in zip(one.curves, other.curves, strict=True) for pair in a.paired(b)]
    assert len(pairs) == 4 * 4
    return [
        pair for pair in pairs if not equal_readings(*(cell.recovery for cell in pair), Work.OTHER_BATCH, "float32")
    ]


@pytest.mark.parametrize("strategy", ["auto", "stepwise"])
@pytest.mark.parametrize("name", MODELS)
def test_recoveries_are_those_of_the_quantised_model(name, strategy):
    model, question = MODELS[name](), replace(QUESTION, sweep=replace(QUESTION.sweep, strategy=strategy))
    swept, said = chosen(model, question=question)
    assert said.used, said
    assert swept is not model
    assert not weights.quantised_layers(swept.module)
    assert weights.quantised_layers(model.module)
    assert swept.card == replace(model.card, quantization=None)
    given = saying(said, lambda: answer(NATIVE, swept, question))
    assert given.dequantised is said
    assert apart(answer(NATIVE, model, question), given) == []
    assert any(abs(cell.recovery.value) > 1 for cell in given.curves[0].cells)


def test_the_bytes_are_those_of_the_float32_weights_and_nothing_else_is_copied():
    model = loaded()
    mx.eval(model.module.parameters())
    before = mx.get_active_memory()
    swept, said = chosen(model)
    names = weights.quantised_layers(model.module)
    modules = dict(swept.module.named_modules())
    assert said.bytes == sum(modules[name].weight.nbytes for name in names)
    gc.collect()
    assert mx.get_active_memory() - before < said.bytes * 1.1


def test_a_layer_that_two_modules_share_is_shared_and_counted_once():
    model = loaded()
    alone = weights.float32_size(model.module)
    mlp = model.module.layers[0].mlp
    gone = sum(weights.float32_size(each) for each in (mlp.up_proj, mlp.down_proj, mlp.gate_proj))
    model.module.layers[1].mlp = mlp
    assert weights.float32_size(model.module) == alone - gone
    layers = chosen(model)[0].module.layers
    assert layers[0].mlp.up_proj is layers[1].mlp.up_proj
    assert layers[0].mlp.up_proj is not layers[2].mlp.up_proj


class Ends(nn.Module):
    """A module that raises once it was called a few times."""

    def __init__(self, error):
        super().__init__()
        self.error, self.left = error, 3

    def __call__(self, x, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return x


@pytest.mark.parametrize("error", [None, RuntimeError("planted"), KeyboardInterrupt()], ids=repr)
def test_the_model_stays_what_it_was_however_the_sweep_ends(error):
    model = loaded()
    before = fingerprint(model.module)
    question = replace(QUESTION, sweep=replace(QUESTION.sweep, strategy="stepwise"))
    swept, said = chosen(model, question=question)
    if error is None:
        answer(NATIVE, swept, question)
    else:
        swept.module.model.norm = Ends(error)
        with pytest.raises((SweepFailed, SweepInterrupted)) as stop:
            saying(said, lambda: answer(NATIVE, swept, question))
        assert stop.value.answer.dequantised is said
    assert before.difference(fingerprint(model.module)) is None


@pytest.mark.parametrize("error", [ValueError("planted"), KeyboardInterrupt()], ids=repr)
def test_a_copy_that_is_not_finished_leaves_the_model_and_is_not_kept(monkeypatch, error):
    model, real, left = loaded(), weights.unpacked, iter(range(3))

    def unpacked(layer):
        if next(left, None) is None:
            raise error
        return real(layer)

    before = fingerprint(model.module)
    monkeypatch.setattr(weights, "unpacked", unpacked)
    copy = Float32Copy(model)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            copy.chosen(NATIVE, QUESTION)
    else:
        assert "ValueError: planted" in copy.chosen(NATIVE, QUESTION)[1].refused
    assert copy.copy is None
    assert before.difference(fingerprint(model.module)) is None


@pytest.mark.parametrize(
    ("planted", "row"),
    [("layers.2.mlp.up_proj", 5), ("model.embed_tokens", CLEAN.ids[2]), ("model.embed_tokens", CORRUPTED.ids[2])],
    ids=["a layer", "a token of the clean prompt", "a token of the corrupted prompt"],
)
def test_a_copy_that_is_wrong_in_one_group_is_refused_with_how_far_it_is_off(monkeypatch, planted, row):
    model, real = loaded(), weights.unpacked
    wrong = next(layer for name, layer in weights.quantised_layers(model.module).items() if name.endswith(planted))

    def unpacked(layer):
        weight = real(layer)
        if layer is wrong:
            weight[row, 32:64] *= 1.25
        return weight

    monkeypatch.setattr(weights, "unpacked", unpacked)
    swept, said = chosen(model)
    assert swept is model
    assert said.difference > 1e-5
    assert f"differ by {said.difference:.1e} of the largest, and rounding explains 1.0e-05" in str(said)


class Clipped(nn.QuantizedLinear):
    def __call__(self, x):
        return mx.minimum(super().__call__(x), 1.0)


def test_a_layer_of_another_class_is_refused_by_name():
    model = loaded()
    model.module.layers[1].mlp.up_proj.__class__ = Clipped
    said = "model.layers.1.mlp.up_proj is a Clipped, for which no layer with plain weights is known"
    assert refusal(model) == said


def test_a_global_scale_is_refused():
    model = loaded("qwen3_moe")
    model.module.layers[0].mlp.switch_mlp.up_proj.global_scale = mx.ones(4)
    assert "switch_mlp.up_proj has a global scale" in refusal(model)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_refused(dtype):
    model = loaded()
    layer = model.module.layers[1].mlp.up_proj
    layer.scales, layer.biases = (each.astype(getattr(mx, dtype)) for each in (layer.scales, layer.biases))
    assert refusal(model) == f"the scales of model.layers.1.mlp.up_proj are {dtype}"
    narrow = of_mode("mxfp4")
    narrow.module.set_dtype(getattr(mx, dtype))
    assert refusal(replace(narrow, card=replace(narrow.card, dtype=dtype))) == f"the model computes in {dtype}"
    assert refusal(narrow) == f"the model's logits are {dtype}"


def test_too_little_memory_is_refused_and_just_enough_is_not(monkeypatch):
    model = loaded()
    size = weights.float32_size(model.module)
    monkeypatch.setattr(dequantised, "free_bytes", lambda: 2 * size - 1)
    copy = Float32Copy(model)
    assert copy.chosen(NATIVE, QUESTION)[1].refused == (
        "the copy takes 0.852 MB, and half of the free memory is 0.852 MB"
    )
    assert copy.copy is None
    monkeypatch.setattr(dequantised, "free_bytes", lambda: 2 * size)
    assert copy.chosen(NATIVE, QUESTION)[1].used
    monkeypatch.setattr(dequantised, "free_bytes", lambda: 0)
    assert copy.chosen(NATIVE, QUESTION)[1].used, "it was made already"


def test_other_engines_and_sweeps_with_code_of_others_get_the_model_itself():
    model = loaded()
    for name in ("legacy", "published", "attribution"):
        assert refusal(model, ENGINES[name]) == f"the engine is {name}, and only native is given a copy"

    def mine(model, *args, **kwargs):
        raise AssertionError

    mine.harness = {"units": "percent", "metrics": ["l2"], "components": ["mlp_out"]}
    assert "only native is given a copy" in refusal(model, engine_of(mine))
    assert refusal(model, foreign=True) == "somebody else's code has a hand in it"


def test_a_gpu_and_the_reference_blas_are_refused(monkeypatch):
    model = loaded()
    monkeypatch.setattr(blas, "is_reference", lambda: True)
    monkeypatch.setattr(blas, "in_use", lambda: "libblas.so")
    monkeypatch.setattr(blas, "advice", lambda: "pip install it")
    assert refusal(model) == "libblas.so multiplies no faster in float32; for another BLAS: pip install it"
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu, 0))
    assert refusal(model) == "MLX does not compute on the CPU"


def test_logits_that_are_not_finite_are_refused():
    model = loaded()
    model.module.model.norm.weight = mx.full(model.module.model.norm.weight.shape, float("nan"))
    swept, said = chosen(model)
    assert swept is model
    assert (said.difference, said.refused) == (None, "unpatched logits of the model or of the copy are not finite")


def test_nothing_is_said_of_a_model_that_is_not_quantised():
    model = loaded(quantize=None)
    assert chosen(model) == (model, None)
    assert chosen(model, ENGINES["legacy"]) == (model, None)


def test_the_copy_is_proven_as_what_it_is():
    model = loaded()
    swept, _ = chosen(model)
    with remembered.trusting():
        proofs = []
        for each in (model, swept, replace(swept, proven=set())):
            given = answer(NATIVE, each, QUESTION)
            proofs.append((len(remembered.kept()), bool(given.proven_on)))
    assert proofs == [(2, False), (4, False), (4, True)], "two components each, and the third sweep relies on them"


def test_a_notebook_says_it_and_forgets_the_copy(made):
    model = InterpretableModel(loaded().module)
    prompts = {"clean_text": CLEAN.ids, "corrupted_text": CORRUPTED.ids}
    plain, given = (model.activation_patching(**prompts, dequantise=each) for each in ("never", "auto"))
    assert plain.dequantised is None
    assert given.dequantised.used
    assert dict(given) == pytest.approx(dict(plain), abs=0.05)
    gc.collect()
    assert [each() for each in made] == [None]
    with pytest.raises(Exception, match="'always' is not a way to dequantise"):
        model.activation_patching(**prompts, dequantise="always")
