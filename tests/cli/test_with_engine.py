"""`--with-engine`: an engine that the cases do not name is asked too, beside those that they do."""

from __future__ import annotations

import importlib.util

import pytest
from project import HERE, Project

GUARDED = """\
def patch(model, clean, corrupted, component, layers, metric):
    return {layer: 0.0 for layer in layers}


patch.harness = {"units": "percent", "metrics": ["l2"], "components": ["mlp"]}
"""


@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_guest_answers_every_case_and_has_no_snapshot(project: Project, door: str, workers: tuple[str, ...]) -> None:
    project.case("one")
    project.case("two", engines="native, published")
    option = "--with-engine" if door == "run" else "--harness-with-engine"
    got = project.run(f"{option}=published", "--snapshot-update", *workers, door=door)
    assert got.code == 0, got.out + got.err
    names = ("one[native@good]", "one[published@good]", "two[native@good]", "two[published@good]")
    assert got.statuses == dict.fromkeys(names, "passed")
    stored = {str(file.relative_to(project.folder)) for file in (project.folder / "snapshots").rglob("*.json")}
    assert stored == {f"snapshots/{name}@good.{HERE}.json" for name in ("one/native", "two/native", "two/published")}
    again = project.run(f"{option}=published", door=door)
    assert again.codes == set()


def test_a_wrong_guest_fails_and_the_command_to_run_it_again_names_it(project: Project) -> None:
    project.case("c", more="metrics: [l2]\n")
    project.write("mine.py", GUARDED)
    got = project.inside("run", "--models", "m.yaml", "--with-engine", "mine:patch", "--allow-code", "-e", "mine:patch")
    assert got.code == 1
    assert "c[mine:patch@good]" in got.out
    assert "native@good" not in got.out
    assert "--with-engine mine:patch" in got.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--with-engine", "nativ"), "did you mean 'native'?"),
        (("--with-engine", "mine:patch"), "runs only with --allow-code"),
        (("-e", "published"), "`harness run --with-engine published` asks it in every case"),
    ],
)
def test_an_engine_that_cannot_be_asked_is_named(project: Project, options: tuple[str, ...], said: str) -> None:
    project.case("c")
    got = project.inside("run", "--models", "m.yaml", *options)
    assert (got.code, said in got.err) == (4, True), got.err


@pytest.mark.skipif(importlib.util.find_spec("mlxterp") is not None, reason="mlxterp is installed")
def test_a_guest_that_is_not_installed_is_refused_with_how_to_install_it(project: Project) -> None:
    project.case("c")
    got = project.run_inside("--with-engine", "mlxterp")
    assert (got.code, got.result) == (4, None)
    assert "--with-engine mlxterp: mlxterp is not installed; pip install" in got.err


ROOTLESS = """\
import {base}

def patch(model, clean, corrupted, component, layers, metric):
    answer = {base}.patch(model, clean, corrupted, component, layers, metric)
    squared = {{layer: 100 - (100 - value) ** 2 / 100 for layer, value in answer["recoveries"].items()}}
    return {{**answer, "recoveries": squared}}

patch.harness = {{"units": "percent", "metrics": ["l2"], "components": ["paths"]}}
"""
RIGHT = """\
import harness

def patch(model, clean, corrupted, component, layers, metric):
    subject = harness.InterpretableModel(model)
    found = subject.activation_patching(clean, corrupted, component, layers=layers, metric=metric)
    return {"baseline": found.baseline, "recoveries": dict(found)}

patch.harness = {"units": "percent", "metrics": ["l2"], "components": ["paths"]}
"""


def test_what_is_wrong_with_an_engine_is_said_first_and_once(project: Project) -> None:
    project.write("right_once.py", RIGHT)
    project.write("rootless_once.py", ROOTLESS.format(base="right_once"))
    for name in ("one", "two"):
        project.case(name, models="good, other")
    words = ("--allow-code", "-m", "good")
    got = project.run_inside("--with-engine", "rootless_once:patch", *words)
    first = got.out.splitlines()[0]
    assert first.startswith("rootless_once:patch, in 2 of 2 jobs: take the square root of the sum of squares (ORC002")
    assert got.out.count("in 2 of 2 jobs: take the square root") == 1
    alone = project.run_inside("--with-engine", "rootless_once:patch", *words, "cases/one.case.yaml")
    assert "of 1 jobs" not in alone.out
    right = project.run_inside("--with-engine", "right_once:patch", *words)
    assert (right.code, "take the square root" in right.out) == (0, False)
