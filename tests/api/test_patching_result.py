"""What a patching result promises: numbers where there are some, states everywhere, and errors in place of guesses."""

from __future__ import annotations

import importlib.util
import json
import signal
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from example_results import curve, grid

import harness
from harness import InterpretableModel, PatchingResult, models
from harness.models.fingerprint import fingerprint, settled
from harness.models.spec import DialRow
from harness.vocabulary import State
from harness.vocabulary.errors import PromptError, UnknownName, UsageError
from harness.vocabulary.raised import AlignmentError, BaselineError, FindingError, SweepFailed, SweepInterrupted


class Overflowing(nn.Module):
    """Two layers in float16; a patch of the first multiplies large by large and overflows, one of the second does not.

    Counts its forward passes, and takes ids 0 and 1.
    """

    class Block(nn.Module):
        def __init__(self, factor: float):
            super().__init__()
            self.mlp, self.factor = nn.Identity(), factor

        def __call__(self, x: mx.array) -> mx.array:
            other = self.mlp(x)[..., ::-1]
            return x + self.factor * x * other if self.factor else x

    def __init__(self) -> None:
        super().__init__()
        self.table = mx.array([[3000.0, 1, 0, 0], [0, 0, 1, 3000.0]], dtype=mx.float16)
        self.layers = [self.Block(1 / 64), self.Block(0.0)]
        self._forwards = 0

    def __call__(self, inputs: mx.array) -> mx.array:
        self._forwards += 1
        x = self.table[inputs]
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.fixture
def overflowing():
    return Overflowing()


@pytest.fixture
def sigint():
    """SIGINT as Python means it; a shell may have started us with it ignored."""
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, ours)


@pytest.fixture
def result(overflowing):
    return InterpretableModel(overflowing).activation_patching([0], [1])


def dial(**fields) -> InterpretableModel:
    row = {"id": "d", "source": "groundtruth", "kind": "dial", "vocab": 64, "weights": (0.25, 0.5, 0.75)}
    model = models.load(DialRow(**{**row, **fields}))
    return InterpretableModel(model.module, model.tokenizer)


def test_a_result_is_a_mapping_in_layer_order():
    result = dial().activation_patching("a", "b")
    assert list(result.items()) == [(0, pytest.approx(25)), (1, pytest.approx(50)), (2, pytest.approx(75))]
    assert [layer for layer, _ in sorted(result.items(), key=lambda item: -item[1])] == [2, 1, 0]
    assert (len(result), 2 in result, 3 in result) == (3, True, False)
    assert (result.metric, result.component, result.strategy, result.unit) == ("l2", "mlp", "one-pass", "logits")
    assert list(dial().activation_patching("a", "b", layers=[-1, 0])) == [2, 0]


def test_the_baseline_is_the_metric_on_the_corrupted_run():
    model = dial()
    clean, corrupted = (np.array(model.base_model.table, np.float64)[row] for row in (0, 1))
    assert model.activation_patching("a", "b").baseline == pytest.approx(np.linalg.norm(clean - corrupted), rel=1e-9)
    wanted = ((clean - corrupted) ** 2).mean()
    assert model.activation_patching("a", "b", metric="mse").baseline == pytest.approx(wanted, rel=1e-9)


def test_a_layer_without_a_number_raises_with_its_state(result):
    assert result.states == {0: State.INF, 1: State.FINITE}
    assert dict(result) == {1: 0.0}
    assert 0 not in result
    with pytest.raises(KeyError) as raised:
        result[0]
    assert str(raised.value) == "layer 0 has no recovery: its state is inf; see .states"
    assert isinstance(raised.value, UsageError)
    assert raised.value.state is State.INF
    with pytest.raises(KeyError, match="7"):
        result[7]


def test_a_result_becomes_json_that_holds_no_bare_nan(result):
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["recoveries"] == [
        {"layer": 0, "position": "all", "percent": None, "state": "inf"},
        {"layer": 1, "position": "all", "percent": 0.0, "state": "finite"},
    ]
    assert {key: data[key] for key in ("component", "metric", "unit", "strategy")} == {
        "component": "mlp", "metric": "l2", "unit": "logits", "strategy": "stepwise",
    }  # fmt: skip
    assert data["baseline"] == result.baseline


def test_a_result_shows_itself_with_its_states(result):
    assert repr(result).startswith("PatchingResult(mlp, l2, baseline ")
    assert repr(result).endswith("{0: inf, 1: 0.0})")


