"""`[tool.harness]`: the nearest one, checked strictly, paths counted from its own folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.support.configuration import KEYS, load
from harness.vocabulary.errors import UsageError

FULL = """\
[project]
name = "x"

[tool.harness]
paths = ["cases"]
models = ["cases/models.yaml"]
tags = ["fast"]
engines = ["native"]
workers = 2
strict = true
require-models = true
download = false
job-timeout = 600
results = "out"
known = "known.yaml"
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def write(text: str, folder: str = ".") -> Path:
    file = Path(folder, "pyproject.toml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_every_key_is_read_and_the_docstring_names_it():
    import harness.support.configuration

    write(FULL)
    values = load(Path.cwd()).values
    assert set(values) == set(KEYS)
    assert values["workers"] == 2
    assert values["strict"] is True
    assert all(f"    {key} = " in (harness.support.configuration.__doc__ or "") for key in KEYS)


def test_without_a_file_or_a_table_there_are_no_values():
    assert load(Path.cwd()).values == {}
    write("[tool.ruff]\n")
    assert load(Path.cwd()).file is None


def test_the_nearest_table_counts_and_a_file_without_one_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    write("[tool.harness]\nworkers = 1\n")
    write("[tool.ruff]\n", "a")
    write("[tool.harness]\nworkers = 3\n", "a/b")
    assert load(Path.cwd() / "a").values == {"workers": 1}
    assert load(Path.cwd() / "a" / "b").values == {"workers": 3}


def test_paths_count_from_the_file_and_are_short_where_they_lie_below(monkeypatch: pytest.MonkeyPatch):
    write(FULL)
    assert load(Path.cwd()).values["paths"] == ["cases"]
    Path("deep").mkdir()
    here = Path.cwd()
    monkeypatch.chdir("deep")
    assert load(Path.cwd()).values["models"] == [str(here / "cases" / "models.yaml")]
    assert load(Path.cwd()).values["results"] == str(here / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workes = 2", "pyproject.toml:4:1: tool.harness.workes: is not a setting; did you mean 'workers'?"),
        (
            "  require_models = true",
            "pyproject.toml:4:3: tool.harness.require_models: is not a setting; did you mean 'require-models'?",
        ),
        ('workers = "many"', "pyproject.toml:4:1: tool.harness.workers: expected a number of processes, or 'auto'"),
        ("workers = true", "expected a number of processes, or 'auto', found True"),
        ("workers = -1", "found -1"),
        ('paths = "cases"', "tool.harness.paths: expected a list of texts, found 'cases'"),
        ('tags = ["a", 3]', "tool.harness.tags: expected a list of texts"),
        ('strict = "yes"', "tool.harness.strict: expected true or false, found 'yes'"),
        ('results = ""', "tool.harness.results: expected the name of a folder"),
        ("strict = maybe", "pyproject.toml:4:10: is not TOML"),
    ],
)
def test_a_fault_is_located_and_says_what_would_be_right(text: str, message: str):
    write(f"[tool.ruff]\nworkes = 1\n[tool.harness]\n{text}\n")
    with pytest.raises(UsageError) as error:
        load(Path.cwd())
    assert message in str(error.value)


def test_every_fault_is_said_at_once():
    write('[tool.harness]\nworkes = 2\nstrict = "yes"\n')
    with pytest.raises(UsageError) as error:
        load(Path.cwd())
    assert [line.split(":")[1] for line in str(error.value).splitlines()] == ["2", "3"]


@pytest.mark.parametrize("text", ["tool.harness = 3\n", 'tool = {harness = "x"}\n'])
def test_a_table_that_is_none(text: str):
    write(text)
    with pytest.raises(UsageError, match=r"tool\.harness: expected a table"):
        load(Path.cwd())


def test_a_file_that_is_no_text():
    Path("pyproject.toml").write_bytes(b"\xff\xfe[tool]")
    with pytest.raises(UsageError, match=r"cannot be read"):
        load(Path.cwd())
