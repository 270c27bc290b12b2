"""Markdown and annotations: the verdict, what failed and where, and no text that acts as markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from example_results import curve, job, run
from hostile import hostile

from harness.results.reports import annotations, html, markdown
from harness.results.reports.summary import strongest
from harness.vocabulary import Direction, Finding, RunResult, Site, Status, Sweep

FAILED = job(
    status=Status.FAILED,
    curves=(curve("nan", "nan", baseline="inf"),),
    findings=(Finding("SNP002", "none"), Finding("FIN004", "reported inf", metric="l2"), Finding("FIN004", "again")),
    case_line=7,
)


def test_markdown_says_first_what_failed_and_what_to_type() -> None:
    lines = markdown.render(run(job("fine"), FAILED, verdict=Status.FAILED, exit_code=1)).splitlines()
    assert lines[0] == "## ✗ harness: FAILED"
    assert lines[2] == "1 passed, 1 failed in 12.3 s, 1 job was compared with no snapshot, exit code 1."
    assert lines[6] == "- ✗ `case[native@tiny]` **FIN004** the engine's baseline is not finite: reported inf (1 more)"
    assert lines[8] == "  - again: `harness run cases/case.case.yaml --engine native --model tiny`"


@pytest.mark.parametrize("render", [markdown.render, html.render], ids=["markdown", "html"])
def test_what_a_reader_must_know_besides_the_jobs_is_there_as_text(render: Callable[[RunResult], str]) -> None:
    report = render(run(job("fine"), notes=("12 of 96 jobs: shard 1/8 <b>only</b>",)))
    assert "12 of 96 jobs: shard 1/8 &lt;b&gt;only&lt;/b&gt;" in report


def test_an_undefined_recovery_is_named_in_the_table() -> None:
    row = next(line for line in markdown.render(run(FAILED)).splitlines() if line.startswith("| ✗"))
    assert row == "| ✗ | case | tiny | native | l2 inf | nan | FIN004 SNP002 |"


def test_markdown_keeps_hostile_text_as_text() -> None:
    text = markdown.render(hostile())
    outside_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert set(re.findall(r"<(/?\w+)", outside_code)) <= {"details", "/details", "summary", "/summary", "sub", "/sub"}
    assert not re.search(r"(?<!\\)\]\(", outside_code)
    for row in (line for line in text.splitlines() if line.startswith("|")):
        assert len(re.findall(r"(?<!\\)\|", row)) == 8, row
    assert [line for line in text.splitlines() if line.startswith("#")] == ["## ‼ harness: CRASHED", "### What failed"]


@pytest.mark.parametrize("failed", [0, 2000], ids=["many-jobs", "many-failures"])
def test_markdown_fits_into_a_comment_and_says_what_is_left_out(failed: int) -> None:
    jobs = [job(f"case-{i}", status=Status.FAILED if i < failed else Status.PASSED) for i in range(2000)]
    text = markdown.render(run(*jobs, verdict=Status.FAILED, exit_code=1))
    assert len(text) < 65_536
    assert "too long to stand here" in text
    assert ("More failures than fit here" in text) == bool(failed)


def test_one_annotation_a_code_at_the_line_of_the_case() -> None:
    lines = annotations.render(run(job("fine"), FAILED)).splitlines()
    assert [line.partition("::case[")[0] for line in lines] == [
        "::warning file=cases/case.case.yaml,line=7,title=SNP002 no snapshot is stored for this job",
        "::error file=cases/case.case.yaml,line=7,title=FIN004 the engine's baseline is not finite",
    ]
    assert "1 more of this code%0A" in lines[1]


def test_a_job_without_findings_still_has_its_annotation() -> None:
    text = annotations.render(run(job("a", status=Status.REFUSED, reason="no"), job("b", status=Status.SKIPPED)))
    assert text.splitlines() == [
        "::error file=cases/a.case.yaml,line=1,title=a[native@tiny] refused::no",
        "::notice file=cases/b.case.yaml,line=1,title=b[native@tiny] skipped::skipped",
    ]


def test_annotations_escape_what_would_end_them() -> None:
    evil = job(status=Status.FAILED, case_file="a,b:c.case.yaml", findings=(Finding("FIN001", "50 %\n::error::x\r"),))
    (line,) = annotations.render(run(evil)).splitlines()
    assert line.startswith("::error file=a%2Cb%3Ac.case.yaml,line=1,title=FIN001 clean logits are not finite::")
    assert "50 %25%0A::error::x%0D%0A" in line


def test_a_case_file_below_this_folder_is_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = Finding("FIN001", "seen", Site("mlp_out", 3))
    inside = job(status=Status.FAILED, case_file=str(tmp_path / "cases" / "x.case.yaml"), findings=(found,))
    assert annotations.render(run(inside)).startswith("::error file=cases/x.case.yaml,")


@pytest.mark.parametrize(
    ("direction", "recoveries", "shown"),
    [
        (Direction.DENOISING, (5.0, -40.0, 20.0), "-40.0 % mlp_out layer 1"),
        (Direction.NOISING, (100.0, 0.0, 90.0), "100 to 0.0 % mlp_out layer 1"),
        (Direction.NOISING, (99.0, 95.0, 170.0), "100 to 170.0 % mlp_out layer 2"),
        (Direction.DENOISING, ("nan", "nan"), "nan"),
    ],
)
def test_the_strongest_effect_is_the_largest_move_from_the_run_that_is_patched(direction, recoveries, shown):
    one = curve(*recoveries)
    assert strongest(job(sweep=Sweep(("mlp_out",), direction=direction)), one) == shown