@pytest.mark.parametrize(
    ("fields", "prompts", "metric", "code"),
    [
        ({}, ("a", "a"), "l2", "BAS001"),
        ({"logits": "nan"}, ("a", "b"), "l2", "FIN002"),
        ({"logits": "nan"}, ("b", "a"), "mse", "FIN001"),
        ({"logits": "inf"}, ("a", "b"), "cosine", "FIN002"),
    ],
    ids=["zero", "nan corrupted", "nan clean", "inf corrupted"],
)
def test_without_a_baseline_a_sweep_raises_the_finding(fields, prompts, metric, code):
    with pytest.raises(BaselineError) as raised:
        dial(**fields).activation_patching(*prompts, metric=metric)
    assert raised.value.finding.code == code
    assert str(raised.value).startswith(f"{code} {metric}: ")


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_a_gap_of_rounding_raises_with_both_scores_and_the_bound(dtype):
    """The report: 6.060019 and 6.060029, and recoveries of -64,029,756 and 27,258,629 %."""
    model = models.load(models.bundled()[f"llama-2k-{dtype}"])
    about = {"component": "mlp", "metric": "logit_diff"}
    with pytest.raises(
        BaselineError, match=r"BAS002 logit_diff: 6\.0\d+ on the clean run and 6\.0\d+ on the"
    ) as raised:
        harness.activation_patching(
            model.module, model.tokenizer, [5, 6, 7, 8], [5, 9, 7, 8], answers=(711, 126), **about
        )
    assert set(raised.value.finding.evidence) == {"clean", "corrupted", "resolution", "wrong"}
    assert "rounding alone makes" in str(raised.value)
    result = harness.activation_patching(model.module, model.tokenizer, [5, 6, 7, 8], [5, 9, 7, 8], **about)
    assert set(result.states.values()) == {State.FINITE}


def test_answers_in_each_others_place_are_warned_of():
    with pytest.warns(UserWarning, match="BAS004 logit_diff: the corrupted run scores the answer above the clean run"):
        dial().activation_patching("a", "b", metric="logit_diff", answers=(" b", " a"))


