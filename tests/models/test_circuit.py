"""The circuits keep their promises: judged by patching real mlx-lm classes plainly, and by numbers worked by hand."""

import time

import mlx.core as mx
import numpy as np
import plain_patching
import pytest
from pydantic import ValidationError

from harness.models.sources.groundtruth import load
from harness.models.spec import CircuitRow
from harness.vocabulary import AnswerTokens, Direction, Question, Reading, State, Sweep, Tokens
from harness.vocabulary.errors import ModelUnavailable, UsageError

POINTS = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.1}
FACTORS, GATED = {2: 0.75, 3: 0.5, 5: -0.25}, {2: 0.75, 3: 0.5, 5: 4.0}
LAYERS = range(6)
DESIGN = {"layers": 10, "attention_layer": 3, "factors": {4: 0.75, 6: 0.5, 9: -0.25}}
CLEAN, CORRUPTED = (1, 5, 6, 7), (2, 5, 6, 7)
DENSE = ("llama", "qwen2", "qwen3")
ON_CPU = mx.default_device().type == mx.DeviceType.cpu
BUILDS = [*((name, dtype) for name in DENSE for dtype in POINTS), ("qwen3_moe", "float32")]
COMPONENTS = ("mlp", "self_attn", "resid_pre", "resid_post")

_loaded, _runs = {}, {}


def circuit(architecture="llama", dtype="float32", kind="circuit", **more):
    key = (architecture, dtype, kind, repr(more))
    if key not in _loaded:
        factors = GATED if kind == "gated-circuit" else FACTORS
        row = {"vocab": 256, "layers": len(LAYERS), "attention_layer": 1, "factors": factors, **more}
        _loaded[key] = load(
            CircuitRow(id="c", source="groundtruth", kind=kind, architecture=architecture, dtype=dtype, **row)
        )
    return _loaded[key]


def question(direction="denoising", positions="all", clean=CLEAN, corrupted=CORRUPTED, answers=None):
    sweep = Sweep(("mlp",), None, Direction(direction), positions)
    return Question(Tokens(tuple(clean), ()), Tokens(tuple(corrupted), ()), sweep, ("l2",), answers)


def rows(model, asked, component, layer, columns=slice(None)):
    """Return the logits of the clean, the corrupted and the patched run, measured."""
    clean, corrupted = asked.clean.ids, asked.corrupted.ids
    base, source = (corrupted, clean) if asked.sweep.direction is Direction.DENOISING else (clean, corrupted)
    every = range(len(clean))
    places = {"all": tuple(every), "last": (every[-1],)}.get(asked.sweep.positions, asked.sweep.positions)
    patched = plain_patching.run_patched(model.module, base, source, component, layer, places, columns)
    return unpatched(model, clean), unpatched(model, corrupted), patched


def unpatched(model, ids):
    key = (id(model), tuple(ids))
    if key not in _runs:
        _runs[key] = plain_patching.run(model.module, ids)
    return _runs[key]


def compare(model, asked, components, layers, metrics=tuple(plain_patching.DISTANCES)):
    for component in components:
        for layer in layers:
            measured = rows(model, asked, component, layer)
            for metric in metrics:
                known = model.known.recovery(asked, component, layer, metric)
                found = plain_patching.percent(metric, *measured)
                assert found == pytest.approx(known.value, abs=model.known.tolerance(asked, metric)), (
                    component,
                    layer,
                    metric,
                )


@pytest.mark.parametrize("kind", ["circuit", "gated-circuit"])
@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.parametrize(("architecture", "dtype"), BUILDS)
def test_plain_patching_finds_what_is_known(architecture, dtype, direction, kind):
    model = circuit(architecture, dtype, kind)
    # A gate goes through exp, which each backend rounds in its own way.
    rounded = kind == "gated-circuit" and dtype != "float32"
    assert model.known.tolerance(question(), "l2") == POINTS[dtype] * (40 if rounded else 1)
    compare(model, question(direction), COMPONENTS, LAYERS)


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [("llama", "float32"), ("qwen2", "bfloat16"), ("qwen3", "float16"), ("qwen3_moe", "float32")],
)
def test_measured_recoveries_are_the_numbers_of_the_design(architecture, dtype):
    model = circuit(architecture, dtype, **DESIGN)
    for layer in range(10):
        expected = {
            "mlp": {4: 75.0, 6: 50.0, 9: -25.0}.get(layer, 0.0),
            "self_attn": 100.0 if layer == 3 else 0.0,
            "resid_pre": 100.0,
        }
        for component, percent in expected.items():
            measured = rows(model, question(), component, layer)
            assert plain_patching.percent("l2", *measured) == pytest.approx(percent, abs=POINTS[dtype])
            mse = 100 * (1 - (1 - percent / 100) ** 2)
            assert plain_patching.percent("mse", *measured) == pytest.approx(mse, abs=POINTS[dtype])


