"""The dial keeps its promises: judged by patching it plainly, and by the two formulas written out."""

import time

import mlx.core as mx
import numpy as np
import plain_patching
import pytest
from pydantic import ValidationError

from harness.models.sources.groundtruth import load
from harness.models.sources.groundtruth.closed_form import recovery
from harness.models.spec import DialRow
from harness.vocabulary import AnswerTokens, Direction, Question, Reading, State, Sweep, Tokens
from harness.vocabulary.errors import UsageError

POINTS = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.1}
QUARTERS, HALVES = (1.0, 0.5, 0.25, 0.75, 0.0), (0.5, 1.0, 0.5)
CLEAN, CORRUPTED = (2, 3, 0), (5, 3, 1)


def dial(logits="plain", dtype="float32", weights=QUARTERS, vocab=512, **more):
    row = {"vocab": vocab, "weights": weights, "logits": logits, "dtype": dtype, **more}
    return load(DialRow(id="d", source="groundtruth", kind="dial", **row))


def question(direction="denoising", positions="all", clean=CLEAN, corrupted=CORRUPTED, answers=None):
    sweep = Sweep(("mlp",), None, Direction(direction), positions)
    return Question(Tokens(tuple(clean), ()), Tokens(tuple(corrupted), ()), sweep, ("l2",), answers)


def ends(direction, clean=CLEAN, corrupted=CORRUPTED):
    return (corrupted, clean) if direction == "denoising" else (clean, corrupted)


def measured(model, metric, direction, component="mlp", layer=0, positions=(0, 1, 2)):
    base, source = ends(direction)
    patched = plain_patching.run_patched(model.module, base, source, component, layer, positions)
    clean, corrupted = (plain_patching.run(model.module, ids) for ids in (CLEAN, CORRUPTED))
    return plain_patching.percent(metric, clean, corrupted, patched)


COMBINATIONS = [
    *((profile, dtype, QUARTERS) for profile in ("plain", "extreme") for dtype in POINTS),
    ("plain", "bfloat16", (0.125, 0.875)),
    ("plain", "float16", (0.0625, 0.9375)),
    ("plain", "float32", (2.0**-10, 1 - 2.0**-10)),
    ("mean10", "float32", QUARTERS),
    ("mean10", "float16", QUARTERS),
    ("mean10", "bfloat16", HALVES),
    ("tiny", "float32", QUARTERS),
    ("tiny", "bfloat16", QUARTERS),
    ("huge", "float32", QUARTERS),
    ("huge", "bfloat16", QUARTERS),
    ("parallel", "float32", QUARTERS),
    ("parallel", "float16", QUARTERS),
    ("parallel", "bfloat16", QUARTERS),
]


@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.parametrize(("profile", "dtype", "weights"), COMBINATIONS)
def test_plain_patching_finds_what_is_known(profile, dtype, weights, direction):
    model = dial(profile, dtype, weights)
    for layer in range(len(weights)):
        for metric in plain_patching.DISTANCES:
            known = model.known.recovery(question(direction), "mlp", layer, metric)
            found = measured(model, metric, direction, layer=layer)
            assert found == pytest.approx(known.value, abs=POINTS[dtype]), (layer, metric)
            assert model.known.tolerance(question(), metric) == POINTS[dtype]


@pytest.mark.parametrize("profile", ["plain", "mean10", "extreme", "tiny", "huge", "parallel"])
def test_known_recoveries_are_the_two_formulas(profile):
    known = dial(profile, "float32").known
    for layer, w in enumerate(QUARTERS):
        found = {
            (direction, metric): known.recovery(question(direction), "mlp", layer, metric).value
            for direction in ("denoising", "noising")
            for metric in ("l2", "mse")
        }
        assert found == pytest.approx(
            {
                ("denoising", "l2"): 100 * (1 - abs(1 - w)),
                ("denoising", "mse"): 100 * (1 - (1 - w) ** 2),
                ("noising", "l2"): 100 * (1 - w),
                ("noising", "mse"): 100 * (1 - w**2),
            },
            abs=1e-9,
        )


@pytest.mark.parametrize("dtype", POINTS)
@pytest.mark.parametrize("profile", ["plain", "extreme", "suppressed"])
def test_unpatched_blocks_give_their_input_back_exactly(profile, dtype):
    model = dial(profile, dtype, (0.25, 0.5, 0.75))
    for token in range(8):
        np.testing.assert_array_equal(plain_patching.run(model.module, [token]), model.known.table[token])


