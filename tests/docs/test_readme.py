"""The README, followed in an empty folder: its case, the commands that its sentences name, and its notebook."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import blocks
from project import Project

import harness

ROOT = Path(harness.__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = {block.marks["file"]: block.body for block in blocks(README) if "file" in block.marks}
(SAID,) = re.findall(
    r"^Save it as `cases/country\.case\.yaml`\..*?(?=\n\n|\nThe \[bundled)", README, re.MULTILINE | re.DOTALL
)
COMMANDS = re.findall(r"`(harness [^`]+)`", SAID)


def test_its_case_is_valid_and_shown(project: Project) -> None:
    (project.folder / "m.yaml").unlink()
    project.write("cases/country.case.yaml", FILES["cases/country.case.yaml"])
    assert COMMANDS == ["harness validate", "harness run", "harness run --snapshot-update"]
    assert project.inside("validate").code == 0
    got = project.inside("list")
    assert [line.split()[:3] for line in got.out.splitlines() if "country" in line] == [
        ["country", "smollm2-135m-f32", engine] for engine in ("native", "published")
    ]


@pytest.mark.slow
def test_what_it_says_of_its_case_comes_true(project: Project) -> None:
    (project.folder / "m.yaml").unlink()
    project.write("cases/country.case.yaml", FILES["cases/country.case.yaml"])
    for command in COMMANDS:
        got = project.inside(*command.split()[1:])
        assert got.code == 0, got
    assert len([*(project.folder / "snapshots").rglob("*.json")]) == 2


@pytest.mark.slow
def test_its_notebook_runs(project: Project) -> None:
    project.write("notebook.py", FILES["notebook.py"])
    code = "import matplotlib; matplotlib.use('Agg'); import runpy; runpy.run_path('notebook.py')"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=project.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"^  Layer (\d+): (-?[\d.]+)% recovery$", done.stdout, re.MULTILINE)
    assert len(shown) == 3
    assert [float(value) for _, value in shown] == sorted((float(value) for _, value in shown), reverse=True)
