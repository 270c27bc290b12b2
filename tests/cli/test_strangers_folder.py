"""A folder that somebody else filled: none of its Python runs without `--allow-code`, whatever it is called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from project import Project, environment, project

__all__ = ["project"]

SCRIPT = Path(sys.executable).with_name("harness")
# What workers, children and libraries import by these names, and what pytest would import of a folder by itself.
NAMES = [
    "execnet",
    "json",
    "queue",
    "pip",
    "yaml",
    "numpy",
    "mlx",
    "mlx_lm",
    "rich",
    "click",
    "pytest",
    "xdist",
    "syrupy",
    "pydantic",
    "jinja2",
    "transformers",
    "harness",
    "conftest",
    "evil",
    "sitecustomize",
    "usercustomize",
    "mlxterp",
    "huggingface_hub",
    "platform",
    "mine",
    "matplotlib",
    "filelock",
]
CONFIGURATION = {
    "pyproject.toml": "[tool.harness]\nmodels = ['m.yaml']\n{more}\n[tool.pytest.ini_options]\naddopts = '-p evil'\n",
    "pytest.ini": "[pytest]\naddopts = -p evil\npythonpath = .\n",
    "tox.ini": "[pytest]\naddopts = -p evil\n",
    "setup.cfg": "[tool:pytest]\naddopts = -p evil\n",
    "matplotlibrc": "backend: module://evil\n",
}


@pytest.fixture
def planted(project: Project) -> Project:
    """Write `ran` beside the cases from every module that is imported here, there, or beside an output."""
    project.case("good")
    ran = project.folder / "ran"
    for folder in (".", "cases", "out", "results"):
        for name in NAMES:
            text = f"open({str(ran)!r}, 'a').write(__file__ + chr(10))\nraise SystemExit('planted')\n"
            project.write(f"{folder}/{name}.py", text)
        for package in ("mlx", "rich", "xdist"):
            project.write(f"{folder}/{package}/__init__.py", text)
    configure(project)
    return project


def configure(project: Project, more: str = "") -> None:
    for name, text in CONFIGURATION.items():
        project.write(name, text.format(more=more))


def started(project: Project, *words: str, program: Sequence[str] = (str(SCRIPT),), **env: str) -> tuple[int, str]:
    """Run a command here in a process of its own; return its exit code and all it said, with what of ours was run."""
    done = subprocess.run(
        [*program, *words], cwd=project.folder, env=environment(**env), capture_output=True, text=True, input=""
    )
    ran = project.folder / "ran"
    return done.returncode, done.stdout + done.stderr + (f"RAN {ran.read_text()}" if ran.exists() else "")


RESULT = ("run", "-q", "--json", "out/r.json")
PATCH = ("patch", "-m", "good", "--clean", "a", "--corrupted", "b")
QUICK = {
    "run": (("run", "-o", "out/r.html", "--json", "out/r.json"), 0),
    "run -n 2": (("run", "-n", "2", "--json", "out/r.json"), 0),
    "list": (("list",), 0),
    "fetch": (("models", "fetch", "smollm2-135m-f32"), 5),
    "architectures": (("models", "architectures", "--only", "llama"), 0),
}
OTHERS = {
    "run a folder": (("run", "cases"), 0),
    "run --download": (("run", "--download"), 0),
    "show": (("show", "good"), 0),
    "validate": (("validate",), 0),
    "status": (("snapshots", "status"), 1),
    "update": (("snapshots", "update", "-n", "2"), 0),
    "review": (("snapshots", "review"), 0),
    "prune": (("snapshots", "prune", "-y"), 0),
    "models list": (("models", "list"), 0),
    "equality": (("models", "equality", "--only", "llama", "--dtype", "float32"), 0),
    "doctor": (("doctor",), 0),
    "diagnose": (("diagnose", "-m", "good", "--models", "m.yaml", "--clean", "a", "--corrupted", "b"), 0),
    "conformance": (("conformance", "-e", "native", "--row", "llama", "--law", "answers"), 0),
    "conformance --all": (("conformance", "-e", "native", "--all", "--row", "llama", "--law", "answers"), 0),
    "patch": (PATCH, 0),
    "plot": ((*PATCH, "--plot", "out/p.png"), 0),
    "mlxterp": ((*PATCH, "-e", "mlxterp"), 5),
    "compare": (("compare", "out/r.json", "out/r.json"), 0),
    "replay": (("replay", "out/r.json"), 0),
    "report": (("report", "out/r.json", "-o", "out/r.md"), 0),
    "zoo": (("zoo", "list"), 0),
    "init": (("init", "new"), 0),
    "explain": (("explain", "FIN001"), 0),
    "schema": (("schema",), 0),
}


def assert_nothing_runs(project: Project, words: Sequence[str], code: int, program: Sequence[str]) -> None:
    offline = {"PIP_NO_INDEX": "1", "HARNESS_CACHE": str(project.folder / "cache"), "COLUMNS": "200"}
    seen = started(project, *words, program=program, **offline)
    assert "RAN" not in seen[1], seen[1]
    assert seen[0] == code, seen[1]


@pytest.mark.parametrize("name", QUICK)
def test_nothing_of_a_strangers_folder_runs(planted: Project, name: str) -> None:
    assert_nothing_runs(planted, *QUICK[name], (str(SCRIPT),))


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_nothing_of_a_strangers_folder_runs_in_any_other_command(planted: Project, name: str) -> None:
    if "out/r.json" in OTHERS[name][0]:
        started(planted, *RESULT)
    assert_nothing_runs(planted, *OTHERS[name], (str(SCRIPT),))


def test_nothing_of_it_runs_by_the_folders_own_configuration(planted: Project) -> None:
    configure(planted, "workers = 2\ndownload = true")
    assert_nothing_runs(planted, ("run",), 0, (str(SCRIPT),))


def test_nothing_of_it_runs_by_python_dash_m(planted: Project) -> None:
    # What `python -m` itself imports before the harness, from a folder in front of all others, is not ours to prevent.
    for name in ("platform", "json", "queue", "harness"):
        for file in planted.folder.rglob(f"{name}.py"):
            file.unlink()
    assert_nothing_runs(planted, ("run", "-n", "2"), 0, (sys.executable, "-m", "harness"))


ENGINE = """\
import json, os, yaml
def patch(model, clean, corrupted, component, layers, metric):
    print("HERE", __file__, "SAFE", os.environ.get("PYTHONSAFEPATH"))
    return {layer: 50.0 for layer in layers}
