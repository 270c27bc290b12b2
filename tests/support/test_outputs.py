"""What a command writes costs nobody a file: an output takes the place of an earlier one of its kind, or of nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from project import HERE, Project, project

from harness.support.outputs import check_output
from harness.vocabulary.errors import UsageError

__all__ = ["project"]

VICTIMS = {
    "cases/good.case.yaml": None,
    "m.yaml": None,
    "pyproject.toml": "[project]\nname = 'x'\n",
    "notes.json": '{"schema": "somebody-else/1"}',
    "lock.xml": "<project><version>1</version></project>",
    "index.html": "<!doctype html><title>mine</title>",
    "README.md": "# Mine\n\nThis is about the harness.\n",
    f"snapshots/good/native@good.{HERE}.json": '{"schema": "mlx-patch-harness/snapshot/1"}',
    "photo.png": "\x89PNG of somebody's",
}


def keep_a_result(project: Project) -> Path:
    project.case("good")
    assert project.run_inside().code == 0
    return (project.folder / "result.json").rename(project.folder / "base.json")


@pytest.fixture
def victims(project: Project) -> dict[Path, bytes]:
    keep_a_result(project)
    for name, text in VICTIMS.items():
        if text is not None:
            project.write(name, text)
    return {project.folder / name: (project.folder / name).read_bytes() for name in VICTIMS}


COMMANDS = {
    "run --models m.yaml --json": "run",
    "run --models m.yaml -o": "run",
    "run --models m.yaml --junit": "run",
    "compare base.json base.json -o": "compare",
    "report base.json -o": "report",
    "merge base.json -o": "merge",
    "patch -m good --models m.yaml --clean a --corrupted b --plot": "patch",
    "conformance -e native --row dial-64 --json": "conformance",
    "conformance -e native --row dial-64 -o": "conformance",
    "zoo run --json": "zoo",
    "zoo run --write": "zoo",
    "models architectures --write": "models",
    "models equality --write": "models",
    "diagnose --model good --models m.yaml --clean a --corrupted b --json": "diagnose",
    "diagnose --model good --models m.yaml --clean a --corrupted b --plot": "diagnose",
    "diagnose --model good --models m.yaml --clean a --corrupted b --save-case": "diagnose",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_output_costs_a_file(project: Project, victims: dict[Path, bytes], command: str) -> None:
    for victim in victims:
        got = project.inside(*command.split(), str(victim.relative_to(project.folder)))
        assert got.code == 4, (victim, got.out, got.err)
        assert victim.name in got.err
    assert {file: file.read_bytes() for file in victims} == victims


AGAIN = {
    "run --models m.yaml --json": ["r.json"],
    "run --models m.yaml -o": ["r.html", "r.htm", "r.md", "r.json", "r.xml"],
    "run --models m.yaml --junit": ["j.xml"],
    "compare base.json base.json -o": ["c.md", "c.json"],
    "report base.json -o": ["again.html", "again.md", "again.json"],
    "patch -m good --models m.yaml --clean a --corrupted b --plot": ["p.png", "p.svg", "p.pdf", "p.jpg"],
    "diagnose --model nan --models m.yaml --clean a --corrupted b --json": ["d.json"],
    "diagnose --model llama-2k-f32 --clean a --corrupted b --plot": ["d.png"],
}


@pytest.mark.parametrize("command", AGAIN)
def test_an_earlier_output_of_the_same_kind_is_replaced(project: Project, command: str) -> None:
    keep_a_result(project)
    for name in AGAIN[command]:
        (project.folder / name).touch()  # an empty file, as mktemp makes it, is nobody's
        first = project.inside(*command.split(), name)
        assert first.code in (0, 1), first.err
        written = (project.folder / name).stat().st_mtime_ns
        again = project.inside(*command.split(), name)
        assert again.code == first.code, again.err
        assert (project.folder / name).stat().st_mtime_ns > written


def test_another_kind_under_the_same_suffix_is_no_earlier_output(project: Project) -> None:
    base = keep_a_result(project)
    before = base.read_bytes()
    assert project.inside("compare", "base.json", "base.json", "-o", "c.json").code == 0
    got = project.run_inside("-o", "c.json")
    assert got.code == 4
    assert "c.json exists, and is no earlier output of this kind (a result)" in got.err
    (project.folder / "link.json").symlink_to("base.json")
    for name in ("base.json", "./base.json", "link.json"):
        for command in (["compare", "base.json", "base.json"], ["report", "base.json"]):
            assert project.inside(*command, "-o", name).code == 4
    assert base.read_bytes() == before


def test_a_link_is_followed_and_stays(project: Project) -> None:
    project.case("good")
    (project.folder / "elsewhere").mkdir()
    (project.folder / "r.md").symlink_to(project.folder / "elsewhere" / "real.md")
    assert project.run_inside("-o", "r.md").code == 0
    assert (project.folder / "r.md").is_symlink()
    assert "harness: PASSED" in (project.folder / "elsewhere" / "real.md").read_text(encoding="utf-8")
    (project.folder / "case.md").symlink_to(project.write("mine.md", "# Mine\n"))
    assert project.run_inside("-o", "case.md").code == 4
    assert (project.folder / "mine.md").read_text(encoding="utf-8") == "# Mine\n"


def test_a_pipe_is_written_through(project: Project) -> None:
    project.case("good")
    pipe = project.folder / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    got = project.inside("run", "--models", "m.yaml", "--json", str(pipe))
    reader.join(timeout=60)
    assert got.code == 0, got.err
    assert not pipe.is_file()
    assert '"schema": "mlx-patch-harness/result/1"' in read[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_is_never_replaced(project: Project) -> None:
    project.case("good")
    got = project.inside("run", "--models", "m.yaml", "--json", "/dev/full")
    assert Path("/dev/full").is_char_device()
    assert got.code == 4
    assert "/dev/full cannot be written" in got.out + got.err


@pytest.mark.parametrize("name", ["architectures", "equality", "reference-table", "zoo"])
def test_a_stored_page_may_be_written_again(name: str) -> None:
    check_output(Path(__file__).parents[2] / "docs" / f"{name}.md", ("page",))


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs/engines.md"])
def test_a_page_that_people_write_may_not(name: str) -> None:
    with pytest.raises(UsageError, match="is no earlier output of this kind"):
        check_output(Path(__file__).parents[2] / name, ("page",))
