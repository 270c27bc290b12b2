"""Absolute effects beside percent and fractions, and the two baselines of a score."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.casefile import Tolerance
from harness.checks.oracle import found as of_the_metric
from harness.engines import answer, engine_named
from harness.engines.declaration import Declaration
from harness.engines.function import function_engine
from harness.laws.conformance.rows import architecture
from harness.laws.declared import declared_is_right
from harness.laws.subject import EngineUnderTest
from harness.metrics import Ends
from harness.models.sources import miniatures
from harness.vocabulary import AnswerTokens, Question, Reading, State, Sweep, Tokens

sys.path.insert(0, str(Path(__file__).parents[1] / "laws" / "conformance"))
import wide

CLEAN, CORRUPTED = (3, 7, 11, 5), (3, 8, 11, 6)


@pytest.fixture(scope="module")
def llama():
    return miniatures.load("llama")


def asked(name, model, metrics, corrupted=CORRUPTED):
    prompts = (Tokens(ids, ("",) * 4) for ids in (CLEAN, corrupted))
    return answer(engine_named(name, True), model, Question(*prompts, Sweep(("mlp_out",)), metrics, AnswerTokens(4, 8)))


ABSOLUTE = Declaration(units="absolute")


@pytest.mark.parametrize(
    ("clean", "corrupted", "resolution", "effect", "percent"),
    [
        (0.0, 4.0, 0.0, -1.0, 25.0),  # a distance: the patch brings it down to 3
        (5.0, 1.0, 0.0, 1.0, 25.0),
        (5.0, 1.0, 0.0, -1.0, -25.0),
        (1.0, 1.0, 0.0, 0.0, State.ZERO_BASELINE),
        (1.0, 1.01, 0.1, 0.5, State.ILL_CONDITIONED),
        (float("nan"), 1.0, 0.0, 0.5, State.UNDEFINED),
        (5.0, 1.0, 0.0, float("nan"), State.NAN),
        (5.0, 1.0, 0.0, None, State.UNDEFINED),
        (1.0, 1.0, 0.0, None, State.ZERO_BASELINE),
    ],
)
def test_an_absolute_effect_is_a_share_of_the_gap(clean, corrupted, resolution, effect, percent):
    read = ABSOLUTE.reading(effect, Ends.of(Reading.of(clean), Reading.of(corrupted), resolution))
    assert (read.state if read.value is None else read.value) == percent


METRICS = ("l2", "mse", "cosine", "kl_divergence", "logit_diff", "log_prob")


def test_absolute_effects_of_every_metric_agree_with_native(llama):
    given, native = (asked(name, llama, METRICS) for name in ("wide:absolute_effects", "native"))
    assert given.attribution == ()
    for ours, theirs in zip(given.curves, native.curves, strict=True):
        for one, two in ours.paired(theirs):
            assert one.recovery.value == pytest.approx(two.recovery.value, abs=0.01)


@pytest.mark.parametrize("name", ["wide:absolute_effects", "wide:sound"])
def test_a_gap_of_zero_keeps_its_state(llama, name):
    curves = asked(name, llama, ("l2", "logit_diff"), CLEAN).curves
    assert {cell.recovery.state for curve in curves for cell in curve.cells} == {State.ZERO_BASELINE}


UNITS = {
    "absolute_l2": "absolute for percent",
    "absolute_for_percent": "absolute for percent",
    "absolute_for_fraction": "absolute for fraction",
    "absolute_reversed": "absolute for percent with the sign reversed",
    "fraction_for_absolute": "fraction for absolute",
}
QUICK = "absolute_l2"


@pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in UNITS]
)
def test_a_unit_that_is_not_the_declared_one_is_named(name):
    engine = function_engine(getattr(wide, name), name)
    found = declared_is_right(EngineUnderTest(engine, architecture("llama").build, CLEAN, CORRUPTED))
    assert [breach.kind for breach in found] == [UNITS[name]]


BASELINES = {
    "corrupted_baseline": (set(), set()),
    "gap_baseline": ({"ATR007"}, set()),
    "wrong_baseline": (set(), {"ORC001"}),
    "other_baseline": ({"ATR007"}, {"ORC001"}),
}


@pytest.mark.parametrize("metric", ["logit_diff", "log_prob"])
@pytest.mark.parametrize("name", BASELINES)
def test_both_baselines_of_a_score_are_accepted_and_no_other(llama, name, metric):
    given = asked(f"wide:{name}", llama, (metric,))
    named, wrong = BASELINES[name]
    assert {finding.code for finding in given.attribution} == named
    assert {finding.code for finding in of_the_metric(given, Tolerance())} == wrong
    if not wrong:
        native = asked("native", llama, (metric,)).curves[0].baseline
        assert given.curves[0].baseline.value == pytest.approx(native.value, rel=1e-4)


def test_a_distance_has_one_baseline(llama):
    given = asked("wide:gap_baseline", llama, ("l2",))
    assert [finding.code for finding in of_the_metric(given, Tolerance())] == ["ORC001"]
