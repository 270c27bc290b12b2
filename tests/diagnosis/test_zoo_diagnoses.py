"""Every fault of the zoo is named: place, cause, and the evidence for it, as an independent replay confirms."""

from __future__ import annotations

import dumb_tracer
import pytest

from harness.diagnosis import diagnose
from harness.diagnosis.zoo import ZOO
from harness.diagnosis.zoo.trial import judge

PLANTINGS = [(fault, planting) for fault in ZOO.values() for planting in fault.plantings]
SILENT = ("boolean", "finite", "by us")
"""Variants in which a finite number is wrong, or only a compiled one: there is nothing for a replay to see."""


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
        if found.place.run in ("clean", "corrupted") and found.place.rung == "forward":
            visible = planting.variant not in SILENT and fault.id != "F22"
            wrong = dumb_tracer.disagreement(found.place, arguments["model"].module, runs_of(arguments))
            assert wrong is None or not visible, f"{found.place}: {wrong}"
