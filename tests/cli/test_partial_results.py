"""A sweep that ends early keeps what it has finished, marked as such, and compares it with nothing."""

from __future__ import annotations

import json
import subprocess

import pytest
from project import Project, environment

LAYERS = 40
TABLE = f"""\
models:
  - {{id: deep, source: groundtruth, kind: dial, vocab: 64, weights: {[0.5] * LAYERS}}}
"""
CASE = """\
models: [deep]
prompts: {clean: "a", corrupted: "b"}
metrics: [l2, mse]
sweep: {components: [mlp], strategy: %s, memory: 100kB}
"""
# Does its worst at the last of some calls, from within.
PLANTED = """
import os, signal
from harness.{module} import {holder}

unbroken, calls = {holder}.{name}, []

def planted(*args, **kwargs):
    calls.append(1)
    if len(calls) == {after}:
        {worst}
    return unbroken(*args, **kwargs)

{holder}.{name} = planted
"""
SIGINT = "os.kill(os.getpid(), signal.SIGINT)"
ENOMEM = "raise MemoryError('planted')"
# The loaded model's own run, a record and the corrupted run come before the cells; each cell is a forward pass.
FORWARD = {"module": "intercept", "holder": "capture", "name": "_last_row", "after": 3 + 9}
SECOND_WALK = {"module": "patching.walker", "holder": "Walker", "name": "run", "after": 2}


def plant(project: Project, strategy: str, where: dict[str, object], worst: str) -> None:
    project.write("m.yaml", TABLE)
    project.write("cases/c.case.yaml", CASE % strategy)
    project.write("sitecustomize.py", PLANTED.format(**where, worst=worst))


@pytest.mark.parametrize(
    ("strategy", "where", "done"),
    [("stepwise", FORWARD, 7), ("one-pass", SECOND_WALK, None)],
    ids=["in a tapped forward pass", "in the second walk"],
)
def test_ctrl_c_in_a_sweep_keeps_the_cells_before_it(project, strategy, where, done):
    plant(project, strategy, where, "pass")
    whole = project.run("--snapshot-update", PYTHONPATH=str(project.folder))
    assert whole.code == 0, whole.out + whole.err
    before = project.snapshots
    wanted = {(cell.layer): cell for cell in whole.result.jobs[0].curves[0].cells}
    memory = whole.result.jobs[0].memory
    done = done or memory.rows - 2

    plant(project, strategy, where, SIGINT)
    got = project.run("--snapshot-update", PYTHONPATH=str(project.folder))
    (job,) = got.result.jobs
    assert (got.code, job.status.value, job.partial) == (2, "interrupted", True)
    assert job.reason == f"interrupted after {done} of {LAYERS} cells"
    assert job.reason in got.out
    assert 0 < done < LAYERS
    for curve in job.curves:
        assert [cell.layer for cell in curve.cells] == list(range(done))
    assert all(wanted[cell.layer] == cell for cell in job.curves[0].cells)
    assert project.snapshots == before
    assert "Traceback" not in got.out + got.err


def test_a_forward_pass_that_raises_fails_the_job_and_keeps_the_cells_before_it(project):
    plant(project, "stepwise", FORWARD, "pass")
    assert project.run("--snapshot-update", PYTHONPATH=str(project.folder)).code == 0
    before = project.snapshots
    plant(project, "stepwise", FORWARD, ENOMEM)
    got = project.run("--snapshot-update", PYTHONPATH=str(project.folder))
    (job,) = got.result.jobs
    assert (got.code, job.status.value, job.partial, got.codes) == (1, "failed", True, {"ENG001"})
    assert job.reason == f"the sweep ended after 7 of {LAYERS} cells"
    assert [cell.layer for cell in job.curves[0].cells] == list(range(7))
    assert "MemoryError: planted" in got.out
    assert project.snapshots == before


def test_a_partial_job_that_expects_its_error_is_not_stored_either(project):
    plant(project, "stepwise", FORWARD, ENOMEM)
    file = project.folder / "cases" / "c.case.yaml"
    file.write_text(file.read_text() + "expect: {may_find: [ENG001]}\n")
    got = project.run("--snapshot-update", PYTHONPATH=str(project.folder))
    assert (got.code, got.result.jobs[0].partial) == (0, True)
    assert project.snapshots == {}


def test_a_walk_without_memory_goes_on_cell_by_cell(project):
    plant(project, "one-pass", SECOND_WALK, ENOMEM)
    got = project.run(PYTHONPATH=str(project.folder))
    (job,) = got.result.jobs
    assert (got.code, job.partial, job.strategy, len(job.curves[0].cells)) == (0, False, "stepwise", LAYERS)
    assert "MemoryError: planted" in job.fallback


@pytest.mark.parametrize(
    ("worst", "code", "said"), [(SIGINT, 2, "interrupted after 8"), (ENOMEM, 1, "ENG001: MemoryError")]
)
def test_patch_shows_the_cells_before_it(project, worst, code, said):
    plant(project, "stepwise", {**FORWARD, "after": 2 + 9}, worst)
    asked = "patch -m deep --models m.yaml --clean a --corrupted b -c mlp --strategy stepwise"
    command = [*project.command("run")[:3], *asked.split()]
    done = subprocess.run(
        command, cwd=project.folder, env=environment(PYTHONPATH=str(project.folder)), capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert "PARTIAL" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert [int(row[0]) for row in rows] == list(range(8))


def test_the_result_file_says_that_it_is_partial(project):
    plant(project, "stepwise", {**FORWARD, "after": 2 + 9}, SIGINT)
    project.run(PYTHONPATH=str(project.folder))
    (job,) = json.loads((project.folder / "result.json").read_text())["jobs"]
    assert (job["partial"], job["status"]) == (True, "interrupted")
    assert job["memory"]["peak"] >= 0
