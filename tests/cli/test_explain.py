"""`harness explain`: a code, a symptom, or the whole list."""

from __future__ import annotations

import subprocess
import sys

import pytest
from project import Project

from harness.vocabulary.findings import FINDINGS
from harness.vocabulary.findings.pages import page


def test_a_code_prints_its_page_as_it_is_where_nobody_reads_a_screen(project: Project) -> None:
    got = project.inside("explain", "FIN004")
    assert (got.code, got.out) == (0, page("FIN004").text)
    assert project.inside("explain", "fin004").out == got.out


def test_a_terminal_gets_the_page_set_for_reading(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    got = project.inside("explain", "FIN004")
    assert "\x1b[" in got.out
    assert "## Cause" not in got.out
    assert "Cause" in got.out


def test_without_a_code_every_one_is_listed_with_its_title(project: Project) -> None:
    lines = project.inside("explain").out.splitlines()
    assert lines == [f"{code}  {kind.severity:<8} {kind.subject:<12} {kind.title}" for code, kind in FINDINGS.items()]


@pytest.mark.parametrize("words", [["!!!!"], ["all recoveries nan"], ["all", "recoveries", "nan"], ["nan%"]])
def test_a_symptom_lists_the_codes_behind_it(project: Project, words: list[str]) -> None:
    got = project.inside("explain", *words)
    assert got.code == 0
    assert "FIN00" in got.out
    assert all(line.split()[0] in FINDINGS for line in got.out.splitlines())


def test_a_symptom_of_one_code_prints_that_page(project: Project) -> None:
    assert project.inside("explain", "float division by zero").out == page("BAS001").text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("FIN04", "'FIN04' is not a finding code; did you mean 'FIN004'?"),
        ("fin4", "'FIN4' is not a finding code; did you mean 'FIN00"),
        ("purple elephants", "no page about findings has 'purple elephants'; `harness explain` lists the codes"),
    ],
)
def test_what_nobody_knows_ends_with_4(project: Project, asked: str, message: str) -> None:
    got = project.inside("explain", asked)
    assert (got.code, got.out) == (4, "")
    assert message in got.err


@pytest.mark.as_installed("the child is started with MLX replaced already")
def test_it_needs_neither_mlx_nor_pydantic() -> None:
    code = "import sys; from harness.cli import exit_code_of; exit_code_of(['explain', 'FIN001']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"mlx", "mlx_lm", "pydantic", "numpy"} & {name.partition(".")[0] for name in done.stdout.split()}


def test_the_likeliest_code_comes_first_and_its_page_is_the_next_command(project: Project) -> None:
    got = project.inside("explain", "all recoveries nan")
    assert [line.split()[0] for line in got.out.splitlines()][:2] == ["FIN005", "FIN004"]
    assert got.err.strip() == "harness explain FIN005"


def test_a_code_that_is_near_none_gets_three_and_not_all(project: Project) -> None:
    got = project.inside("explain", "XQZ999")
    assert got.code == 4
    assert got.err.count(",") == 3
    assert f"there are {len(FINDINGS)}, such as " in got.err