@pytest.mark.parametrize("component", ["resid_pre", "resid_post", "output", "mlp_out"])
@pytest.mark.parametrize("positions", ["all", "last", (0, 1), (-1,)], ids=str)
@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_positions_and_residual(component, positions, direction):
    model = dial()
    places = {"all": (0, 1, 2), "last": (2,), (0, 1): (0, 1), (-1,): (2,)}[positions]
    for layer in range(len(QUARTERS)):
        known = model.known.recovery(question(direction, positions), component, layer, "l2")
        assert measured(model, "l2", direction, component, layer, places) == pytest.approx(known.value, abs=1e-4)
        if component != "mlp_out":
            restored = (positions != (0, 1)) == (direction == "denoising")
            assert known.value == pytest.approx(100.0 if restored else 0.0, abs=1e-9)


@pytest.mark.parametrize(("wrong_layer", "wrong_component"), [(3, "mlp"), (2, "resid_pre")])
def test_a_patch_in_the_wrong_place_misses_the_known_answer(wrong_layer, wrong_component):
    model = dial()
    known = model.known.recovery(question(), "mlp", 2, "l2").value
    assert abs(measured(model, "l2", "denoising", wrong_component, wrong_layer) - known) > 10


@pytest.mark.parametrize("metric", ["kl_divergence", "log_prob", "logit_diff"])
@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_distribution_metrics_against_their_definitions(metric, direction):
    model = dial(weights=(0.25, 0.75))
    base, source = ends(direction)
    rows = [plain_patching.run(model.module, ids) for ids in (CLEAN, CORRUPTED)]
    rows.append(plain_patching.run_patched(model.module, base, source, "mlp", 0, (0, 1, 2)))
    log_p, *_ = logs = [row - np.log(np.exp(row).sum()) for row in rows]
    value = {
        "kl_divergence": lambda i: (np.exp(log_p) * (log_p - logs[i])).sum(),
        "log_prob": lambda i: logs[i][0],
        "logit_diff": lambda i: rows[i][0] - rows[i][1],
    }[metric]
    expected = 100 * (value(2) - value(1)) / (value(0) - value(1))
    assert model.known.recovery(question(direction), "mlp", 0, metric).value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("profile", ["plain", "mean10", "extreme", "huge", "tiny", "parallel", "suppressed"])
def test_the_dial_repeats_its_token(profile):
    model = dial(profile, weights=(0.5,))
    assert [int(plain_patching.run(model.module, [token]).argmax()) for token in range(8)] == list(range(8))


@pytest.mark.parametrize("profile", ["nan", "inf"])
@pytest.mark.parametrize("metric", ["l2", "mse", "cosine", "kl_divergence", "log_prob"])
def test_a_row_that_is_not_finite_leaves_the_recovery_undefined(profile, metric):
    known = dial(profile).known
    for pair in ({"corrupted": (1,), "clean": (0,)}, {"corrupted": (0,), "clean": (1,)}):
        asked = question(**pair)
        assert known.recovery(asked, "mlp", 0, metric) == Reading.absent(State.UNDEFINED)
    elsewhere = question(clean=(0,), corrupted=(2,))
    assert known.recovery(elsewhere, "mlp", 2, "l2").value == pytest.approx(25)


def test_suppressed_ids_are_left_out():
    model, plain = dial("suppressed", weights=(0.25, 0.5)), dial("plain", weights=(0.25, 0.5))
    assert np.flatnonzero(np.isneginf(plain_patching.run(model.module, CLEAN))).tolist() == [510, 511]
    for metric in ("l2", "mse", "cosine", "kl_divergence", "log_prob"):
        rows = [plain.known.table[row, :510] for row in (0, 1)]
        alone = recovery(metric, *rows, 0.75 * rows[1] + 0.25 * rows[0], None)
        assert model.known.recovery(question(), "mlp", 0, metric).value == pytest.approx(alone.value)
    patched = plain_patching.run_patched(model.module, CORRUPTED, CLEAN, "mlp", 0, (0, 1, 2))
    assert np.isneginf(patched[510:]).all()
    assert np.isfinite(patched[:510]).all()


def test_equal_rows_are_a_zero_baseline():
    known = dial().known
    asked = question(clean=(0, 3), corrupted=(1, 11), answers=AnswerTokens(4, 5))
    assert known.recovery(asked, "mlp", 0, "l2") == Reading.absent(State.ZERO_BASELINE)
    assert known.recovery(asked, "mlp", 0, "logit_diff") == Reading.absent(State.ZERO_BASELINE)


@pytest.mark.parametrize(
    ("component", "layer", "asked"),
    [
        ("self_attn", 0, question()),
        ("mlp", 5, question()),
        ("mlp", 0, question(clean=(0, 1))),
        ("mlp", 0, question(positions="each")),
    ],
    ids=["no attention", "no such layer", "unequal lengths", "unknown positions"],
)
def test_nothing_is_known_of(component, layer, asked):
    assert dial().known.recovery(asked, component, layer, "l2") is None


