"""Every fault of the zoo is named: place, cause, and the evidence for it, as an independent replay confirms."""

from __future__ import annotations

import dumb_tracer
import pytest

from harness.diagnosis import diagnose
from harness.diagnosis.zoo import ZOO
from harness.diagnosis.zoo.surgery import at, change_output, put
from harness.diagnosis.zoo.trial import judge, required_place

PLANTINGS = [(fault, planting) for fault in ZOO.values() for planting in fault.plantings]
SILENT = (
    "boolean",
    "finite",
    "by us",
    "a residual",
    "a module",
    "second call",
    "a cap after a tied head",
)
"""Variants in which a finite number is wrong, or only a compiled one, or one of several calls: there is nothing for a
replay to see."""


def runs_of(arguments):
    return {"clean": arguments.get("prompt", arguments.get("clean")), "corrupted": arguments.get("corrupted")}


@pytest.mark.parametrize(
    ("fault", "planting"), PLANTINGS, ids=[f"{fault.id} {planting.name}" for fault, planting in PLANTINGS]
)
def test_a_planted_fault_is_named(fault, planting):
    with planting.plant(planting.architecture) as arguments:
        found = diagnose(**arguments)
        trial = judge(fault, planting, found)
        assert trial.right, str(trial)
        if found.place.run in ("clean", "corrupted") and found.place.step == "forward":
            visible = planting.variant not in SILENT and fault.id not in ("F22", "F25", "F26")
            wrong = dumb_tracer.disagreement(found.place, arguments["model"].module, runs_of(arguments))
            assert wrong is None or not visible, f"{found.place}: {wrong}"


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
def test_a_nan_that_quantising_would_swallow_is_found_in_the_unquantised_folder_alone(architecture):
    (planting,) = (each for each in ZOO["F15"].plantings if each.name == f"{architecture}, affine")
    with planting.plant(architecture) as arguments:
        found = diagnose(arguments["before"], clean=arguments["clean"], corrupted=arguments["corrupted"])
    assert (found.cause.code, found.place.run) == ("DIA101", "weights")
    assert {key: getattr(found.place, key) for key in planting.place} == required_place(planting)


@pytest.mark.parametrize("planting", ZOO["F19"].plantings, ids=lambda planting: planting.name)
def test_a_blind_primitive_does_not_keep_a_nan_from_being_placed(planting):
    with planting.plant(planting.architecture) as arguments:
        change_output(at(arguments["model"].module, "model.layers.1.mlp"), put(float("nan"), (2, 5)))
        found = diagnose(**arguments)
    assert found.cause.fault == "F19"
    placed = [each.place for each in found.findings if each.place.step == "forward"]
    assert (placed[0].run, placed[0].module, placed[0].token, placed[0].dimension) == (
        "clean", "model.layers.1.mlp", 2, 5,
    )  # fmt: skip