patch.harness = {"units": "percent", "metrics": ["l2"], "components": ["mlp"]}
"""


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("folder", [".", "cases"])
def test_with_consent_code_is_found_here_or_beside_the_case_and_last(
    project: Project, folder: str, workers: str
) -> None:
    project.case("own", engines="native, 'mine:patch'", more="metrics: [l2]\n")
    project.write(f"{folder}/mine.py", ENGINE)
    project.write(f"{folder}/yaml.py", "raise SystemExit('planted')")
    project.write(f"{folder}/json.py", "raise SystemExit('planted')")
    code, said = started(project, "run", "--models", "m.yaml", "--allow-code", "-v", "-n", workers)
    assert f"HERE {project.folder / folder / 'mine.py'}" in said.replace("/./", "/"), said
    assert "planted" not in said
    assert code in (0, 1), said


def test_a_worker_leaves_its_own_children_to_the_users_environment(project: Project) -> None:
    project.case("own", engines="'mine:patch'", more="metrics: [l2]\n")
    project.write("mine.py", ENGINE)
    words = ("run", "--models", "m.yaml", "--allow-code", "-v", "-n", "1")
    for given, wanted in (({}, "SAFE None"), ({"PYTHONSAFEPATH": "1"}, "SAFE 1")):
        _, said = started(project, *words, **given)
        assert wanted in said, said