def test_an_unknown_metric_is_not_known():
    assert dial().known.recovery(question(), "mlp", 0, "manhattan") is None


@pytest.mark.parametrize("dtype", POINTS)
def test_the_reports_own_size(dtype):
    """L2 313.8, MSE 0.648, cosine 0.0078; sampling the columns leaves 0.3 %."""
    started = time.perf_counter()
    model = dial(dtype=dtype, vocab=151_936, scale=0.805, weights=(1.0, 0.5, 0.25, 0.75))
    assert time.perf_counter() - started < 2
    clean, corrupted = (plain_patching.run(model.module, [token]) for token in (0, 1))
    assert plain_patching.l2(clean, corrupted) == pytest.approx(313.8, rel=3e-3)
    assert plain_patching.mse(clean, corrupted) == pytest.approx(0.648, rel=6e-3)
    assert plain_patching.cosine(clean, corrupted) == pytest.approx(0.0078, rel=2e-2)


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.9])
def test_scale_is_the_rms_difference_of_two_rows(scale):
    table = dial(vocab=151_936, scale=scale, weights=(0.5,)).known.table
    assert np.sqrt(np.mean((table[3] - table[6]) ** 2)) == pytest.approx(scale, rel=5e-3)


def test_profiles_look_as_they_are_called():
    tables = {name: dial(name, vocab=4096).known.table for name in ("mean10", "extreme", "tiny", "huge", "parallel")}
    assert tables["mean10"].mean() == pytest.approx(10, abs=0.05)
    assert (tables["mean10"][0] - tables["mean10"][1]).std() == pytest.approx(0.1, rel=0.1)
    assert np.abs(tables["extreme"]).max() == 40960
    assert np.abs(tables["extreme"][0] - tables["extreme"][1]).max() > 65504
    assert np.abs(tables["tiny"]).max() == pytest.approx(1e-14, rel=0.5)
    assert np.abs(tables["huge"]).max() == pytest.approx(1e17, rel=0.5)
    assert plain_patching.cosine(*tables["parallel"][:2]) < 1e-6
    assert np.linalg.norm(tables["parallel"][1]) / np.linalg.norm(tables["parallel"][0]) == pytest.approx(2, rel=1e-3)


def test_the_seed_decides_the_logits():
    one, two, again = (dial(seed=seed, vocab=64).known.table for seed in (1, 2, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != two).any()


@pytest.mark.parametrize(
    ("profile", "dtype", "weights"),
    [
        ("plain", "float32", (0.3,)),
        ("plain", "bfloat16", (0.0625,)),
        ("mean10", "bfloat16", (0.25,)),
        ("tiny", "float16", (0.5,)),
        ("huge", "float16", (0.5,)),
    ],
)
def test_what_the_dtype_would_round_is_refused(profile, dtype, weights):
    with pytest.raises(UsageError, match=rf"model 'd': {profile} logits .* not exact in {dtype}; use weights"):
        dial(profile, dtype, weights)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"weights": (1.5,)}, "less than or equal to 1"),
        ({"weights": (1.0,), "logits": "suppressed"}, "0 x -inf = NaN"),
        ({"logits": "huge", "scale": 2.0}, "size of its own"),
        ({"vocab": 8}, "greater than or equal to 16"),
    ],
    ids=["weight", "suppressed", "scale", "vocab"],
)
def test_a_row_that_means_nothing_is_refused(more, message):
    with pytest.raises(ValidationError, match=message):
        dial(**more)


def test_any_token_id_selects_a_row():
    model = dial()
    np.testing.assert_array_equal(plain_patching.run(model.module, [507]), model.known.table[507 % 8])


def test_card_and_tokenizer():
    model = dial(dtype="float16")
    card = model.card
    assert (card.architecture, card.layers, card.vocab, card.dtype) == ("dial", 5, 512, "float16")
    assert model.tokenizer.encode("a c h") == [0, 2, 7]
    assert model.tokenizer.decode([0, 2, 300]) == "a c <300>"
    with pytest.raises(UsageError, match="'z' is not a word of this model"):
        model.tokenizer.encode("a z")


@pytest.mark.parametrize("dtype", POINTS)
def test_a_traced_run_equals_a_bare_one(dtype):
    model = dial(dtype=dtype)
    bare = plain_patching.run(model.module, CLEAN)
    seen: list[mx.array] = []
    with plain_patching.swapped(model.module.layers[1].mlp, lambda x: seen.append(x) or x, on_input=False):
        np.testing.assert_array_equal(plain_patching.run(model.module, CLEAN), bare)
    assert len(seen) == 1
