"""A model without a fault gets no error, whatever its family and dtype."""

from __future__ import annotations

import pytest

from harness.diagnosis import diagnose
from harness.diagnosis.outcome.diagnosis import Diagnosis
from harness.diagnosis.outcome.nouns import Place, PlacedFinding
from harness.diagnosis.zoo.clean import CleanModel, examine, subjects
from harness.vocabulary.errors import ModelUnavailable

SUBJECTS = [
    pytest.param(subject, id=subject.name, marks=[] if subject.cheap else [pytest.mark.slow]) for subject in subjects()
]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_clean_model_gets_no_error(subject):
    assert examine(subject, diagnose) is None


def test_every_dtype_of_smollm2_and_every_architecture_is_among_them():
    names = {subject.name for subject in subjects()}
    assert {f"smollm2-135m-{dtype}" for dtype in ("f32", "f16", "bf16", "q4")} <= names
    assert {"qwen3-152k-f16", "dial-suppressed-f16", "circuit-qwen3-152k-bf16", "mamba2", "gpt_oss"} <= names
    assert not {"dial-nan-f16", "dial-inf-f16", "bitnet"} & names


def test_a_false_alarm_is_told_with_its_place():
    alarm = Diagnosis((PlacedFinding("DIA201", "3 of 64 values", place=Place("forward", "clean", "model.norm")),))
    assert examine(CleanModel("llama", dict, True), lambda **arguments: alarm) == (
        "llama: the clean run, model.norm, DIA201: 3 of 64 values"
    )


def test_a_warning_is_no_alarm_and_an_absent_model_no_failure():
    warning = Diagnosis((PlacedFinding("DIA503", "error bars of 10 points", place=Place("recovery")),))
    assert examine(CleanModel("llama", dict, True), lambda **arguments: warning) is None

    def absent():
        raise ModelUnavailable("not fetched")

    assert examine(CleanModel("smollm2", absent, True), lambda **arguments: Diagnosis()) is None


def test_a_diagnosis_that_raises_on_a_clean_model_is_an_alarm():
    def broken(**arguments):
        raise KeyError("planted")

    assert examine(CleanModel("llama", dict, True), broken) == "llama: KeyError: 'planted'"
