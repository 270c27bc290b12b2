"""What lies around a run: loads, workers, the caller's pytest settings, odd folders, pytest's own options."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from project import HERE, Project

TRACE = """\
import os
from harness import models

real = models.load

def load(row, **options):
    with open(os.environ["LOADS"], "a") as file:
        file.write(f"{os.getpid()} {row.id}\\n")
    return real(row, **options)

models.load = load
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_each_model_is_loaded_once_by_one_worker(project: Project, workers: str) -> None:
    project.write("sitecustomize.py", TRACE)
    for name in ("b", "a", "c"):
        project.case(name, models="good, other", engines="native, published")
    loads = project.folder / "loads"
    got = project.run("-n", workers, PYTHONPATH=str(project.folder), LOADS=str(loads))
    assert got.code == 0, got.out
    assert len(got.statuses) == 12
    processes = defaultdict(list)
    for line in loads.read_text().splitlines():
        process, model = line.split()
        processes[model].append(process)
    assert {model: len(each) for model, each in processes.items()} == {"good": 1, "other": 1}


def test_the_callers_pytest_settings_have_no_say(project: Project) -> None:
    """Each of these alone would fail or empty a plain pytest session."""
    project.case("c")
    project.write("conftest.py", "raise RuntimeError('conftest was read')\n")
    project.write("cases/conftest.py", "raise RuntimeError('conftest was read')\n")
    project.write("pytest.ini", "[pytest]\naddopts = --no-such-option\npython_functions = nothing_*\n")
    project.write("pyproject.toml", "[tool.pytest.ini_options]\naddopts = '-k nothing'\n")
    project.write("outsider.py", "raise RuntimeError('plugin was read')\n")
    got = project.run(PYTEST_ADDOPTS="-k nothing", PYTEST_PLUGINS="outsider", PYTHONPATH=str(project.folder))
    assert (got.code, got.statuses) == (0, {"c[native@good]": "passed"}), got.out + got.err


def test_a_run_leaves_its_result_in_a_folder_out_of_version_control_and_nothing_else(project: Project) -> None:
    project.case("c")
    project.run()
    left = {str(file.relative_to(project.folder)) for file in project.folder.rglob("*") if file.is_file()}
    assert left == {"m.yaml", "cases/c.case.yaml", "result.json", "results/.gitignore", "results/last.json"}
    assert (project.folder / "results" / ".gitignore").read_text() == "*\n"


def test_cases_inside_a_virtual_environment(project: Project) -> None:
    project.write("pyvenv.cfg", "home = /usr/bin\n")
    project.write("bin/activate", "")
    project.write("env/pyvenv.cfg", "home = /usr/bin\n")
    project.write("env/bin/activate", "")
    file = project.case("c").rename(project.folder / "env" / "c.case.yaml")
    assert project.run_inside(file).statuses == {"c[native@good]": "passed"}
    assert project.run_inside(project.folder / "env").statuses == {"c[native@good]": "passed"}


def test_case_files_outside_the_working_folder(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = project.case("c")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    stored = project.run(file, "--snapshot-update", "-n", "2", cwd=elsewhere)
    assert (stored.code, stored.statuses) == (0, {"c[native@good]": "passed"})
    assert list(project.snapshots) == [f"snapshots/c/native@good.{HERE}.json"]
    assert [file.name for file in elsewhere.iterdir()] == ["results"]


DIE = """\
from harness import jobs

def run(job, *rest):
    raise RuntimeError("the worker dies")

jobs.run = run
"""


@pytest.mark.parametrize("door", ["run", "pytest"])
def test_a_job_outside_the_root_that_crashes_is_in_the_result(
    project: Project, tmp_path_factory: pytest.TempPathFactory, door: str
) -> None:
    file = project.case("c")
    project.write("sitecustomize.py", DIE)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "pytest.ini").write_text("[pytest]\n")
    args = (file,) if door == "run" else (f"--rootdir={elsewhere}",)
    got = project.run(*args, door=door, where=str(file), cwd=elsewhere, PYTHONPATH=str(project.folder))
    assert (got.code, got.statuses) == (3, {"c[native@good]": "crashed"})


def test_a_bad_case_file_outside_the_root_is_wrong_usage(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = project.case("c", more="nonsense: 1\n")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert project.run(f"--rootdir={elsewhere}", door="pytest", where=str(file), cwd=elsewhere).code == 4


def test_snapshots_that_cannot_be_written_fail_with_the_reason(project: Project) -> None:
    project.case("good")
    project.write("snapshots", "a file where the folder should be")
    got = project.run_inside("--snapshot-update")
    assert (got.code, got.codes) == (1, {"SNP005"})
    assert "cannot be written" in got.out
    assert "[Errno 20]" in " ".join(got.out.split())


def test_without_syrupy_pytest_says_what_is_needed(project: Project) -> None:
    project.case("good")
    got = project.run("-pno:syrupy", door="pytest")
    assert (got.code, "need the plugin syrupy" in got.out + got.err) == (4, True)


def test_the_keyword_narrows(project: Project) -> None:
    project.case("c", models="good, other", engines="native, published")
    assert set(project.run_inside("-k", "published and other").statuses) == {"c[published@other]"}


def test_exitfirst_stops_at_the_first_job_that_fails(project: Project) -> None:
    project.case("a", component="attn_out")
    project.case("b")
    assert set(project.run_inside("-x").statuses) == {"a[native@good]"}


def test_last_failed_runs_the_job_that_failed(project: Project) -> None:
    project.case("c", models="good, wide", engines="native, legacy")
    cached = ["-p", "cacheprovider"]
    everything = project.run(*cached, door="pytest")
    again = project.run(*cached, "--lf", door="pytest")
    assert (everything.code, len(everything.statuses)) == (1, 4)
    assert (again.code, again.statuses) == (1, {"c[legacy@wide]": "failed"})


def test_one_job_by_its_node_id(project: Project) -> None:
    file = project.case("c", models="good, other")
    got = project.run(door="pytest", where=f"{file}::job[native@other]")
    assert (got.code, got.statuses) == (0, {"c[native@other]": "passed"})


def test_the_failure_in_pytest_names_the_finding(project: Project) -> None:
    project.case("c", models="wide", engines="legacy")
    got = project.run(door="pytest")
    assert "c[legacy@wide] failed" in got.out
    assert "ORC001 l2: reported" in got.out
    assert Path(__file__).name not in got.out
    assert "collecting.py" not in got.out
