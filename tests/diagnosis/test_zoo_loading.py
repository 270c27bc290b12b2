"""Tensors that were never loaded, and weights held against their originals: plantings, bounds, look-alikes."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from planting import CLEAN, CORRUPTED, build, module_of, save_folder

from harness.diagnosis import diagnose
from harness.diagnosis.weights.initialised import LEAST, initial
from harness.diagnosis.weights.quantised import QuantisedMatrix, columns_of
from harness.diagnosis.weights.tensors import MemoryTensor, of_module
from harness.diagnosis.zoo import ZOO
from harness.diagnosis.zoo.loading import LOOKALIKES, MODES
from harness.diagnosis.zoo.trial import required_place
from harness.metrics import summarize
from harness.models import bundled, load
from harness.vocabulary.errors import ModelUnavailable

DTYPES = ("float32", "float16", "bfloat16")
EVERY_MODE = [("affine", g, b) for g in (32, 64, 128) for b in (2, 3, 4, 5, 6, 8)] + [
    ("mxfp4", 32, 4), ("nvfp4", 16, 4), ("mxfp8", 32, 8),
]  # fmt: skip


def start(name, array):
    return initial(MemoryTensor(name, array), summarize(array.reshape(-1)))


def uniform(inputs):
    """Return what a depthwise convolution of 512 channels starts with: MLX 0.32.3 says 2048 inputs, 0.32.4 says 4."""
    return mx.random.uniform(-(inputs**-0.5), inputs**-0.5, (512, 4, 1))


def test_a_depthwise_convolution_of_this_mlx_is_recognised():
    assert start("conv.weight", nn.Conv1d(512, 512, 4, groups=512).weight).startswith("uniform within 1/sqrt(")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("linear", lambda: nn.Linear(96, 64).weight, "uniform within 1/sqrt(96)"),
        ("conv", lambda: nn.Conv1d(96, 32, 4).weight, "uniform within 1/sqrt(384)"),
        ("depthwise", lambda: uniform(4), "uniform within 1/sqrt(4)"),
        ("depthwise", lambda: uniform(2048), "uniform within 1/sqrt(2048)"),
        ("depthwise", lambda: uniform(512), ""),
        ("embed_tokens", lambda: nn.Embedding(500, 64).weight, "normal with the deviation 1/sqrt(64)"),
        ("norm", lambda: nn.RMSNorm(64).weight, "all 1"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_what_mlx_starts_a_layer_with_is_recognised(name, make, said, dtype):
    for seed in range(10):
        mx.random.seed(seed)
        assert start(f"{name}.weight", make().astype(getattr(mx, dtype))) == said


def test_what_mlx_lm_starts_its_own_layers_with_is_recognised():
    from mlx_lm.models.mla import MultiLinear
    from mlx_lm.models.switch_layers import SwitchLinear

    assert start("experts.weight", SwitchLinear(64, 32, 4).weight) == "uniform within 1/sqrt(64)"
    assert start("heads.weight", MultiLinear(64, 32, 4).weight) == "uniform within 1/sqrt(64)"


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (256, 96), (1024, 512)], ids=str)
def test_normal_weights_of_no_deviation_pass_for_new_ones(shape):
    """Of 400 draws whose deviations cover the bound's neighbourhood, none passes."""
    rng = np.random.default_rng(0)
    for deviation in np.geomspace(0.2, 1.0, 400 if shape[0] < 1024 else 20):
        values = rng.normal(size=shape) * deviation / np.sqrt(shape[1])
        assert start("x.weight", mx.array(values.astype(np.float32))) == ""
        assert shape[0] * shape[1] >= LEAST


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_uniform_draw_of_another_bound_and_an_embedding_of_another_deviation_are_trained(factor):
    mx.random.seed(1)
    assert start("x.weight", factor * nn.Linear(64, 256).weight) == ""
    assert start("wte.weight", factor * nn.Embedding(4000, 64).weight) == ""


