"""The lines of docs/ci-for-your-library.md, run in a project that has nothing but its own code and the wheel."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from wheelhouse import ROOT, environment_beside, wheel

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "ci-for-your-library.md").read_text(encoding="utf-8")
(WORKFLOW,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ENGINE = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "engines.md").read_text(), re.MULTILINE | re.DOTALL)[0]
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "mylib"
version = "1"
"""


ADDRESS = "git+https://github.com/OWNER/mlx-patch-harness"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(tmp_path_factory.mktemp("wheels")).parent


class Checkout:
    """A runner's checkout of the other project."""

    def __init__(self, folder: Path, wheels: Path, engine: str):
        self.folder, self.summary = folder / "mylib", folder / "summary.md"
        (self.folder / "mylib").mkdir(parents=True)
        (self.folder / "pyproject.toml").write_text(PROJECT)
        (self.folder / "mylib" / "__init__.py").touch()
        (self.folder / "mylib" / "harness.py").write_text(engine)
        venv = folder / "venv"
        environment_beside(venv)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HARNESS_"))}
        self.env = kept | {
            "PATH": f"{venv / 'bin'}{os.pathsep}{kept['PATH']}",
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "CI": "true",
            # The wheel stands where the index will have it; what it depends on, and what builds it, is borrowed.
            "PIP_FIND_LINKS": str(wheels),
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_IGNORE_INSTALLED": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
        }
        subprocess.run([str(venv / "bin" / "python"), "-m", "ensurepip"], check=True, capture_output=True)
        (venv / "bin" / "pip").write_text(f'#!/bin/sh\nexec {venv / "bin" / "python"} -m pip "$@"\n')
        (venv / "bin" / "pip").chmod(0o755)

    def push(self) -> dict[str, int]:
        """Run the steps as a runner would, and return each one's exit code."""
        codes: dict[str, int] = {}
        for step in yaml.safe_load(WORKFLOW)["jobs"]["conformance"]["steps"]:
            if "run" not in step or (any(codes.values()) and step.get("if") != "always()"):
                continue
            # The wheel stands for the address, which nobody has yet.
            script = step["run"].replace(f" @ {ADDRESS}", "")
            assert "OWNER" not in script
            self.done = subprocess.run(
                ["bash", "-e", "-c", script], cwd=self.folder, env=self.env, capture_output=True, text=True
            )
            assert "Traceback" not in self.done.stderr, self.done.stderr
            codes[step["run"].split()[0]] = self.done.returncode
        return codes


def test_a_sound_library_is_green(tmp_path: Path, wheels: Path) -> None:
    checkout = Checkout(tmp_path, wheels, ENGINE)
    assert checkout.push() == {"pip": 0, "harness": 0, "cat": 0}
    assert "| traced |" in checkout.summary.read_text()
    assert (checkout.folder / "laws.xml").read_text().count("<testcase") > 300


def test_a_library_that_hides_a_zero_baseline_is_red_and_the_summary_says_so(tmp_path: Path, wheels: Path) -> None:
    guarded = ENGINE.replace("if baseline else None", "if baseline else 0.0")
    assert guarded != ENGINE
    checkout = Checkout(tmp_path, wheels, guarded)
    assert checkout.push() == {"pip": 0, "harness": 1, "cat": 0}
    assert "ORC003" in checkout.summary.read_text()
