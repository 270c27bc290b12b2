"""A device that fails at any moment of a job: nothing but the device is blamed, and no number of the job counts."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest
from emulation.accelerator import OUT_OF_MEMORY, emulated
from project import Project, project  # noqa: F401

from harness.jobs import run as jobs
from harness.jobs.planning import Job
from harness.models.sources import miniatures
from harness.models.spec import DialRow
from harness.vocabulary import JobResult, Status
from harness.vocabulary.errors import device_failure

sys.path.insert(0, str(Path(__file__).parents[1] / "checks"))
from bench import _OneModel, case

PLACES = 30
ASKED = {"prompts": {"clean": (3, 7, 11, 5), "corrupted": (3, 8, 11, 6)}, "sweep": {"components": ("resid_post",)}}


def ran(text: str) -> tuple[JobResult, int, int]:
    """Run a job on a device that fails, and return how many evaluations and products there were."""
    model = _OneModel(miniatures.load("llama"))
    row = DialRow(id="planted", source="groundtruth", kind="dial", vocab=16, weights=(1.0,))
    with emulated(text) as machine:
        result = jobs.run(Job(case(**ASKED), row, "native", allow_code=True), model)
    return result, machine.evaluations, machine.products


def some_fast(places: int) -> list[object]:
    """Return all places, every third of them in the fast suite."""
    return [pytest.param(part, marks=[pytest.mark.slow] if part % 3 else []) for part in range(places)]


@cache
def whole() -> tuple[int, int]:
    return ran(f"memory:{10**9},late:{10**9}")[1:]


@pytest.mark.parametrize("part", some_fast(PLACES))
def test_wherever_memory_is_short_the_device_alone_is_blamed(part: int) -> None:
    at = 1 + part * whole()[0] // PLACES
    result, evaluations, _ = ran(f"memory:{at}")
    assert evaluations >= at
    assert result.status in (Status.PASSED, Status.FAILED), result.reason
    assert {each.code for each in result.findings} <= {"ENG003"}, [str(each) for each in result.findings]
    assert (result.status is Status.FAILED) is bool(result.findings)
    # An evaluation before the error may have returned zeros.
    assert bool(result.curves) is (result.status is Status.PASSED)


@pytest.mark.parametrize(
    ("error", "its"),
    [
        (RuntimeError(OUT_OF_MEMORY), True),
        (RuntimeError("[metal::malloc] Attempting to allocate 9 bytes which is greater than the maximum"), False),
        (RuntimeError("[malloc] Unable to allocate 9 bytes."), False),
        (RuntimeError("[matmul] Last dimension of first input with shape (2,3) must match"), False),
        (MemoryError(), False),
    ],
    ids=["command buffer", "allocation on Metal", "allocation", "a shape", "Python's own"],
)
def test_an_error_of_the_device_is_known_by_its_first_word(error: Exception, its: bool) -> None:
    assert bool(device_failure(error)) is its


def test_an_error_that_came_of_the_devices_is_the_devices() -> None:
    own = KeyError("the engine's own")
    own.__cause__ = RuntimeError(OUT_OF_MEMORY)
    assert device_failure(own)


@pytest.mark.parametrize("part", some_fast(PLACES // 2))
def test_a_failure_that_is_told_late_is_still_the_devices(part: int) -> None:
    """A product is zeros, and the error is raised by an evaluation after it."""
    result, _, products = ran(f"late:{1 + 2 * part * whole()[1] // PLACES}")
    assert products
    assert result.status in (Status.PASSED, Status.FAILED), result.reason
    assert {each.code for each in result.findings} <= {"ENG003"}, [str(each) for each in result.findings]


def test_a_command_on_a_failing_device_is_no_internal_error(project: Project) -> None:  # noqa: F811
    with emulated("memory:1"):
        done = project.inside("diagnose", "-m", "llama-2k-f16", "--clean-ids", "3,7,9", "--corrupted-ids", "3,8,9")
    assert done.code == 1, done.err
    assert "the device failed: " in done.err
