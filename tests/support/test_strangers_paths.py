"""What a stranger's project may make us write or delete: its own files, by configuration and through links alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import HERE, Project, project

from harness.support.configuration import KEYS

__all__ = ["project"]

OUTSIDE = ("../victim", "{there}", "sub/../../victim", "link", "link/inside", "~")


STORED = f"snapshots/good/native@good.{HERE}.json"


@pytest.fixture
def victim(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beside the project, which has a link to it; a command must leave it as it is."""
    folder = tmp_path_factory.mktemp("beside")
    (folder / "last.json").write_text("precious")
    (project.folder / "link").symlink_to(folder)
    project.case("good")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("key", [name for name, key in KEYS.items() if key.is_inside])
@pytest.mark.parametrize("named", OUTSIDE)
@pytest.mark.parametrize("door", ["run", "pytest"])
def test_a_configured_folder_is_one_of_the_project(
    project: Project, victim: Path, key: str, named: str, door: str
) -> None:
    before, name = contents(victim), named.format(there=victim)
    value = f'"{name}"' if key == "results" else f'["{name}"]'
    project.write("pyproject.toml", f"[tool.harness]\n{key} = {value}\n")
    got = project.through(door)
    assert got.code == 4, got.out + got.err
    assert f"pyproject.toml:2:1: tool.harness.{key}: '{name}' is outside of the project" in got.out + got.err
    assert contents(victim) == before


def test_every_key_that_names_where_something_is_written_is_held_to_the_project() -> None:
    assert {name for name, key in KEYS.items() if key.is_path and not key.is_inside} == {"models", "known"}  # only read


@pytest.mark.parametrize("inside", ["out", "./a/../out", "{here}/out", "within"])
def test_a_folder_of_the_project_is_left_alone(project: Project, inside: str) -> None:
    project.case("good")
    (project.folder / "real").mkdir()
    (project.folder / "within").symlink_to("real")
    project.write("pyproject.toml", f'[tool.harness]\nresults = "{inside.format(here=project.folder)}"\n')
    assert project.run_inside("-q").code == 0
    assert list(project.folder.rglob("last.json"))


@pytest.mark.parametrize("door", ["run", "pytest"])
def test_the_results_folder_that_nobody_typed_is_no_link_elsewhere(project: Project, victim: Path, door: str) -> None:
    (project.folder / "results").symlink_to(victim)
    before = contents(victim)
    got = project.through(door)
    assert (got.code, contents(victim)) == (4, before), got.out + got.err
    assert "results leads to" in got.out + got.err


def test_one_that_is_typed_may_be_elsewhere(project: Project, victim: Path) -> None:
    (victim / "last.json").unlink()
    assert project.run_inside("-q", "--results", str(victim)).code == 0
    assert "last.json" in contents(victim)


@pytest.mark.parametrize("link", ["last.json", "snapshots", "snapshots/good", STORED])
def test_no_link_in_the_results_folder_is_written_or_deleted_through(project: Project, victim: Path, link: str) -> None:
    project.run_inside("-q", "--snapshot-update")
    stored = project.snapshot()
    stored.write_text(stored.read_text().replace("50.0", "49.0", 1))  # so that the next run leaves a candidate
    for name in (f"good/native@good.{HERE}.json", f"native@good.{HERE}.json", "new"):
        (victim / name).parent.mkdir(exist_ok=True)
        (victim / name).write_text("precious")
    place = project.folder / "results" / link
    if place.exists():
        place.unlink()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(victim / "new" if link.endswith(".json") else victim)
    before = contents(victim)
    for words in (("-q",), ("-q", "--snapshot-update")):
        project.run_inside(*words)
        assert contents(victim) == before


@pytest.mark.parametrize("link", ["snapshots", "snapshots/good", STORED])
def test_no_snapshot_is_stored_through_a_link_elsewhere(project: Project, victim: Path, link: str) -> None:
    place = project.folder / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(victim / "new" if link.endswith(".json") else victim)
    before = contents(victim)
    got = project.run_inside("--snapshot-update")
    assert (got.code, contents(victim)) == (1, before), got.out + got.err
    assert "outside of" in got.out


def test_an_earlier_file_of_another_kind_is_not_taken_for_the_last_run(project: Project) -> None:
    project.case("good")
    project.write("results/last.json", '{"mine": 1}')
    got = project.run_inside("-q")
    assert (got.code, (project.folder / "results/last.json").read_text()) == (0, '{"mine": 1}')
    assert "it would be lost" in got.err


@pytest.mark.parametrize("link", ["cases", ".github", "pyproject.toml"])
def test_init_writes_through_no_link_elsewhere(project: Project, victim: Path, link: str) -> None:
    (victim / "kept.toml").write_text("[project]\n")
    (project.folder / "new").mkdir()
    (project.folder / "new" / link).symlink_to(victim / "kept.toml" if link.endswith(".toml") else victim)
    before = contents(victim)
    got = project.inside("init", "new")
    assert (got.code, contents(victim)) == (4, before), got.out + got.err
