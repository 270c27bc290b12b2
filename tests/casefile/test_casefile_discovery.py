"""`find_cases`: which files a selection holds, and what an empty or wrong one says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.casefile import discovery, find_cases
from harness.vocabulary.errors import UsageError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    files = ("b.case.yaml", "a.case.yaml", "deep/er/c.case.yaml", ".git/h.case.yaml", ".h.case.yaml", "notes.yaml")
    for name in files:
        path = tmp_path / "cases" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


CASES = ["cases/a.case.yaml", "cases/b.case.yaml", "cases/deep/er/c.case.yaml"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["cases"], CASES),
        (["cases/", "./cases"], CASES),
        (["cases/b.case.yaml", "cases/deep"], CASES[1:]),
        (["cases/b.case.yaml", "cases/b.case.yaml"], CASES[1:2]),
        (["cases/.h.case.yaml"], ["cases/.h.case.yaml"]),
        (["cases/.git"], ["cases/.git/h.case.yaml"]),
        ([], []),
    ],
)
def test_cases_are_found_sorted_and_once(tree: Path, given: list[str], found: list[str]) -> None:
    assert find_cases(map(Path, given)) == list(map(Path, found))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("caess", "caess: does not exist; did you mean 'cases'?"),
        ("cases/a.case.yml", "cases/a.case.yml: does not exist; did you mean 'a.case.yaml'?"),
        ("nowhere/at/all", "nowhere/at/all: does not exist"),
        ("cases/notes.yaml", "cases/notes.yaml: is not a case file; its name must end in .case.yaml"),
        ("empty", "empty: no file below this folder is named *.case.yaml"),
        ("nul\0", "nul\0: does not exist"),
    ],
    ids=ascii,
)
def test_a_selection_without_a_case_is_a_usage_error(tree: Path, given: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        find_cases([Path("cases"), Path(given)])
    assert str(error.value) == message


def test_a_name_no_file_system_holds_is_a_usage_error(tree: Path) -> None:
    # Before Python 3.14 pathlib passes the system's reason on; later it only says that there is no such file.
    with pytest.raises(UsageError, match=r"x: (cannot be read: File name too long|does not exist)$"):
        find_cases([Path("x" * 300)])


def test_loops_of_links_end(tree: Path) -> None:
    (tree / "cases/deep/up").symlink_to(tree / "cases")
    (tree / "cases/self").symlink_to(tree / "cases/self")
    (tree / "link").symlink_to(tree / "cases")
    assert find_cases([Path("cases")]) == list(map(Path, CASES))
    assert len(find_cases([Path("link")])) == 3
    assert find_cases([Path("cases/deep/up/a.case.yaml")]) == [Path("cases/deep/up/a.case.yaml")]


def test_linked_folders_are_looked_into_each_once(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "z.case.yaml").touch()
    (elsewhere / "back").symlink_to(tree / "cases")
    (tree / "cases/aaa").symlink_to(elsewhere)
    (tree / "cases/bbb").symlink_to(elsewhere)
    (tree / "cases/ab").symlink_to(tree / "cases/deep")
    (tree / "cases/linked.case.yaml").symlink_to(elsewhere / "z.case.yaml")
    assert find_cases([Path("cases")]) == sorted(map(Path, [*CASES, "cases/aaa/z.case.yaml", "cases/linked.case.yaml"]))


def test_a_link_to_a_whole_disk_ends(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MOST_FOLDERS", 3)
    assert find_cases([Path("cases")]) == list(map(Path, CASES))
    (tree / "cases/up").symlink_to(tree)
    with pytest.raises(UsageError, match=r"^cases: more than 3 folders are below this one"):
        find_cases([Path("cases")])


@pytest.mark.parametrize("name", ["x.case.yml", "x.CASE.YAML", "X.Case.Yaml", "deep/x.case.YML"])
@pytest.mark.parametrize("given", ["file", "folder"])
def test_a_file_that_is_almost_named_as_a_case_is_refused(tree: Path, name: str, given: str) -> None:
    (tree / "cases" / name).touch()
    with pytest.raises(UsageError) as error:
        find_cases([Path("cases", name) if given == "file" else Path("cases")])
    assert str(error.value) == (
        f"cases/{name}: is not a case file; its name must end in .case.yaml; rename it, or it is never run"
    )


@pytest.mark.parametrize("name", ["x.case.yaml.bak", "x.cases.yaml", "case.yaml", "x.case.json", ".x.case.yml"])
def test_other_files_are_left_alone(tree: Path, name: str) -> None:
    (tree / "cases" / name).touch()
    assert find_cases([Path("cases")]) == list(map(Path, CASES))


def test_a_folder_that_cannot_be_listed_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def refuse(path: os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"^cases.*: cannot be read: Permission denied$"):
        find_cases([Path("cases")])