def test_a_model_that_is_new_as_a_whole_is_called_untrained(tmp_path):
    new = type(build().module)(build().module.args)
    found = diagnose(new, prompt=CLEAN)
    assert found.verdict == "clean"
    assert "untrained: all 30 matrices are as MLX starts them" in next(
        s.summary for s in found.steps if s.name == "weights"
    )


def plantings(*names):
    chosen = [(name, planting) for name in names for planting in ZOO[name].plantings]
    return pytest.mark.parametrize(("name", "planting"), chosen, ids=[f"{n} {each.name}" for n, each in chosen])


@plantings("F27")
def test_a_planted_tensor_is_as_mlx_starts_it_and_others_are_not(name, planting):
    with planting.plant(planting.architecture) as arguments:
        module = arguments["model"].module
        layer = dict(module.named_modules())[required_place(planting)["module"].removesuffix(".weight")] if (
            "module" in planting.place) else None  # fmt: skip
        if layer is not None and planting.variant != "a norm":
            values, scale = np.array(layer.weight), layer.weight.shape[-1] ** -0.5
            assert np.std(values) == pytest.approx(
                scale if "embedding" in planting.variant else scale / 3**0.5, rel=0.05
            )
        assert len(tree_flatten(module.parameters())) > 20


@plantings("F28")
def test_a_planted_weight_is_far_from_its_original(name, planting):
    with planting.plant(planting.architecture) as arguments:
        before = mx.load(str(arguments["before"] / "model.safetensors"))
        module = arguments["model"].module
        place = planting.place.get("module")
        path = required_place(planting)["module"].removesuffix(".weight") if place else "lm_head"
        layer = dict(module.named_modules())[path]
        weight = layer.weight
        if "scales" in layer:
            weight = mx.dequantize(weight, layer.scales, layer.get("biases"), layer.group_size, layer.bits, layer.mode)
        wanted = np.array(before[f"{path}.weight"].astype(mx.float32))
        apart = np.abs(np.array(weight.astype(mx.float32)) - wanted)
        assert np.sqrt((apart**2).mean() / (wanted**2).mean()) > 0.05


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_look_alike_is_left_alone(name):
    with LOOKALIKES[name]("llama") as arguments:
        found = diagnose(**arguments)
    assert [each.code for each in found.findings if each.place.step == "weights"] == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", EVERY_MODE, ids=str)
@pytest.mark.parametrize("kind", ["normal", "heavy", "one-sided", "tiny", "constant"])
def test_no_weight_is_farther_from_its_level_than_half_a_step(kind, how, dtype):
    """True quantisation, as MLX does it, breaks the bound nowhere; 5 % of noise breaks it in most groups of normal
    weights at 4 bits and more."""
    mode, group, bits = how
    rng = np.random.default_rng(0)
    weights = {
        "normal": lambda: rng.normal(size=(64, 512)),
        "heavy": lambda: rng.standard_t(2, (64, 512)),
        "one-sided": lambda: rng.uniform(0.9, 1, (64, 512)),
        "tiny": lambda: 1e-4 * rng.normal(size=(64, 512)),
        "constant": lambda: np.full((64, 512), 0.3),
    }[kind]()
    source = mx.array(weights.astype(np.float32)).astype(getattr(mx, dtype))
    parts = dict(zip(("weight", "scales", "biases"), mx.quantize(source, group, bits, mode), strict=False))
    tensors = {f"x.{part}": MemoryTensor(f"x.{part}", array) for part, array in parts.items()}
    matrix = QuantisedMatrix.named("x.weight", tensors, 512)
    assert (matrix.mode, matrix.group, matrix.bits) == how
    exact = np.array(source.astype(mx.float32)).astype(np.float64)
    ((_, stored, groups),) = matrix.pieces()
    assert groups.excess(exact.reshape(stored.shape), stored).max() <= 0
    noisy = exact + 0.05 * exact.std() * rng.normal(size=exact.shape)
    bad = (groups.excess(noisy.reshape(stored.shape), stored) > 0).any(axis=-1).mean()
    assert kind != "normal" or bits < 4 or bad > 0.8


