"""The judge of diagnoses calls a right one right and every wrong one wrong, whatever the diagnoser can do."""

from __future__ import annotations

import pytest
from fabricated import at, right, saying

from harness.diagnosis.outcome.diagnosis import Diagnosis
from harness.diagnosis.outcome.nouns import Place, PlacedFinding
from harness.diagnosis.zoo import KINDS, ZOO
from harness.diagnosis.zoo.page import markdown, scores, total
from harness.diagnosis.zoo.trial import attempt, judge, required_place

PLANTINGS = [(fault, planting) for fault in ZOO.values() for planting in fault.plantings]
IDS = [f"{fault.id} {planting.name}" for fault, planting in PLANTINGS]
each_planting = pytest.mark.parametrize(("fault", "planting"), PLANTINGS, ids=IDS)


def other(value):
    """What a diagnoser that is off by one would say."""
    if isinstance(value, str):
        return value.replace("1", "2", 1) if "1" in value else f"{value}.other"
    return 0 if value is None else value + 1


@each_planting
def test_what_is_required_is_right(fault, planting):
    trial = judge(fault, planting, right(fault, planting))
    assert trial.right, str(trial)


@each_planting
def test_every_part_of_the_place_counts(fault, planting):
    said = right(fault, planting)
    for part, value in required_place(planting).items():
        trial = judge(fault, planting, at(said, **{part: other(value)}))
        assert (trial.place, trial.cause) == (False, True), part


@each_planting
def test_another_cause_is_wrong(fault, planting):
    said = right(fault, planting)
    wrong = next(name for name in ZOO if name != fault.id)
    assert not judge(fault, planting, saying(said, fault=wrong)).cause
    assert not judge(fault, planting, saying(said, fault=None)).cause
    more = PlacedFinding("DIA201", "besides", place=Place("forward"), fault=wrong)
    assert not judge(fault, planting, Diagnosis((*said.findings, more))).cause


@each_planting
def test_what_is_called_proven_and_is_not_is_wrong(fault, planting):
    other = "suspected" if planting.confidence == "proven" else "proven"
    trial = judge(fault, planting, saying(right(fault, planting), confidence=other))
    assert (trial.place, trial.cause, trial.proven, trial.right) == (True, True, False, False)


@each_planting
def test_a_finding_without_its_evidence_is_not_enough(fault, planting):
    trial = judge(fault, planting, saying(right(fault, planting), message="something is wrong"))
    needed = bool(planting.numbers or planting.words)
    assert (trial.place, trial.cause, trial.evidence) == (True, True, not needed)


@pytest.mark.parametrize(
    ("message", "evidence"), [("257.3 beyond 255.97", {}), ("overflow", {"true": 257.31, "of": 256})]
)
def test_numbers_count_in_the_message_and_in_the_evidence(message, evidence):
    fault = ZOO["F01"]
    said = saying(right(fault, fault.plantings[0]), message=f"{message}; the logits are finite", evidence=evidence)
    assert judge(fault, fault.plantings[0], said).evidence


@pytest.mark.parametrize("true", [250.0, 264.0])
def test_a_number_that_is_off_by_more_than_its_rounding_is_not_the_number(true):
    fault = ZOO["F01"]
    said = saying(right(fault, fault.plantings[0]), message=f"finite, 255.97, {true}")
    assert not judge(fault, fault.plantings[0], said).evidence


@pytest.mark.parametrize(("message", "right_so"), [("bfloat16, bfloat32", False), ("from float16 to float32", True)])
def test_a_word_inside_another_word_is_not_the_word(message, right_so):
    fault = ZOO["F20"]
    said = saying(right(fault, fault.plantings[0]), message=message)
    assert judge(fault, fault.plantings[0], said).evidence is right_so


def test_a_clean_diagnosis_of_a_planted_fault_is_wrong_in_everything_required():
    fault = ZOO["F10"]
    trial = judge(fault, fault.plantings[0], Diagnosis())
    assert (trial.place, trial.cause, trial.evidence) == (False, False, False)
    assert trial.said == "clean (no finding)"


def test_a_diagnosis_that_raises_is_wrong_and_says_why():
    def broken(**arguments):
        raise RuntimeError("planted")

    fault = ZOO["F02"]
    trial = attempt(fault, fault.plantings[0], broken)
    assert (trial.place, trial.cause, trial.evidence) == (False, False, False)
    assert str(trial) == "F02 arrays: place, cause, proven, evidence wrong; RuntimeError: planted"


def test_the_confusion_table_counts_plantings_and_names_the_wrong_ones():
    fault = ZOO["F21"]
    said = [right(fault, planting) for planting in fault.plantings]
    said[1] = at(said[1], token=3)
    trials = [judge(fault, *pair) for pair in zip(fault.plantings, said, strict=True)]
    (row,) = scores([fault], trials)
    assert row.cells() == ("2/3", "3/3", "3/3", "3/3")
    assert [total([row], part) for part in ("place", "cause")] == [0, 1]
    assert "| F21 | 2/3 | 3/3 | 3/3 | 3/3 | qwen3 |" in markdown({"F21": fault}, trials)


def test_the_zoo_is_complete():
    assert list(ZOO) == [f"F{number:02}" for number in range(1, 37) if number not in (24, 30, 33)]
    assert len(set(IDS)) == len(IDS)
    for fault in ZOO.values():
        assert len(fault.plantings) >= 2, fault.id
        assert len(fault.architectures) >= 2, fault.id
        assert set(fault.kinds.split("/")) <= set(KINDS)
