"""The commands that fill a grid: the same cells on the terminal and in the page, and an exit code for what ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import exit_code_of
from harness.laws.grid import processes


def test_the_terminal_and_the_page_show_the_same_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    assert exit_code_of(["models", "equality", "--only", "hunyuan", "--dtype", "float32", "--write", str(page)]) == 0
    shown, written = capsys.readouterr().out, page.read_text(encoding="utf-8")
    (row,) = (line for line in written.splitlines() if line.startswith("| hunyuan |"))
    assert [line.split() for line in shown.splitlines() if "hunyuan" in line] == [row.replace("|", " ").split()]
    assert "## float32, equal up to 3e-05" in written
    assert "float16" not in written


def test_where_nothing_ran_the_exit_code_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(["models", "architectures", "--only", "bitnet"]) == 5
    assert "[1] a kernel that exists only for Metal" in capsys.readouterr().out


def test_a_row_that_ends_is_a_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(processes, "python", lambda *arguments: ["/bin/false"])
    assert exit_code_of(["models", "equality", "--only", "llama", "--dtype", "float16"]) == 1
    assert "harness: llama float16 mlp: FAIL: the process ended with 1" in capsys.readouterr().err