def test_a_linear_circuit_is_its_own_mirror_image():
    known = circuit().known
    for layer, factor in FACTORS.items():
        denoising, noising = (known.recovery(question(way), "mlp", layer, "l2").value for way in Direction)
        assert denoising == pytest.approx(100 * (1 - abs(1 - factor)))
        assert noising == pytest.approx(100 * (1 - abs(factor)))


def test_a_gated_circuit_tells_denoising_from_noising():
    """By hand, with p the linear factors' sum, g the gated one, and the two subjects as axes.

    Denoising layer i leaves -[p (1 + g) - f_i] of the clean subject and (p - f_i)(1 + g) of the other; noising leaves
    -f_i (1 + g) and f_i. The columns of the two subjects' rows turn that into a length.
    """
    model = circuit(kind="gated-circuit")
    one, two = model.known.head.own[:2].astype(float)
    p, g = 1.25, 4.0

    def length(a, b):
        return np.linalg.norm(a * one + b * two)

    whole = length(p * (1 + g), -p * (1 + g))
    for layer in (2, 3):
        f = GATED[layer]
        by_hand = {
            "denoising": 100 * (1 - length(p * (1 + g) - f, -(p - f) * (1 + g)) / whole),
            "noising": 100 * (1 - length(f * (1 + g), -f) / whole),
        }
        for direction, percent in by_hand.items():
            known = model.known.recovery(question(direction), "mlp", layer, "l2").value
            assert known == pytest.approx(percent, abs=1e-6)
            measured = rows(model, question(direction), "mlp", layer)
            assert plain_patching.percent("l2", *measured) == pytest.approx(percent, abs=1e-4)
        assert abs(by_hand["denoising"] + by_hand["noising"] - 100) > 3
        swapped = model.known.recovery(question("noising"), "mlp", layer, "l2").value
        assert abs(swapped - (100 - by_hand["denoising"])) > 3


HEADS = {("z", 0): slice(0, 8), ("z", 1): slice(8, 16), ("q", 0): slice(0, 8), ("q", 1): slice(8, 16),
         ("k", 0): slice(0, 8), ("v", 0): slice(0, 8)}  # fmt: skip
"""Two heads of queries, of width 8, share one of keys and values."""


@pytest.mark.parametrize("kind", ["circuit", "gated-circuit"])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("positions", ["all", "last", (0,), (0, 3)], ids=str)
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_heads_do_what_is_known_of_them(architecture, positions, direction, kind):
    model, asked, moved = circuit(architecture, kind=kind), question(direction, positions), {}
    for (component, head), columns in HEADS.items():
        for layer in LAYERS:
            measured = rows(model, asked, component, layer, columns)
            known = model.known.recovery(asked, component, layer, "l2", head)
            assert plain_patching.percent("l2", *measured) == pytest.approx(known.value, abs=1e-4), (component, layer)
            moved[component, head, layer] = known.value != 0 if direction == "denoising" else known.value != 100
    reading = {("z", 0)} if positions in ("all", "last", (0, 3)) else set()
    subject = {("v", 0)} if positions in ("all", (0,), (0, 3)) else set()
    assert {key[:2] for key, value in moved.items() if value} == reading | subject
    assert {key[2] for key, value in moved.items() if value} == {1}


@pytest.mark.parametrize("kind", ["circuit", "gated-circuit"])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("positions", ["all", "last", (0, 1)], ids=str)
def test_neurons_do_what_their_projection_does(positions, direction, kind):
    compare(circuit(kind=kind), question(direction, positions), ("mlp_post",), LAYERS)
    assert circuit("qwen3_moe").known.recovery(question(), "mlp_post", 2, "l2") is None


@pytest.mark.parametrize("kind", ["circuit", "gated-circuit"])
@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.parametrize("positions", ["last", (0,), (1, 2), (0, 3)], ids=str)
def test_positions(positions, direction, kind):
    compare(circuit(kind=kind), question(direction, positions), COMPONENTS, LAYERS, ("l2", "cosine"))


def test_the_subject_is_at_its_own_position_before_attention_and_at_the_last_after_it():
    known = circuit().known

    def residual(positions):
        return [known.recovery(question("denoising", positions), "resid_pre", i, "l2").value for i in LAYERS]

    assert residual("last") == [0.0] * 2 + [100.0] * 4
    assert residual((0,)) == [100.0] * 2 + [0.0] * 4