def test_a_baseline_of_inf_or_zero_costs_two_forwards_and_the_first_call_asks_a_b_a(overflowing):
    model = InterpretableModel(overflowing)
    for forwards in (5, 2):
        overflowing._forwards = 0
        with pytest.raises(BaselineError):
            model.activation_patching([0], [0])
        assert overflowing._forwards == forwards


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"component": "mpl"}, UnknownName, "'mpl' is not a component; did you mean 'mlp'?"),
        ({"component": ["mlp"]}, UnknownName, "is not a component"),
        ({"metric": "l3"}, UnknownName, "'l3' is not a metric; known: "),
        ({"metric": None}, UnknownName, "'None' is not a metric"),
        ({"direction": "denoise"}, UnknownName, "'denoise' is not a direction; did you mean 'denoising'?"),
        ({"strategy": "step-wise"}, UnknownName, "'step-wise' is not a strategy; did you mean 'stepwise'?"),
        ({"positions": "lats"}, UnknownName, "'lats' is not a choice of positions; did you mean 'last'?"),
        ({"positions": [1]}, UsageError, "position 1 is outside the prompt of 1 token"),
        ({"positions": []}, UsageError, "no position is given"),
        ({"positions": 0}, UsageError, "positions 0 must be a list of whole numbers"),
        ({"layers": [2]}, UsageError, "layer 2 does not exist; the model has layers 0 to 1"),
        ({"layers": []}, UsageError, "no layer is given"),
        ({"layers": "all"}, UsageError, "layers 'all' must be a list of whole numbers"),
        ({"layers": [0.5]}, UsageError, "must be a list of whole numbers"),
        ({"answers": (0,), "metric": "logit_diff"}, PromptError, "answers (0,) must be two"),
        ({"answers": "01", "metric": "logit_diff"}, PromptError, "answers '01' must be two"),
        ({"answers": (0, 4), "metric": "logit_diff"}, PromptError, "token id 4 is outside the vocabulary of 4"),
        ({"clean_text": []}, PromptError, "clean_text is empty"),
        ({"clean_text": "text"}, PromptError, "clean_text is text and the model has no tokenizer"),
        ({"clean_text": None}, UsageError, "clean_text None must be a list of whole numbers"),
        ({"clean_text": [0.9]}, UsageError, "clean_text [0.9] must be a list of whole numbers"),
        ({"clean_text": [4]}, PromptError, "clean_text: token id 4 is outside the vocabulary of 4"),
        ({"corrupted_text": [1, 0]}, AlignmentError, "ALN001: clean is 1 token ['<0>'], corrupted is 2 ['<1>' '<0>']"),
        ({"cmap": "rainbowy", "plot": True}, UsageError, "'rainbowy' is not a colour map of matplotlib"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_carried_out_runs_nothing(overflowing, options, error, said):
    model = InterpretableModel(overflowing)
    overflowing._forwards = 0
    with pytest.raises(error) as raised:
        model.activation_patching(**{"clean_text": [0], "corrupted_text": [1], **options})
    assert said in str(raised.value)
    assert overflowing._forwards == 0


def test_a_module_without_blocks_is_refused():
    with pytest.raises(UsageError, match="Linear has no list of blocks"):
        InterpretableModel(nn.Linear(2, 2))


def test_token_ids_need_no_tokenizer_and_may_come_in_any_array():
    wanted = dict(dial().activation_patching("a", "b"))
    model = InterpretableModel(dial().base_model)
    for prompts in (([0], [1]), ((0,), (1,)), (np.array([0]), np.array([1])), (mx.array([0]), mx.array([1]))):
        assert dict(model.activation_patching(*prompts)) == wanted


def test_the_function_is_the_method():
    model = dial()
    given = harness.activation_patching(model.base_model, model.tokenizer, "a", "b", metric="mse", layers=[1])
    assert dict(given) == dict(model.activation_patching("a", "b", metric="mse", layers=[1])) == {1: pytest.approx(75)}


def test_noising_and_positions_reach_the_sweep():
    noised = dial().activation_patching("a", "b", metric="mse", direction="noising")
    assert list(noised.values()) == pytest.approx([100 * (1 - w**2) for w in (0.25, 0.5, 0.75)], abs=1e-4)
    assert list(dial().activation_patching("a a", "b b", positions="last").values()) == pytest.approx([25, 50, 75])
    assert list(dial().activation_patching("a a", "b b", positions=[0]).values()) == [0, 0, 0]
    assert list(dial().activation_patching("a a", "b b", positions=(0, -1)).values()) == pytest.approx([25, 50, 75])


def test_answers_are_text_ids_or_what_the_runs_prefer():
    model = dial()
    default = model.activation_patching("a", "b", metric="logit_diff")
    assert (default.answers.answer, default.answers.wrong) == (0, 1)
    for answers in ((" a", " b"), (0, 1)):
        given = model.activation_patching("a", "b", metric="logit_diff", answers=answers)
        assert dict(given) == dict(default)
    with pytest.raises(PromptError, match="wrong answer ' b c' is 2 tokens"):
        model.activation_patching("a", "b", metric="log_prob", answers=(" a", " b c"))
    with pytest.raises(FindingError, match="ANS001"):
        model.activation_patching([0], [8], metric="log_prob")


@pytest.mark.parametrize("end", ["success", "exception", "interrupt"])
def test_the_model_is_afterwards_what_it_was(overflowing, end, sigint):
    model = InterpretableModel(overflowing)
    before = settled(overflowing, lambda: overflowing(mx.array([[0]])))
    bare = np.array(overflowing(mx.array([[0]]))).tobytes()
    count = 0

    class Trap(nn.Identity):
        def __call__(self, x):
            nonlocal count
            count += 1
            if count == 3 and end == "exception":
                raise RuntimeError("planted")
            if count == 3 and end == "interrupt":
                signal.raise_signal(signal.SIGINT)
            return x

    overflowing.layers[1].mlp.__class__ = Trap
    trapped = replace(fingerprint(overflowing), attributes=before.attributes)
    if end == "success":
        model.activation_patching([0], [1])
    else:
        with pytest.raises(SweepFailed if end == "exception" else SweepInterrupted):
            model.activation_patching([0], [1])
    assert count >= 3
    assert trapped.difference(fingerprint(overflowing)) is None
    overflowing.layers[1].mlp.__class__ = nn.Identity
    assert before.difference(fingerprint(overflowing)) is None
    assert np.array(overflowing(mx.array([[0]]))).tobytes() == bare


def test_the_cells_that_move_most_come_first_in_either_direction():
    result = PatchingResult(curve(5.0, -40.0, "nan", 20.0), "one-pass")
    assert list(result.top(2).items()) == [(1, -40.0), (3, 20.0)]
    assert len(result.top()) == 3


def test_a_notebook_shows_a_table_with_every_cell_and_nothing_of_a_token_acts():
    shown = PatchingResult(grid([[1.0, "nan"]]), "one-pass", tokens=("The", "<b>"))._repr_html_()
    assert "<th>1 &lt;b&gt;</th>" in shown
    assert "<td>1.0</td><td>nan</td>" in shown
    assert "<b>" not in shown


def test_a_frame_has_a_row_a_cell_or_says_what_it_needs():
    result = PatchingResult(curve(5.0, "nan"), "one-pass")
    if importlib.util.find_spec("pandas") is None:
        with pytest.raises(UsageError, match="pip install pandas"):
            result.to_frame()
    else:
        assert list(result.to_frame()["state"]) == ["finite", "nan"]
