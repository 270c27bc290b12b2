"""`harness patch --value`: what is put in reaches the sweep, is said, and is refused where it says nothing."""

from __future__ import annotations

import re

import pytest
from project import Project

from harness.models import load
from harness.models.tokens import read
from harness.vocabulary import Direction, Question, Sweep

ASKED = ("patch", "-m", "dial-tiny-f32", "--clean", "a", "--corrupted", "b", "-c", "mlp_out", "--direction", "noising")


def test_zeros_are_the_closed_forms_and_are_said(project: Project) -> None:
    model = load("dial-tiny-f32")
    assert model.known
    sweep = Sweep(("mlp_out",), None, Direction.NOISING, value="zero")
    question = Question(read(model, "a"), read(model, "b"), sweep, ("l2",))
    got = project.inside(*ASKED, "--value", "zero")
    assert got.code == 0, got.err
    shown = dict(re.findall(r"^ +(\d+) +(-?[\d.]+) *$", got.out, re.MULTILINE))
    assert len(shown) == model.card.layers
    for layer, recovery in shown.items():
        wanted = model.known.recovery(question, "mlp_out", int(layer), "l2")
        assert wanted
        assert float(recovery) == pytest.approx(wanted.value, abs=0.051)
    assert "puts in zeros" in got.out


def test_a_mean_over_one_prompt_of_the_other_run_is_the_other_run(project: Project) -> None:
    """Prompts of one token have one activation, and it is its own mean."""
    plain, mean = project.inside(*ASKED), project.inside(*ASKED, "--value", "mean", "--mean-of", "b")
    other = project.inside(*ASKED, "--value", "mean", "--mean-of", "b", "--mean-of", "c")
    tables = [re.findall(r"^ +\d+ +-?[\d.]+ *$", each.out, re.MULTILINE) for each in (plain, mean, other)]
    assert tables[0] == tables[1] != tables[2]
    assert "puts in the mean" in mean.out
    assert "puts in" not in plain.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--value", "nought"], "'nought' is not a value; known: mean, other, zero"),
        (["--value", "mean"], "the value 'mean' needs the prompts"),
        (["--mean-of", "c"], "--mean-of says nothing where the value is 'other'"),
        (["--value", "zero", "--mean-of", "c"], "--mean-of says nothing where the value is 'zero'"),
        (["--value", "mean", "--mean-of", "zebra"], "'zebra' is not a word of this model"),
    ],
)
def test_what_cannot_be_put_in_is_refused(project: Project, words: list[str], said: str) -> None:
    got = project.inside(*ASKED, *words)
    assert (got.code, said in got.err) == (4, True), got.err


def test_an_engine_that_cannot_put_it_in_is_not_asked(project: Project) -> None:
    got = project.inside(*ASKED, "--value", "zero", "-e", "attribution-ig", "--metric", "logit_diff")
    assert (got.code, got.out) == (5, "")
    assert "cannot say what zero does" in got.err


def test_a_case_with_a_prompt_that_the_model_cannot_read_is_told_before_it_runs(project: Project) -> None:
    project.write("cases/x.case.yaml", "models: [dial-tiny-f32]\nprompts: {clean: a, corrupted: b}\n"
                  "sweep:\n  value: mean\n  mean_of: [c, zebra]\n")  # fmt: skip
    got = project.inside("validate")
    assert got.code == 4
    assert "cases/x.case.yaml:5:16" in got.err
    assert "sweep.mean_of[1]" in got.err
    assert "'zebra' is not a word of this model" in got.err