@pytest.mark.parametrize(
    ("clean", "corrupted"),
    [((1, 5, 2, 7), (3, 5, 1, 7)), ((1, 1, 2, 2), (2, 1, 2, 2)), ((1,), (2,)), ((4, 1) * 4, (4, 2) * 4)],
    ids=["two subjects", "repeated", "one token", "eight tokens"],
)
@pytest.mark.parametrize("dtype", POINTS)
@pytest.mark.parametrize("kind", ["circuit", "gated-circuit"])
def test_other_prompts(clean, corrupted, dtype, kind):
    for positions in ("all", (0,)):
        compare(
            circuit(dtype=dtype, kind=kind), question("denoising", positions, clean, corrupted), COMPONENTS, (1, 2, 5)
        )


@pytest.mark.parametrize("dtype", POINTS)
@pytest.mark.parametrize("kind", ["circuit", "gated-circuit"])
@pytest.mark.parametrize("length", [3, 5, 7])
def test_a_length_that_is_no_power_of_two_rounds_and_says_so(length, dtype, kind):
    clean, corrupted = (1, *[5] * (length - 1)), (2, *[5] * (length - 1))
    asked = question("denoising", "all", clean, corrupted)
    model = circuit(dtype=dtype, kind=kind, vocab=4096)
    assert model.known.tolerance(asked, "l2") == POINTS[dtype] * (1 if dtype == "float32" else 40)
    compare(model, asked, COMPONENTS, LAYERS)


@pytest.mark.parametrize(("component", "module"), [("mlp", "mlp.down_proj"), ("self_attn", "self_attn.o_proj")])
def test_the_last_projection_is_the_module(component, module):
    model = circuit()
    compare(model, question(), (module,), LAYERS)
    for layer in LAYERS:
        pair = [model.known.recovery(question(), name, layer, "mse") for name in (component, module)]
        assert pair[0] == pair[1]


@pytest.mark.parametrize(
    ("known_of", "patched_at"),
    [
        (("mlp", 3), ("mlp", 4)),
        (("mlp", 2), ("self_attn", 2)),
        (("self_attn", 1), ("self_attn", 2)),
        (("mlp", 5), ("mlp", 4)),
    ],
    ids=["next layer", "wrong component", "attention off by one", "negative factor"],
)
def test_a_patch_in_the_wrong_place_misses_the_known_answer(known_of, patched_at):
    model = circuit()
    known = model.known.recovery(question(), *known_of, "l2").value
    assert abs(plain_patching.percent("l2", *rows(model, question(), *patched_at)) - known) > 20


@pytest.mark.parametrize("architecture", [*DENSE, "qwen3_moe"])
def test_what_recovers_nothing_still_differs_between_the_runs(architecture):
    module = circuit(architecture).module
    for layer in LAYERS:
        for name in ("mlp", "self_attn"):
            seen: list[np.ndarray] = []
            target = getattr(module.layers[layer], name)
            with plain_patching.swapped(target, lambda x, seen=seen: seen.append(np.array(x)) or x, on_input=False):
                for ids in (CLEAN, CORRUPTED):
                    plain_patching.run(module, ids)
            assert (seen[0][0, -1] != seen[1][0, -1]).any() or (name, layer) == ("mlp", 0), (layer, name)
            assert (seen[0] != seen[1]).any(), (layer, name)


@pytest.mark.parametrize("metric", ["kl_divergence", "log_prob", "logit_diff"])
def test_distribution_metrics_against_their_definitions(metric):
    model = circuit()
    logits = rows(model, question(), "mlp", 2)
    log_p, *_ = logs = [row - np.log(np.exp(row).sum()) for row in logits]
    value = {
        "kl_divergence": lambda i: (np.exp(log_p) * (log_p - logs[i])).sum(),
        "log_prob": lambda i: logs[i][8],
        "logit_diff": lambda i: logits[i][8] - logits[i][9],
    }[metric]
    expected = 100 * (value(2) - value(1)) / (value(0) - value(1))
    for answers in (None, AnswerTokens(8, 9)):
        known = model.known.recovery(question(answers=answers), "mlp", 2, metric)
        assert known.value == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("dtype", POINTS)
def test_the_reports_own_baseline(dtype):
    """L2 313.7, MSE 0.648, cosine 0.0078; sampling the columns leaves 0.3 %."""
    circuit("qwen3", dtype)
    started = time.perf_counter()
    model = circuit("qwen3", dtype, vocab=151_936, scale=0.805)
    assert time.perf_counter() - started < 2
    clean, corrupted, patched = rows(model, question(), "mlp", 3)
    assert plain_patching.l2(clean, corrupted) == pytest.approx(313.7, rel=3e-3)
    assert plain_patching.mse(clean, corrupted) == pytest.approx(0.648, rel=6e-3)
    assert plain_patching.cosine(clean, corrupted) == pytest.approx(0.0078, rel=2e-2)
    assert plain_patching.percent("l2", clean, corrupted, patched) == pytest.approx(50, abs=POINTS[dtype])


