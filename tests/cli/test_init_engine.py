"""`harness init --engine mylib:patch`: in a folder with a library of its own, what it writes runs as written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from project import Project, environment

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))
from blocks import blocks  # noqa: E402

(LIBRARY,) = (
    block.body
    for block in blocks((DOCS / "how-to" / "test-your-engine.md").read_text(encoding="utf-8"))
    if block.marks.get("file") == "mylib.py"
)
UNDECLARED = LIBRARY.replace("patch.harness = ", "what_it_can_do = ")
WRITTEN = ("mylib_adapter.py", "cases/mylib.case.yaml", "known.yaml", ".github/workflows/harness.yml")


def test_the_library_of_the_page_is_the_engine_that_the_contract_shows() -> None:
    """So that one proof that it breaks no law is enough for both."""
    page = (DOCS / "engines.md").read_text(encoding="utf-8")
    assert LIBRARY in [block.body for block in blocks(page) if block.marks.get("file") == "mypatch.py"]


def commands(folder: Path) -> list[list[str]]:
    """Return what the workflow runs of the harness."""
    steps = yaml.safe_load((folder / WRITTEN[3]).read_text())["jobs"]["patching"]["steps"]
    return [step["run"].split() for step in steps if step.get("run", "").startswith("harness ")]


def run(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        words, cwd=project.folder, env=environment(PATH=path), capture_output=True, text=True, check=False
    )


def test_files_that_are_there_stay_and_nothing_is_imported(project: Project) -> None:
    project.write("mylib.py", "raise SystemExit('imported')\n")
    project.write("known.yaml", "known: []  # mine\n")
    got = project.inside("init", "--engine", "mylib:patch")
    assert (got.code, "left alone known.yaml: it exists" in got.out) == (0, True)
    assert (project.folder / "known.yaml").read_text() == "known: []  # mine\n"
    before = {name: (project.folder / name).read_bytes() for name in WRITTEN}
    assert project.inside("init", "--engine", "mylib:patch").out.count("left alone") == 4
    assert before == {name: (project.folder / name).read_bytes() for name in WRITTEN}


@pytest.mark.parametrize("name", ["mylib", "mylib.patch", ":patch", "mylib:", "native", "my lib:patch", "../x:patch"])
def test_an_engine_that_is_no_function_is_refused(project: Project, name: str) -> None:
    got = project.inside("init", "new", "--engine", name)
    assert (got.code, "expected module:function" in got.err) == (4, True)
    assert not (project.folder / "new").exists()


def test_a_function_in_a_package_has_an_adapter_of_its_own(project: Project) -> None:
    assert project.inside("init", "--engine", "My_lib.core.Patching:run").code == 0
    assert (project.folder / "My_lib_core_Patching_adapter.py").exists()
    assert (project.folder / "cases/patching.case.yaml").exists()


@pytest.mark.slow
@pytest.mark.parametrize("library", [LIBRARY, UNDECLARED], ids=["declared", "undeclared"])
def test_the_written_project_runs_as_written(project: Project, library: str) -> None:
    shutil.rmtree(project.folder / "cases", ignore_errors=True)
    (project.folder / "m.yaml").unlink()
    project.write("mylib.py", library)
    harness = (sys.executable, "-m", "harness")
    said = run(project, *harness, "init", "--engine", "mylib:patch")
    assert said.returncode == 0
    # The gate is strict: it fails until the numbers are stored, by the line that `init` prints.
    (store,) = re.findall(r"^  harness (run .*--snapshot-update)", said.stdout, re.MULTILINE)
    done = run(project, *harness, *store.split())
    assert done.returncode == 0, done.stdout + done.stderr
    for words in commands(project.folder):
        row = ["--row", "llama", "--row", "gpt2"] if "conformance" in words else []
        done = run(project, *harness, *words[1:], *row)
        assert done.returncode == 0, done.stdout + done.stderr
    pytest_words = ("pytest", "cases", "--harness-allow-code", "--harness-known", "known.yaml")
    done = run(project, sys.executable, "-m", *pytest_words)
    assert done.returncode == 0, done.stdout + done.stderr
