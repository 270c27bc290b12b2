"""Code of the user's own is imported with `--allow-code` and by no command without it."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from project import Project
from saved_model import save_model

from harness.cli import cli

ENGINE = """\
from pathlib import Path

Path({ran!r}).touch()

def patch(model, clean, corrupted, component, layers, metric):
    import harness
    return harness.engines.ENGINES  # never asked here

patch.harness = {{"units": "percent", "metrics": ["l2"], "components": ["paths"]}}

def metric(clean, other):
    return float(abs(clean - other).max())
"""
RUNS = {"run", "patch", "diagnose", "conformance", "snapshots update"}
"""The commands that run code of the user's own, and so take the consent."""

# A line for every command, in a project whose case names code as engine and as metric.
LINES: dict[str, tuple[str, ...]] = {
    "run": ("cases",),
    "diagnose": ("-m", "good", "--models", "m.yaml", "--clean", "a", "--corrupted", "b", "-e", "marked:patch"),
    "patch": ("-m", "good", "--models", "m.yaml", "--clean", "a", "--corrupted", "b", "-e", "marked:patch"),
    "explain": ("FIN001",),
    "init": ("there", "--engine", "marked:patch"),
    "list": ("cases",),
    "show": ("cases/own.case.yaml",),
    "validate": ("cases",),
    "snapshots status": ("cases",),
    "snapshots review": ("cases",),
    "snapshots update": ("cases",),
    "snapshots prune": ("cases", "-y"),
    "conformance": ("-e", "marked:patch", "--row", "llama", "--law", "answers"),
    "replay": ("qwen3-30b-report",),
    "models list": (),
    "models fetch": ("good",),
    "models architectures": ("--only", "none"),
    "models equality": ("--only", "none"),
    "models reference": ("--only", "none"),
    "zoo list": (),
    "zoo run": ("--only", "none"),
    "compare": ("result.json", "result.json"),
    "report": ("result.json",),
    "merge": ("result.json",),
    "doctor": ("-m", "./mine"),
    "schema": ("case",),
    "completion": ("bash",),
}


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def module(project: Project) -> str:
    """A name of its own in every test: what this process has imported it does not import again."""
    return f"marked_{project.folder.name}"


def line(project: Project, name: str) -> list[str]:
    return [*name.split(), *(word.replace("marked", module(project)) for word in LINES[name])]


@pytest.fixture
def marked(project: Project) -> Project:
    code = module(project)
    project.write(f"{code}.py", ENGINE.format(ran=str(project.folder / "ran")))
    for name in ("conftest.py", "cases/conftest.py", "sitecustomize.py"):
        project.write(name, f"import {code}\n")
    project.write("pyproject.toml", "[tool.harness]\nmodels = ['m.yaml']\n")
    project.case("own", engines=f'"{code}:patch"', more=f'metrics: [l2, "{code}:metric"]\n')
    save_model(project.folder / "mine")
    return project


def test_there_is_a_line_for_every_command() -> None:
    assert set(LINES) == {name for name, _ in commands()}


def test_the_consent_is_an_option_of_the_commands_that_run_code() -> None:
    own = {
        name
        for name, command in commands()
        for param in command.params
        if "--allow-code" in param.opts and not getattr(param, "hidden", False)
    }
    assert own == RUNS


@pytest.mark.parametrize("name", LINES)
def test_nothing_is_imported_without_consent(marked: Project, name: str) -> None:
    got = marked.inside(*line(marked, name))
    assert not (marked.folder / "ran").exists(), got
    assert got.code != 3
    if name in RUNS:
        assert (got.code, "runs only with --allow-code; nothing was imported" in got.err) == (4, True)


@pytest.mark.parametrize("name", sorted(RUNS))
def test_with_consent_it_is_imported(marked: Project, name: str) -> None:
    got = marked.inside(*line(marked, name), "--allow-code")
    assert (marked.folder / "ran").exists(), got


@pytest.mark.parametrize("name", ["list", "show", "validate", "snapshots status"])
def test_who_looks_is_told_what_is_not_known(marked: Project, name: str) -> None:
    got = marked.inside(*line(marked, name))
    said = " ".join(got.out.split())
    for code in ("patch", "metric"):
        assert f"whether {module(marked)}:{code} exists, and what it answers" in said
    assert "seen when it runs" in said


@pytest.mark.parametrize("name", ["list", "show", "validate", "snapshots status", "snapshots review"])
def test_consent_that_nobody_needs_is_taken_with_a_note(marked: Project, name: str) -> None:
    plain, got = (marked.inside(*line(marked, name), *more) for more in ((), ("--allow-code",)))
    assert (got.code, got.out) == (plain.code, plain.out)
    assert f"`harness {name}` imports no code of yours: it needs no --allow-code" in got.err
    assert not (marked.folder / "ran").exists()


@pytest.mark.parametrize("text", ["[tool.harness]\nallow-code = true\n", "[tool.harness]\nallow_code = true\n"])
def test_the_configuration_cannot_consent(marked: Project, text: str) -> None:
    marked.write("pyproject.toml", text)
    assert marked.inside("run", "cases").code == 4
    assert not (marked.folder / "ran").exists()


@pytest.mark.parametrize("where", ["pytest.ini", "conftest.py"])
def test_a_file_of_the_checkout_cannot_consent_for_pytest(project: Project, where: str) -> None:
    ran = project.folder / "ran"
    project.write(f"{module(project)}.py", ENGINE.format(ran=str(ran)))
    project.case("own", engines=f'"{module(project)}:patch"')
    text = {
        "pytest.ini": "[pytest]\naddopts = --harness-allow-code\n",
        "conftest.py": "def pytest_configure(config):\n    config.option.harness_allow_code = True\n"
        "pytest_configure.tryfirst = True\n",
    }[where]
    project.write(where, text)
    got = project.pytest_inside()
    assert (got.code, ran.exists()) == (4, False), got
    assert "only who starts pytest can allow code" in got.err + got.out


def test_the_stored_numbers_of_code_are_not_stale_for_what_it_does_not_answer(project: Project) -> None:
    project.write("mine.py", ANSWERING)
    project.case("good", engines='"mine:patch"', more="metrics: [l2, mse]\n")
    stored = project.run_inside("--allow-code", "--snapshot-update")
    assert stored.code == 0, stored.out
    got = project.inside("snapshots", "status", "--models", "m.yaml")
    assert (got.code, "1 stored" in got.out) == (0, True), got


ANSWERING = """\
import harness

def patch(model, clean, corrupted, component, layers, metric):
    subject = harness.InterpretableModel(model)
    found = subject.activation_patching(clean, corrupted, component, layers=layers, metric=metric)
    return {"baseline": found.baseline, "recoveries": dict(found)}

patch.harness = {"units": "percent", "metrics": ["l2"], "components": ["paths"]}
"""
