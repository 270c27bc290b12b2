"""A failure of the device is nobody's fault, and no number of its job counts. Metal says so late."""

from __future__ import annotations

import mlx.core as mx
import pytest
from emulation.accelerator import OUT_OF_MEMORY, emulated
from project import Project

from harness.environment.facts import settle_device
from harness.vocabulary.errors import device_failure
from harness.vocabulary.raised import DeviceFailed, suppressed

AT_ONCE = "[metal::malloc] Attempting to allocate 12 bytes which is greater than the maximum allowed buffer size"
PLACES = (1, 5, 21)


@pytest.mark.parametrize("place", PLACES)
def test_one_job_has_the_devices_finding_alone_and_the_others_their_numbers(project: Project, place: int) -> None:
    for name in ("a", "b"):
        project.case(name, component="mlp")
    project.run_inside("--snapshot-update")
    with emulated(f"late:{place}") as machine:
        got = project.run_inside("--strict")
    assert machine.products >= place
    assert (got.code, got.codes) == (1, {"ENG003"})
    assert sorted(got.statuses.values()) == ["failed", "passed"]


@pytest.mark.parametrize(("text", "code"), [(OUT_OF_MEMORY, "ENG003"), (AT_ONCE, "ENG001"), ("METAL", "ENG001")])
def test_an_engine_is_not_blamed_for_the_device(project: Project, text: str, code: str) -> None:
    project.write("mine.py", ENGINE.format(text=text))
    project.case("good", engines="mine:run")
    got = project.run("--allow-code", PYTHONPATH=str(project.folder))
    assert (got.code, got.codes) == (1, {code}), got.out


ENGINE = """\
def run(model, clean, corrupted, component, layers, metric):
    try:
        raise RuntimeError({text!r})
    except RuntimeError as error:
        raise ValueError("mine") from error
run.harness = {{"units": "percent", "metrics": ["l2"], "components": ["mlp"]}}
"""


def test_what_is_suppressed_lets_the_device_through() -> None:
    with suppressed():
        raise ValueError("not the device's")
    with pytest.raises(DeviceFailed, match="Insufficient Memory"), suppressed():
        raise RuntimeError(OUT_OF_MEMORY)
    assert not device_failure(RuntimeError(AT_ONCE))


def test_waiting_for_the_device_brings_up_what_it_has_to_say() -> None:
    with emulated("late:1"):
        settle_device()
        _ = mx.ones((2, 2)) @ mx.ones((2, 2))
        with pytest.raises(RuntimeError, match="Insufficient Memory"):
            settle_device()
