"""A device that rounds a call in some hundreds otherwise breaks a law about bits now and then. The device is named, and
never our taps; taps that round every time are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from emulation.accelerator import emulated

from harness.intercept import capture
from harness.jobs import run as jobs
from harness.jobs.planning import Job
from harness.models.sources import miniatures
from harness.models.spec import DialRow

sys.path.insert(0, str(Path(__file__).parents[1] / "checks"))
from bench import _OneModel, case

ASKED = {"prompts": {"clean": (3, 7, 11, 5), "corrupted": (3, 8, 11, 6)}, "sweep": {"components": ("resid_post",)}}


def found(text: str = "") -> list[tuple[str, str]]:
    row = DialRow(id="planted", source="groundtruth", kind="dial", vocab=16, weights=(1.0,))
    model = _OneModel(miniatures.load("llama"))
    with emulated(text):
        result = jobs.run(Job(case(**ASKED), row, "native", allow_code=True), model)
    return [(each.code, each.message) for each in result.findings]


@pytest.mark.parametrize("seed", [86, 131, 160, 212])
def test_a_law_that_a_disturbed_call_breaks_once_is_the_machines(seed: int) -> None:
    """Each of these seeds disturbs the traced run alone: no run of the model that is made anyway differs."""
    ((code, message),) = found(f"flaky:0.003:{seed}")
    assert code == "MOD002"
    assert "LAW002 was broken once and holds in new runs" in message


def test_a_tap_that_rounds_every_time_is_accused(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = capture._run
    monkeypatch.setattr(capture, "_run", lambda *about: plain(*about) * (1 + 2.0**-22))
    assert "LAW001" in {code for code, _ in found("order")}
