"""The steps of the workflows and of the action, run one after the other as a runner would, in a fresh clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_workflows import ELSEWHERE
from workflows import ROOT, Step, steps

pytestmark = pytest.mark.slow


class Runner:
    """A folder that is a checkout, and the files through which steps talk to a runner."""

    def __init__(self, folder: Path, checkout: Path):
        self.folder, self.checkout = folder, checkout
        self.output, self.summary = folder / "output.txt", folder / "summary.md"
        self.results: dict[str, str] = {}

    def run(self, step: Step, **inputs: str) -> subprocess.CompletedProcess[str]:
        self.output.write_text("", encoding="utf-8")
        known = {"github.action_path": str(ROOT), "github.workspace": str(self.checkout)}
        known |= {f"inputs.{name}": value for name, value in inputs.items()}
        known |= {f"steps.probe.outputs.{name}": value for name, value in self.results.items()}
        env = {name: re.sub(r"\$\{\{ *(\S+) *\}\}", lambda m: known[m[1]], value) for name, value in step.env.items()}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HARNESS_"))}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step.script],
            cwd=self.checkout,
            env={**kept, "CI": "true", "GITHUB_OUTPUT": str(self.output), "GITHUB_STEP_SUMMARY": str(self.summary),
                 "GITHUB_WORKSPACE": str(self.checkout), **env},
            capture_output=True,
            text=True,
        )  # fmt: skip
        self.results |= dict(line.split("=", 1) for line in self.output.read_text(encoding="utf-8").splitlines())
        return done


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a fresh clone with what is not committed yet, so that the test speaks of this tree."""
    target = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True)
    changed = subprocess.run(["git", "diff", "HEAD", "--binary"], cwd=ROOT, capture_output=True, check=True).stdout
    if changed:
        subprocess.run(["git", "apply"], cwd=target, input=changed, check=True)
    return target


JOBS = [
    ("ci.yml", "linux"),
    ("ci.yml", "lowest"),
    ("ci.yml", "macos"),
    ("nightly.yml", "metal"),
    ("release.yml", "gate"),
]
"""All but `names` and `arm`, whose steps are an installation, these tests, and those of `linux`."""


@pytest.mark.parametrize("job", JOBS, ids="-".join)
def test_a_job_runs_here(job: tuple[str, str], clone: Path, tmp_path: Path) -> None:
    runner = Runner(tmp_path, clone)
    subprocess.run(["make", ".venv/installed", f"PYTHON={sys.executable}"], cwd=clone, check=True, capture_output=True)
    ran = 0
    for step in steps():
        if (step.file, step.job) != job or step.id in ELSEWHERE:
            continue
        # What an earlier step that is not run here would have written.
        if step.name == "Summary" and not (clone / "run.json").exists():
            continue
        done = runner.run(step)
        assert done.returncode == 0, f"{step.id}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        ran += 1
    assert ran >= 1


PASSES = "models: [llama-2k-f32]\nprompts: {clean: [1, 2], corrupted: [3, 2]}\n"
FAILS = "models: [qwen3-152k-f16]\nengines: [legacy]\nprompts: {clean: [1, 2], corrupted: [3, 2]}\n"


@pytest.mark.parametrize(("case", "code"), [(PASSES, "0"), (FAILS, "1")], ids=["passes", "fails"])
def test_the_action_gates_another_repository(case: str, code: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "cases").mkdir(parents=True)
    (other / "cases" / "one.case.yaml").write_text(case, encoding="utf-8")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    runner = Runner(tmp_path, other)
    install, gate = (step for step in steps() if step.file == "action.yml")
    path = f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = runner.run(Step(**{**vars(install), "env": {**install.env, "PATH": path}}))
    assert done.returncode == 0, done.stderr[-3000:]
    done = runner.run(
        Step(**{**vars(gate), "env": {**gate.env, "PATH": path}}), paths="", args="-k one", download="false"
    )
    assert str(done.returncode) == code, done.stdout[-3000:] + done.stderr[-3000:]
    assert runner.results["exit-code"] == code
    assert ("::error file=cases/one.case.yaml" in done.stdout) == (code == "1")
    assert runner.summary.read_text(encoding="utf-8").startswith("## ✓" if code == "0" else "## ✗")
    assert (other / "harness.html").stat().st_size > 10_000
