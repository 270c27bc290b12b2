"""The probe of a CI workflow says which device can be trusted, whatever the GPU does to the process that tries it."""

from __future__ import annotations

import json
import subprocess

import pytest

from harness.environment.probe import ENOUGH_BYTES, SMALL, Probed, probed
from harness.support.interpreter import python

ABORTS = "import os; os.abort()"
RAISES = "raise RuntimeError('[metal::load_device] no device')"
HANGS = "import time; time.sleep(60)"
ABSENT = 'print(\'{"why": "no GPU here"}\')'


def answers(memory: int = ENOUGH_BYTES, right: bool = True) -> str:
    return f"print({json.dumps({'name': 'Apple M2', 'right': right, 'memory': memory})!r})"


@pytest.mark.parametrize(
    ("child", "device", "why"),
    [
        (ABORTS, "cpu", "the GPU's first kernel ended the process by signal 6"),
        (RAISES, "cpu", "the GPU fails: RuntimeError: [metal::load_device] no device"),
        (HANGS, "cpu", "the GPU gave no answer in 3 s"),
        (ABSENT, "cpu", "no GPU here"),
        (answers(right=False), "cpu", "Apple M2 multiplies wrongly"),
        (answers(), "gpu", "Apple M2, 12.0 GiB"),
    ],
    ids=["aborts", "raises", "hangs", "absent", "wrong", "right"],
)
def test_however_the_child_ends_there_is_an_answer(child: str, device: str, why: str) -> None:
    found = probed(child, seconds=3)
    assert (found.device, found.why) == (device, why)


@pytest.mark.parametrize(("memory", "models"), [(ENOUGH_BYTES, ""), (ENOUGH_BYTES - 1, SMALL), (5 << 30, SMALL)])
def test_the_memory_is_asked_and_decides_which_models_run(memory: int, models: str) -> None:
    assert probed(answers(memory)).models == models


def test_the_lines_of_a_workflow() -> None:
    done = subprocess.run(python("-m", "harness.environment.probe"), capture_output=True, text=True, check=True)
    told = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert set(told) == {"device", "models", "summary"}
    assert told["device"] in ("cpu", "gpu")
    assert Probed("cpu", "why").lines()[1] == f"models={SMALL}"
