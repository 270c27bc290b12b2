"""What `[tool.harness]` does to commands, and that the command line wins; the same through `pytest`."""

from __future__ import annotations

import subprocess

import pytest
from project import HERE, Project, environment


def configure(project: Project, text: str) -> None:
    project.write("pyproject.toml", f"[tool.harness]\n{text}")


def test_paths_and_tables_need_not_be_typed(project: Project) -> None:
    project.case("a")
    project.write("elsewhere/b.case.yaml", (project.folder / "cases/a.case.yaml").read_text())
    configure(project, 'paths = ["elsewhere"]\nmodels = ["m.yaml"]\n')
    assert "b " in project.inside("list").out
    assert project.inside("run", "--json", "result.json").statuses == {"b[native@good]": "passed"}
    assert project.inside("validate").code == 0
    assert "good" in project.inside("models", "list").out
    assert project.inside("show", "elsewhere/b.case.yaml").code == 0
    assert project.inside("run", "cases", "--json", "result.json").statuses == {"a[native@good]": "passed"}


def test_it_works_from_a_folder_below(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.case("a")
    configure(project, 'paths = ["cases"]\nmodels = ["m.yaml"]\n')
    monkeypatch.chdir(project.folder / "cases")
    assert project.inside("run", "--json", project.folder / "result.json").code == 0


@pytest.mark.parametrize(("option", "code"), [((), 1), (("--no-strict",), 0), (("--strict",), 1)])
def test_strict_is_configured_and_the_command_line_wins(project: Project, option: tuple[str, ...], code: int) -> None:
    project.case("a")
    configure(project, "strict = true\n")
    assert project.run_inside(*option).code == code


@pytest.mark.parametrize("door", ["run", "pytest"])
def test_strict_is_not_about_what_is_true_of_the_logits(project: Project, door: str) -> None:
    """A sound engine on float16 logits near the limit of a sum: warned of, and never red."""
    project.case("a", models="wide", more="metrics: [l2]\n")
    assert project.run_inside("--snapshot-update").code == 0
    got = project.run_inside("--strict") if door == "run" else project.pytest_inside("--harness-strict")
    assert (got.code, got.codes) == (0, {"HED001"})


def test_tags_are_configured_and_the_command_line_wins(project: Project) -> None:
    project.case("a", more="tags: [fast]\n")
    project.case("b", more="tags: [slow]\n")
    configure(project, 'tags = ["fast"]\n')
    assert set(project.run_inside().statuses) == {"a[native@good]"}
    assert set(project.run_inside("--tag", "slow").statuses) == {"b[native@good]"}


def test_snapshots_update_stores_what_the_command_line_selects(project: Project) -> None:
    project.case("a", engines="native, published", more="tags: [fast]\n")
    project.case("b", more="tags: [slow]\n")
    configure(project, 'models = ["m.yaml"]\ntags = ["fast"]\nengines = ["native"]\n')
    assert project.inside("snapshots", "update", "-e", "published").code == 0
    assert project.inside("snapshots", "update", "-t", "slow").code == 0
    assert set(project.snapshots) == {f"snapshots/a/published@good.{HERE}.json", f"snapshots/b/native@good.{HERE}.json"}


def test_prune_knows_the_configured_models(project: Project) -> None:
    project.write("m.yaml", "models: [{id: dial-nan-mine, source: groundtruth, kind: dial, vocab: 64, weights: [0.5]}]")
    project.case("a", models='"dial-nan-*"')
    configure(project, 'models = ["m.yaml"]\n')
    assert project.inside("snapshots", "update", "--model", "dial-nan-mine").code == 0
    before = project.snapshots
    assert "no snapshot is without a job" in project.inside("snapshots", "prune", "--yes").out
    assert project.snapshots == before != {}


def test_require_models_and_results_are_configured(project: Project) -> None:
    project.case("a", models="absent")
    configure(project, "require-models = true\n")
    assert project.run_inside().code == 1
    assert project.run_inside("--no-require-models").code == 5


def test_workers_are_configured(project: Project) -> None:
    project.case("a")
    configure(project, 'workers = "many"\n')
    assert "pyproject.toml:2:1" in project.run_inside().err
    assert project.inside("explain", "FIN001").code == 0, "a fault there is no fault of every command"
    configure(project, "workers = 2\n")
    got = project.run("-v")
    assert (got.code, got.statuses) == (0, {"a[native@good]": "passed"})


def test_verbose_says_where_it_comes_from(project: Project) -> None:
    project.case("a")
    assert "configuration: none" in project.run_inside("-v").err
    configure(project, "strict = false\nworkers = 0\n")
    assert "configuration: pyproject.toml [tool.harness]: strict, workers" in project.run_inside("-v").err
    assert "configuration" not in project.run_inside().err


@pytest.mark.parametrize("args", [(), ("-n", "2")], ids=["alone", "n2"])
def test_pytest_takes_tables_and_strictness_from_it(project: Project, args: tuple[str, ...]) -> None:
    project.case("a")
    configure(project, 'strict = true\nmodels = ["m.yaml"]\n')
    command = [each for each in project.command("pytest", *args) if not each.endswith("m.yaml")]
    command.remove("--harness-models")
    done = subprocess.run(command, cwd=project.folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "SNP002" in done.stdout


def test_pytest_says_what_is_wrong_in_it(project: Project) -> None:
    project.case("a")
    configure(project, "strict = 3\n")
    got = project.run(door="pytest")
    assert got.code == 4
    assert "pyproject.toml:2:1: tool.harness.strict: expected true or false" in got.err
    assert "Traceback" not in got.err
