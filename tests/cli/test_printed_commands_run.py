"""A command that a page, a message or a report shows is one that the harness takes."""

from __future__ import annotations

import ast
import html
import re
from pathlib import Path

import pytest
from printed_commands import commands_in, fault_of
from project import Project
from saved_model import save_model

import harness
from harness.cli.help import EXAMPLES

ROOT = Path(harness.__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "action.yml")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.yml")),
    *sorted((ROOT / "harness" / "cli" / "scaffold").iterdir()),
]
SOURCES = sorted((ROOT / "harness").rglob("*.py"))


def faults(commands: list[str], placeholders: bool = True) -> list[str]:
    return [fault for command in dict.fromkeys(commands) if (fault := fault_of(command, placeholders))]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()


def test_every_page_shows_commands_that_exist() -> None:
    found = [command for page in PAGES for command in commands_in(page.read_text(encoding="utf-8"))]
    assert len(set(found)) > 80
    assert faults(found) == []


def test_every_example_of_a_help_page_exists() -> None:
    assert faults([line for lines in EXAMPLES.values() for line in lines if line.startswith("harness")]) == []


def test_every_message_names_commands_that_exist() -> None:
    """Strings of the source as they stand: where a value is filled in, the words before it."""
    texts = [
        node.value
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    found = [command for text in texts for command in commands_in(text)]
    assert len(set(found)) > 40
    assert faults(found) == []


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("harness run --no-such", "No such option"),
        ("harness rum", "is not a command"),
        ("harness run -m no-such-model-at-all", "is neither a model"),
        ("harness explain FIN999", "is no code"),
        ("harness run -e nativ", "is no engine"),
        ("harness snapshots status --json extra.json --nope", "No such option"),
        ("harness conformance -e native --law nolaw", "is no law"),
        ("harness report a.json -o b.txt", "ends in .txt"),
    ],
)
def test_a_command_that_would_be_refused_is_found(command: str, why: str) -> None:
    assert why in (fault_of(command, placeholders=True) or "")


SITUATIONS: dict[str, tuple[str, ...]] = {
    "a wrong engine": ("run", "cases/wrong.case.yaml", "--with-engine", "legacy", "--annotations"),
    "no snapshot": ("run", "cases/good.case.yaml", "--strict"),
    "no overlap": ("run", "cases/same.case.yaml"),
    "no overlap of a guest": ("run", "cases/same.case.yaml", "--with-engine", "legacy"),
    "a pass": ("run", "cases/good.case.yaml", "-v"),
    "a model that is not there": ("run", "cases/absent.case.yaml"),
    "an own model": ("run", "cases/wrong.case.yaml", "-m", "./my model"),
    "code without consent": ("run", "cases/code.case.yaml"),
    "an unknown model": ("run", "-m", "goood"),
    "an unknown tag": ("run", "--marks", "nothing"),
    "an unknown keyword": ("run", "-k", "nothing"),
    "an unknown engine": ("run", "-e", "published"),
    "no last run": ("run", "--failed", "--results", "elsewhere"),
    "validate": ("validate", "cases/good.case.yaml", "cases/code.case.yaml"),
    "status": ("snapshots", "status", "cases/good.case.yaml"),
    "status of code": ("snapshots", "status", "cases/code.case.yaml"),
    "list": ("list", "cases/good.case.yaml"),
    "show": ("show", "cases/wrong.case.yaml"),
    "patch a NaN": ("patch", "-m", "nan", "--clean", "a", "--corrupted", "b", "-c", "mlp"),
    "diagnose a NaN": ("diagnose", "-m", "nan", "--clean", "a", "--corrupted", "b", "-c", "mlp"),
    "diagnose legacy": ("diagnose", "-m", "wide", "--clean", "a", "--corrupted", "b", "-c", "mlp", "-e", "legacy"),
    "conformance": ("conformance", "-e", "legacy", "--row", "llama", "-v"),
    "replay": ("replay", "qwen3-30b-report"),
    "numbers": ("diagnose", "--numbers", "table.txt"),
    "explain": ("explain", "nan"),
    "init": ("init",),
    "init an engine": ("init", "--engine", "mine:patch"),
    "doctor": ("doctor",),
}
TABLE = ("run", "validate", "snapshots", "list", "show", "patch", "diagnose")


@pytest.fixture
def situations(project: Project) -> Project:
    project.case("good")
    project.case("wrong", models="wide", engines="legacy")
    project.case("same").write_text(project.case("same").read_text().replace('"b"', '"a"'))
    project.case("absent", models="absent")
    project.case("code", engines='"mine:patch"')
    project.write("mine.py", "def patch(): ...\n")
    project.write("table.txt", "Baseline distance: inf\nLayer 0: nan%\nLayer 1: nan%\n")
    save_model(project.folder / "my model")
    return project


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_a_command_prints_can_be_typed(situations: Project, name: str) -> None:
    words = SITUATIONS[name]
    table = ("--models", "m.yaml") if words[0] in TABLE and "--numbers" not in words else ()
    reports = ("-o", "r.html", "-o", "r.md", "--junit", "r.xml") if words[0] == "run" else ()
    got = situations.inside(*words, *table, *reports)
    assert got.code in (0, 1, 4, 5), got
    pages = [
        html.unescape(re.sub(r"<[^>]+>", "\n", file.read_text().replace("\\`", "`")))
        for file in situations.folder.glob("r.*")
    ]
    screen = got.out + got.err
    found = [command for text in (screen, *pages) for command in commands_in(text)]
    # The page of a finding has words of its own for the reader's.
    assert faults([each for each in found if not re.search(r"\b[A-Z]{4,}\b", each)], placeholders=False) == []


def test_files_that_a_message_names_must_be_there(tmp_path: Path) -> None:
    assert fault_of("harness patch --clean a") is not None  # what a message prints, nobody adds to
    assert "is not there" in (fault_of("harness run cases/gone.case.yaml") or "")
    (tmp_path / "here.case.yaml").touch()
    assert fault_of("harness run here.case.yaml") is None
