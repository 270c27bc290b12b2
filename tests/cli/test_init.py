"""`harness init`: what it writes runs, and what is there already stays."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from project import Project

from harness.support.configuration import KEYS


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def empty(project: Project) -> Project:
    (project.folder / "m.yaml").unlink()
    return project


def test_what_it_writes_passes_and_is_stored(empty: Project) -> None:
    assert empty.inside("init").code == 0
    assert set(files(empty.folder)) == {"cases/first.case.yaml", ".github/workflows/harness.yml"}
    got = empty.inside("run", "--json", "result.json")
    assert (got.code, got.statuses, got.codes) == (0, {"first[native@llama-2k-f32]": "passed"}, {"SNP002"})
    assert empty.inside("run", "--snapshot-update").code == 0
    assert empty.inside("run", "--strict").code == 0


def test_the_folder_to_go_to_can_be_pasted(empty: Project) -> None:
    (line,) = [line for line in empty.inside("init", "bob's new repo").out.splitlines() if line.startswith("  cd ")]
    assert shlex.split(line) == ["cd", "bob's new repo"]


def test_a_second_time_changes_nothing_and_says_so(empty: Project) -> None:
    empty.write("pyproject.toml", "[project]\nname = 'x'\n")
    empty.inside("init")
    before = files(empty.folder)
    got = empty.inside("init")
    assert (got.code, got.out.count("left alone")) == (0, 3)
    assert files(empty.folder) == before


def test_other_peoples_files_are_left_alone(empty: Project) -> None:
    mine = {
        "cases/deep/mine.case.yaml": "models: [good]\n",
        ".github/workflows/harness.yml": "mine",
        "pyproject.toml": "[tool.harness]\nstrict = true\n",
    }
    for name, text in mine.items():
        empty.write(name, text)
    assert empty.inside("init").code == 0
    assert {name: text.decode() for name, text in files(empty.folder).items()} == mine


@pytest.mark.parametrize(
    "old", ["", "[project]\nname = 'é'\n", "[project]\nname = 'x'", "[tool.ruff]\r\nline-length = 3\r\n"],
    ids=["empty", "unicode", "no-line-end", "crlf"],
)  # fmt: skip
def test_the_table_is_added_behind_what_is_there(empty: Project, old: str) -> None:
    file = empty.folder / "pyproject.toml"
    file.write_bytes(old.encode())
    assert empty.inside("init").code == 0
    new = file.read_bytes().decode()
    assert new.startswith(old)
    assert ("\r\n" in new) == ("\r\n" in old)
    assert new.count("\n") == new.count("\r\n") or "\r" not in new
    assert tomllib.loads(new)["tool"]["harness"] == {"paths": ["cases"]}
    assert empty.inside("run", "-q").code == 0


def test_every_line_that_is_commented_out_is_a_setting(empty: Project) -> None:
    empty.write("pyproject.toml", "")
    empty.inside("init")
    text = (empty.folder / "pyproject.toml").read_text().replace("\n# ", "\n")
    assert set(tomllib.loads(text)["tool"]["harness"]) <= set(KEYS)


def test_without_a_pyproject_it_says_that_none_is_needed(empty: Project) -> None:
    assert "no pyproject.toml: runs here need none" in empty.inside("init").out


def test_into_a_folder_that_is_not_there_yet(empty: Project) -> None:
    got = empty.inside("init", "new/lib")
    assert (got.code, (empty.folder / "new/lib/cases/first.case.yaml").exists()) == (0, True)
    assert "  cd new/lib\n" in got.out


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ("[tool.ruff\n", "pyproject.toml:1:"),
        ("tool = {x = 1}\n", "[tool.harness] cannot be appended"),
        ("[tool.harness]\nworkes = 3\n", "did you mean 'workers'?"),
    ],
)
def test_a_configuration_that_cannot_be_added_to_is_refused_before_anything_is_written(
    empty: Project, old: str, message: str
) -> None:
    empty.write("pyproject.toml", old)
    got = empty.inside("init")
    assert got.code == 4
    assert message in got.err
    assert files(empty.folder) == {"pyproject.toml": old.encode()}


def test_a_file_in_the_way(empty: Project) -> None:
    empty.write("cases", "a file")
    got = empty.inside("init")
    assert got.code == 4
    assert "cannot be written" in got.err
    assert empty.inside("init", "cases").code == 4


def test_the_workflow_is_yaml_and_runs_commands_that_exist(empty: Project) -> None:
    empty.inside("init")
    workflow = yaml.safe_load((empty.folder / ".github/workflows/harness.yml").read_text())
    commands = [step["run"].split() for step in workflow["jobs"]["cases"]["steps"] if "run" in step]
    for words in commands:
        if words[0] == "harness":
            assert empty.inside(*words[1:2], "--help").code == 0
            options = [word for word in words[2:] if word.startswith("--")]
            assert all(option in empty.inside(words[1], "--help").out for option in options)