@pytest.mark.parametrize(("architecture", "dtype"), BUILDS)
@pytest.mark.parametrize("kind", ["circuit", "gated-circuit"])
def test_the_logits_themselves_are_the_algebra(architecture, dtype, kind):
    model = circuit(architecture, dtype, kind)
    shared, own, unit = model.known.head.shared, model.known.head.own, model.known.head.unit
    strength = 1.25 + 4.0 * 1.25 if kind == "gated-circuit" else 1.0
    rounding = 1e-5 if dtype == "float32" else 0.0
    for subject in (1, 2, 3):
        found = plain_patching.run(model.module, (subject, 5, 6, 7))
        np.testing.assert_allclose(found, (shared + strength * own[subject - 1]) * unit, atol=rounding, rtol=0)
        assert found.argmax() == 7 + subject


@pytest.mark.parametrize("architecture", [*DENSE, "qwen3_moe"])
def test_the_classes_are_those_of_mlx_lm(architecture):
    module = circuit(architecture).module
    assert type(module).__module__ == f"mlx_lm.models.{architecture}"
    assert type(module.layers[0]).__module__ == f"mlx_lm.models.{architecture}"


def test_factors_that_do_not_add_up_to_one_recover_their_share():
    model = circuit(factors={1: 1.5, 3: 0.5})
    assert model.known.recovery(question(), "mlp", 1, "l2").value == pytest.approx(75)
    compare(model, question(), ("mlp",), (1, 2, 3))


def test_the_same_prompt_twice_is_a_zero_baseline():
    asked = question(corrupted=CLEAN)
    assert circuit().known.recovery(asked, "mlp", 4, "l2") == Reading.absent(State.ZERO_BASELINE)


@pytest.mark.parametrize(
    ("component", "layer", "asked"),
    [
        ("mlp.gate_proj", 4, question()),
        ("mlp", 6, question()),
        ("mlp", 4, question(clean=(1, 5))),
        ("mlp", 4, question(positions=(4,))),
    ],
    ids=["inner module", "no such layer", "unequal lengths", "no such position"],
)
def test_nothing_is_known_of(component, layer, asked):
    assert circuit().known.recovery(asked, component, layer, "l2") is None


@pytest.mark.skipif(not ON_CPU, reason="a GPU runs half-precision experts")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_experts_are_unavailable_on_the_cpu(dtype):
    with pytest.raises(ModelUnavailable, match=f"GatherMM has no {dtype} on the CPU; use float32"):
        circuit("qwen3_moe", dtype)


def test_factors_the_dtype_would_round_are_refused():
    with pytest.raises(UsageError, match=r"model 'c': factors .* not exact in bfloat16; use multiples"):
        circuit(dtype="bfloat16", factors={4: 0.3})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"attention_layer": 6}, "attention_layer: 6 does not exist in 6 layers"),
        ({"factors": {0: 1.0}}, "nothing reaches the MLP of layer 0; choose layers 1 to 5"),
        ({"factors": {6: 1.0}}, "nothing reaches the MLP of layer 6"),
        ({"factors": {4: 1.0, 5: -1.0}}, "the sum of those that add is 0"),
        ({"factors": {4: 1.0}, "kind": "gated-circuit"}, "at least two layers"),
    ],
    ids=["attention layer", "before attention", "beyond the end", "cancelling", "gate alone"],
)
def test_a_row_that_means_nothing_is_refused(more, message):
    with pytest.raises(ValidationError, match=message):
        circuit(**more)


def test_card_and_tokenizer():
    model = circuit("qwen3")
    card = model.card
    assert (card.source, card.architecture, card.layers, card.vocab) == ("groundtruth", "qwen3", 6, 256)
    assert model.tokenizer.encode("anna likes to drink") == list(CLEAN)
    assert model.tokenizer.encode("bert likes to drink") == list(CORRUPTED)
    assert model.tokenizer.decode([8, 9, 10]) == "tea coffee milk"


@pytest.mark.parametrize(("architecture", "dtype"), BUILDS)
def test_a_traced_run_equals_a_bare_one(architecture, dtype):
    module = circuit(architecture, dtype).module
    bare = plain_patching.run(module, CLEAN)
    for layer in (0, 1, 5):
        for target in (module.layers[layer], module.layers[layer].mlp, module.layers[layer].self_attn):
            with plain_patching.swapped(target, lambda x: x, on_input=False):
                np.testing.assert_array_equal(plain_patching.run(module, CLEAN), bare)
