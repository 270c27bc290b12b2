"""Every command that the tutorial, the how-to pages and the page on engines show runs, in a folder of its own.

A file of the page is written, a command ends with the code that the page says, and the lines that the page shows come
out of it. `docs/blocks.py` has the marks.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from blocks import Block, blocks
from project import environment
from wheelhouse import environment_beside, wheel

DOCS = Path(__file__).parents[2] / "docs"
SIX = DOCS / "how-to" / "gate-your-library.md"
"""Followed in an environment of its own, from the installation on."""
PAGES = sorted({*DOCS.glob("tutorial/*.md"), *DOCS.glob("how-to/*.md"), DOCS / "engines.md"} - {SIX})
QUICK = ("add-a-model", "add-a-metric")


class Reader:
    """Somebody who does what a page says, in an empty folder."""

    def __init__(self, folder: Path, programs: Path = Path(sys.executable).parent):
        self.folder, self.out = folder, ""
        # The programs of the environment that the tests run in, as after `. .venv/bin/activate`.
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        cache = {name: os.environ[name] for name in ("HARNESS_CACHE",) if name in os.environ}
        self.environment = environment(PATH=path, COLUMNS="400", **cache)

    def follow(self, block: Block) -> str | None:
        """Do what a block says and return what is wrong, or None."""
        if "not run" in block.marks or not block.exists_here:
            return None
        if name := block.marks.get("file"):
            return self._save(name, block.body)
        if "output" in block.marks:
            return differences(block.body, self.out)
        return self._run(block) if block.is_commands else None

    def _save(self, name: str, body: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(body, encoding="utf-8")

    def _run(self, block: Block) -> str | None:
        script = re.sub(r"^\$ ", "", block.body, flags=re.MULTILINE)
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.out = done.stdout
        wanted = int(block.marks.get("exit", 0))
        if done.returncode == wanted:
            return None
        return f"ends with {done.returncode}, where the page says {wanted}:\n{block.body}\n{self.out[-3000:]}"


def differences(shown: str, out: str) -> str | None:
    """Return the first line of `shown` that does not come out, after those before it; `...` stands for anything."""
    lines = iter(_plain(out))
    for wanted in _plain(shown):
        pattern = ".*".join(re.escape(part.strip()) for part in wanted.split("..."))
        if not any(re.fullmatch(pattern.replace(r"\ ", r"\s+"), line) for line in lines):
            return f"does not come out: {wanted}\n{out}"
    return None


def _plain(text: str) -> Iterator[str]:
    yield from (" ".join(line.split()) for line in text.splitlines() if line.strip())


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=() if page.stem in QUICK else pytest.mark.slow, id=page.stem) for page in PAGES],
)
def test_a_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    for block in blocks(page.read_text(encoding="utf-8")):
        fault = reader.follow(block)
        assert fault is None, f"{page.relative_to(DOCS)}:{block.line}: {fault}"


@pytest.mark.slow
def test_six_commands_make_a_gate_from_nothing(tmp_path: Path) -> None:
    """The page from its installation on: the wheel of this tree takes the place of the address."""
    page = [*blocks(SIX.read_text(encoding="utf-8"))]
    commands = [line for block in page if block.is_commands for line in block.body.splitlines()]
    assert len(commands) <= 6
    assert commands[0].startswith("pip install ")
    python = environment_beside(tmp_path / "venv")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel(tmp_path))], check=True)
    (library,) = (
        block.body
        for block in blocks((DOCS / "how-to" / "test-your-engine.md").read_text(encoding="utf-8"))
        if block.marks.get("file") == "mylib.py"
    )
    folder = tmp_path / "repository"
    reader = Reader(folder, python.parent)
    reader._save("mylib.py", library)
    reader._save("pyproject.toml", '[project]\nname = "mylib"\nversion = "1"\n')
    for block in page:
        fault = reader.follow(block)
        assert fault is None, f"{SIX.name}:{block.line}: {fault}"
    assert len([*folder.glob("snapshots/mylib/*.json")]) == 4
    workflow = yaml.safe_load((folder / ".github/workflows/harness.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for step in workflow["jobs"]["patching"]["steps"]]
    (gate,) = (each for each in commands if "--strict" in each)
    assert any(step.startswith(gate) for step in steps)
    assert any(step.startswith("pip install . 'mlx-patch-harness @ git+") for step in steps)


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("```sh\nfalse\n```\n", "ends with 1, where the page says 0"),
        ("<!-- exit: 1 -->\n```sh\ntrue\n```\n", "ends with 0, where the page says 1"),
        ("```sh\nfalse\ntrue\n```\n", "ends with 1"),
        ("```sh\necho one two\n```\n\n<!-- output -->\n```text\ntwo\n```\n", "does not come out: two"),
        ("```sh\nprintf 'a\\nb\\n'\n```\n<!-- output -->\n```text\nb\na\n```\n", "does not come out: a"),
        ("<!-- file: a -->\n```yaml\nx: 1\n```\n\n```sh\ngrep y a\n```\n", "ends with 1"),
    ],
    ids=["fails", "does not fail", "first fails", "other output", "other order", "a file"],
)
def test_a_page_that_is_wrong_is_found(page: str, fault: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    faults = [found for block in blocks(page) if (found := reader.follow(block))]
    assert len(faults) == 1
    assert fault in faults[0]


@pytest.mark.parametrize(
    "page",
    [
        "```sh\necho one   two\n```\n<!-- output -->\n```text\none ... two\n```\n",
        "<!-- exit: 1 -->\n```console\n$ echo so\n$ false\n```\n<!-- output -->\n```text\nso\n```\n",
        "<!-- not run: it cannot -->\n```sh\nfalse\n```\n",
        "<!-- needs: no-such-command -->\n<!-- exit: 3 -->\n```sh\nfalse\n```\n",
        "<!-- file: a/b -->\n```yaml\nx: 1\n```\n\n```sh\ngrep x a/b\n```\n",
    ],
    ids=["spaces and dots", "console", "not run", "needs", "a file"],
)
def test_a_page_that_is_right_is_followed(page: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    assert [found for block in blocks(page) if (found := reader.follow(block))] == []


def test_what_is_not_run_says_why_and_is_the_exception() -> None:
    shown = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8")) if block.is_commands]
    left = [block for block in shown if "not run" in block.marks]
    assert len(shown) > 30
    assert len(left) < len(shown) / 6
    assert all(len(block.marks["not run"]) > 10 for block in left)
