"""Engines that read a prefix once, batch their runs, or bring their own forward pass: right ones are accused of
nothing, and the same with one wrong thing each are."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest
from emulation.accelerator import emulated

from harness.casefile import Tolerance
from harness.checks.oracle import found as of_the_metric
from harness.engines import answer, engine_named
from harness.models.sources import miniatures
from harness.vocabulary import AnswerTokens, Direction, Question, State, Sweep, Tokens

sys.path.insert(0, str(Path(__file__).parents[1] / "laws" / "conformance"))

CLEAN, CORRUPTED = Tokens((3, 7, 11, 5, 9), ("",) * 5), Tokens((3, 7, 12, 6, 9), ("",) * 5)
WAYS = ("cached", "trimmed", "batched", "lean", "ownforward", "resumed", "warmedup")
SEEN = ("cached", "trimmed", "batched", "lean", "warmedup")
"""Ways whose patched runs are runs of the model as a whole."""

QUESTIONS = {
    "all": Sweep(("mlp_out", "resid_post")),
    "noising": Sweep(("attn_out",), None, Direction.NOISING),
    "grid": Sweep(("mlp_out",), None, Direction.DENOISING, "each"),
    "heads": Sweep(("z",)),
    "one layer": Sweep(("mlp_out",), (2,)),
}


@cache
def model(name):
    return miniatures.load(name)


def asked(way, name="llama", sweep=QUESTIONS["one layer"], metrics=("l2",)):
    engine = engine_named("native" if way == "native" else f"ways:{way}", True)
    return answer(engine, model(name), Question(CLEAN, CORRUPTED, sweep, metrics, AnswerTokens(4, 8)))


def apart(given, other):
    pairs = [pair for one, two in zip(given.curves, other.curves, strict=True) for pair in one.paired(two)]
    return max(abs(a.recovery.value - b.recovery.value) for a, b in pairs)


def codes(given):
    found = [*given.attribution, *of_the_metric(given, Tolerance())]
    return {finding.code for finding in found}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2"])
@pytest.mark.parametrize("way", WAYS)
def test_a_right_engine_is_accused_of_nothing(way, name, question):
    given = asked(f"{way}_wide", name, QUESTIONS[question], ("l2", "logit_diff"))
    assert codes(given) == set()
    assert apart(given, asked("native", name, QUESTIONS[question], ("l2", "logit_diff"))) < 0.05


@pytest.mark.parametrize("way", WAYS)
def test_runs_are_attributed_where_the_model_was_run(way):
    states = {
        cell.oracle.state for curve in asked(f"{way}_wide", sweep=QUESTIONS["all"]).curves for cell in curve.cells
    }
    assert states == {State.FINITE if way in SEEN else State.UNKNOWN}


WRONG = {
    "layer": {True: {"ATR002"}, False: {"ATR006"}},
    "tokens": {True: {"ATR003", "ATR006"}, False: {"ATR006"}},
    "metric": {True: {"ORC002"}, False: {"ATR006"}},
}


@pytest.mark.parametrize("mistake", WRONG)
@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_engine_is_caught_and_no_other_part_is_blamed(way, mistake):
    found = codes(asked(f"{way}_{mistake}", sweep=Sweep(("mlp_out",))))
    of_others = {"ATR003"} if (way, mistake) == ("resumed", "tokens") else set()
    assert found == WRONG[mistake][way in SEEN] | of_others


@pytest.mark.parametrize("mistake", ["layer", "metric"])
def test_a_batch_of_another_size_may_round_otherwise(mistake):
    """A cell that is asked again alone is one row where it was one of four."""
    with emulated("rows:4"):
        assert codes(asked(f"lean_{mistake}", sweep=Sweep(("mlp_out",)))) == WRONG[mistake][True]
