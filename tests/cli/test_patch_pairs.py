"""`harness patch --pairs`: a table of means, findings with their pair, and which options a file of pairs excludes."""

from __future__ import annotations

import re

import pytest
from project import Project, project  # noqa: F401

TABLE = "clean,corrupted\na,b\nc,d\na,c\n"


def test_the_table_has_means_with_errors_and_counts(project: Project) -> None:  # noqa: F811
    project.write("p.csv", TABLE)
    got = project.inside("patch", "-m", "good", "--models", "m.yaml", "--pairs", "p.csv", "-c", "mlp_out")
    assert got.code == 0, got.err
    assert re.search(r"^ +0 +50\.0 ± \S+ \(50\.0 to 50\.0\)", got.out, re.MULTILINE), got.out
    assert re.search(r"mean of +3 pairs", got.out)


def test_a_finding_names_its_pair_and_the_diagnosis_is_of_that_pair(project: Project) -> None:  # noqa: F811
    project.write("p.jsonl", '{"clean": "a", "corrupted": "b"}\n{"clean": "c", "corrupted": [2]}\n')
    got = project.inside("patch", "-m", "good", "--models", "m.yaml", "--pairs", "p.jsonl", "-c", "mlp_out")
    assert got.code == 1
    assert "undefined pairs, which are in no mean: 1 of 2 zero-baseline: mlp_out l2" in got.out
    assert "BAS001 clean and corrupted give the same value: pair 2: " in got.out
    assert "--clean 2 --corrupted 2" in got.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pairs", "p.csv", "--clean", "a"], "leave out --clean"),
        (["--pairs", "p.csv", "--ids"], "leave out --ids"),
        (["--pairs", "q.csv"], "q.csv: does not exist; did you mean 'p.csv'?"),
        (["--clean", "a"], "--corrupted missing; give both prompts, or --pairs"),
        (["--pairs", "bad.csv"], "bad.csv:2:1: has 3 cells under 2 names"),
        (["--pairs", "p.csv", "--positions", "4"], "position 4 is outside the prompt of 1 token"),
    ],
)
def test_what_is_refused(project: Project, words: list[str], said: str) -> None:  # noqa: F811
    project.write("p.csv", TABLE)
    project.write("bad.csv", "clean,corrupted\na,b,c\n")
    got = project.inside("patch", "-m", "good", "--models", "m.yaml", "-c", "mlp_out", *words)
    assert (got.code, said in got.err) == (4, True), got.err