def test_the_columns_of_a_quantised_layer_are_read_from_the_layer():
    model = build(dtype="float32")
    nn.quantize(model.module, 32, 4)
    columns = columns_of(model.module)
    assert columns["model.layers.0.mlp.down_proj.weight"] == 128
    tensors = {each.name: each for each in of_module(model.module)}
    assert all(QuantisedMatrix.named(name, tensors, width).bits == 4 for name, width in columns.items())


def test_a_folder_with_other_names_is_no_original_and_one_without_the_head_is(tmp_path):
    model = build(dtype="float32")
    folder = save_folder(model, tmp_path / "same", lambda tensors: tensors.pop("lm_head.weight"))
    assert diagnose(model, before=folder).verdict == "clean"

    def renamed(tensors):
        for name in list(tensors):
            tensors[f"x.{name}"] = tensors.pop(name)

    found = diagnose(model, before=save_folder(model, tmp_path / "other", renamed)).cause
    assert (found.code, found.confidence) == ("DIA110", "suspected")


def test_the_transpose_of_a_matrix_that_is_not_square_shows_in_its_shape(tmp_path):
    model = build(dtype="float32")
    name = "model.layers.1.mlp.down_proj.weight"
    folder = save_folder(model, tmp_path / "m", lambda tensors: tensors.update({name: tensors[name].T}))
    found = diagnose(model, before=folder).cause
    assert (found.code, found.place.module) == ("DIA110", name)
    assert "transpose of its original" in found.message


@pytest.mark.parametrize("quantise", [False, True])
def test_a_padded_row_that_wins_is_named(quantise):
    model = build(dtype="float32")
    head = module_of(model, "lm_head")
    rows = mx.arange(512)[:, None] < 500
    head.weight = mx.where(rows, -mx.abs(head.weight), 0)
    model.module.model.norm = _Constant(mx.ones(64))
    if quantise:
        nn.quantize(model.module, 32, 4)
    found = [each for each in diagnose(model, prompt=CLEAN).findings if each.code == "DIA223"]
    assert [(each.place.module, each.place.dimension >= 500) for each in found] == [("lm_head.weight", True)]


class _Constant(nn.Module):
    """A norm after which every token is the same, so that the signs of the head decide."""

    def __init__(self, value):
        super().__init__()
        self._value = value

    def __call__(self, x):
        return mx.broadcast_to(self._value, x.shape)


def test_answers_that_a_padded_row_gives_are_told_so():
    from harness.engines import answer, engine_named
    from harness.vocabulary import Question, Sweep, Tokens
    from harness.vocabulary.raised import FindingError

    model = build(dtype="float32")
    head = module_of(model, "lm_head")
    head.weight = mx.where(mx.arange(512)[:, None] < 500, -mx.abs(head.weight), 0)
    model.module.model.norm = _Constant(mx.ones(64))
    question = Question(Tokens(CLEAN, CLEAN), Tokens(CORRUPTED, CORRUPTED), Sweep(("mlp_out",)), ("logit_diff",))
    with pytest.raises(FindingError, match=r"row 500 of lm_head\.weight is zero, a row of a padded vocabulary"):
        answer(engine_named("native"), model, question)


@pytest.mark.parametrize("name", ["smollm2-135m-f32", "smollm2-135m-f16", "smollm2-135m-bf16", "smollm2-135m-q4"])
@pytest.mark.slow
def test_no_tensor_of_a_trained_model_looks_new(name):
    try:
        model = load(bundled()[name])
    except ModelUnavailable as error:
        pytest.skip(str(error))
    found = diagnose(model)
    assert [each.code for each in found.findings] == []
    assert "untrained" not in next(step.summary for step in found.steps if step.name == "weights")


def test_every_mode_of_mlx_is_among_the_plantings():
    assert {mode.split()[0] for mode in MODES} == {"affine", "mxfp4", "nvfp4", "mxfp8"}
