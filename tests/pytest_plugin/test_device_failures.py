"""A failure of the device is nobody's fault, and no number of its job counts. Metal says so late."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from project import Project

from harness.environment.facts import settle_device
from harness.vocabulary.errors import device_failure
from harness.vocabulary.raised import DeviceFailed, suppressed

LATE = "[METAL] Command buffer execution failed: Insufficient Memory (00000008)"
AT_ONCE = "[metal::malloc] Attempting to allocate 12 bytes which is greater than the maximum allowed buffer size"
PLACES = (1, 5, 21)


class Device:
    """A device whose n-th product comes out as zeros, and which says so at the second evaluation after it."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.products, self.left, self.at, self.raised = 0, 2, 0, False
        multiply, evaluate = mx.array.__matmul__, mx.eval

        def product(one: mx.array, other: mx.array) -> mx.array:
            self.products += 1
            found = multiply(one, other)
            return mx.zeros_like(found) if self.products == self.at else found

        def late(*arrays: Any) -> Any:
            if 0 < self.at <= self.products and not self.raised:
                self.left -= 1
                if not self.left:
                    self.raised = True
                    raise RuntimeError(LATE)
            return evaluate(*arrays)

        patch.setattr(mx.array, "__matmul__", product)
        patch.setattr(mx, "eval", late)

    def fails_at(self, place: int) -> None:
        self.at, self.left, self.raised = self.products + place, 2, False


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


@pytest.mark.parametrize("place", PLACES)
def test_one_job_has_the_devices_finding_alone_and_the_others_their_numbers(
    project: Project, device: Device, place: int
) -> None:
    for name in ("a", "b"):
        project.case(name, component="mlp")
    project.run_inside("--snapshot-update")
    device.fails_at(place)
    got = project.run_inside("--strict")
    assert device.raised
    assert (got.code, got.codes) == (1, {"ENG003"})
    assert sorted(got.statuses.values()) == ["failed", "passed"]


@pytest.mark.parametrize(("text", "code"), [(LATE, "ENG003"), (AT_ONCE, "ENG001"), ("METAL", "ENG001")])
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
        raise RuntimeError(LATE)
    assert not device_failure(RuntimeError(AT_ONCE))


def test_waiting_for_the_device_brings_up_what_it_has_to_say(device: Device) -> None:
    settle_device()
    device.fails_at(1)
    _ = mx.ones((2, 2)) @ mx.ones((2, 2))
    with pytest.raises(RuntimeError, match="Insufficient Memory"):
        settle_device()
