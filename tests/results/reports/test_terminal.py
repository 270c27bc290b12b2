"""What the terminal says: one line a job, every unexpected finding with its hint, and never 0.0 for no number."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from harness.results.reports.terminal import console, finding_text, print_run, verdict_line
from harness.vocabulary import Cell, Curve, Environment, Finding, JobResult, Reading, RunResult, Site, State, Status
from harness.vocabulary.backends import CPU
from harness.vocabulary.verdict import graver, of_run

HERE = Environment("0.1.0", "3.11", "Linux", CPU, "a processor")


def job(name: str = "case", status: Status = Status.PASSED, **more: object) -> JobResult:
    fields = {"case": name, "case_file": f"cases/{name}.case.yaml", "model": "tiny", "engine": "native", **more}
    return JobResult(id=f"{name}[native@tiny]", status=status, **fields)  # type: ignore[arg-type]


def run(*jobs: JobResult, verdict: Status = Status.PASSED, code: int = 0) -> RunResult:
    return RunResult(verdict, code, HERE, jobs, "2025-01-01T00:00:00+00:00", 12.34)


def curve(baseline: Reading, *recoveries: Reading) -> Curve:
    cells = tuple(Cell(layer, "all", each, each) for layer, each in enumerate(recoveries))
    return Curve("mlp_out", "l2", "logits", baseline, baseline, cells)


def shown(result: RunResult, strict: bool = False) -> str:
    file = io.StringIO()
    print_run(result, Console(file=file, width=200, highlight=False), strict)
    return file.getvalue()


@pytest.mark.parametrize(
    ("statuses", "text"),
    [
        ([], "nothing ran"),
        (["passed"], "1 passed"),
        (["passed", "failed", "passed", "skipped"], "2 passed, 1 failed, 1 skipped"),
        (["refused", "crashed", "crashed"], "1 refused, 2 crashed"),
    ],
)
def test_the_verdict_line_counts_jobs(statuses: Sequence[str], text: str) -> None:
    jobs = [job(f"c{i}", Status(status)) for i, status in enumerate(statuses)]
    verdict, code = of_run(jobs)
    line = verdict_line(run(*jobs, verdict=verdict, code=code))
    assert line.plain == f"{verdict.upper()}: {text} in 12.3 s (exit code {code})"


@pytest.mark.parametrize(
    ("statuses", "besides", "line"),
    [
        (["passed"], Status.FAILED, "FAILED: 1 passed; too few jobs ran in 12.3 s (exit code 1)"),
        ([], Status.FAILED, "FAILED: nothing ran; too few jobs ran in 12.3 s (exit code 1)"),
        (["failed"], Status.FAILED, "FAILED: 1 failed in 12.3 s (exit code 1)"),
        (["passed"], Status.INTERRUPTED, "INTERRUPTED: 1 passed; not every planned job ended in 12.3 s (exit code 2)"),
        (["failed"], Status.REFUSED, "REFUSED: 1 failed; a file was refused or not written in 12.3 s (exit code 4)"),
        (["refused"], Status.FAILED, "REFUSED: 1 refused in 12.3 s (exit code 4)"),
        (["passed"], Status.CRASHED, "CRASHED: 1 passed; the run itself broke in 12.3 s (exit code 3)"),
    ],
)
def test_a_verdict_that_the_jobs_do_not_make_is_explained(statuses: Sequence[str], besides: Status, line: str) -> None:
    jobs = [job(f"c{i}", Status(status)) for i, status in enumerate(statuses)]
    verdict, code = of_run(jobs)
    graver_run = graver(run(*jobs, verdict=verdict, code=code), besides, "why")
    assert verdict_line(graver_run).plain == line
    assert graver_run.notes == ("why",)


@pytest.mark.parametrize("verdict", Status)
def test_every_verdict_has_a_line_and_every_status_a_row(verdict: Status) -> None:
    text = shown(run(job(status=verdict), verdict=verdict, code=3))
    assert text.splitlines()[-1].startswith(f"{verdict.value.upper()}: 1 {verdict.value}")


@pytest.mark.parametrize("state", [state for state in State if state is not State.FINITE])
def test_a_reading_without_a_value_shows_its_state(state: State) -> None:
    absent = Reading.absent(state)
    text = shown(run(job(curves=(curve(absent, absent, absent),))))
    assert text.count(state.value) >= 2
    assert "0.0" not in text.replace("12.3 s", "")
    assert "%" not in text


def test_a_true_zero_is_shown_as_a_number() -> None:
    text = shown(run(job(curves=(curve(Reading.of(313.77), Reading.of(0.0)),))))
    assert "l2 313.8" in text
    assert "0.0 %" in text


def test_the_strongest_is_a_finite_one() -> None:
    readings = [Reading.of(12.0), Reading.absent(State.NAN), Reading.of(71.84)]
    text = shown(run(job(curves=(curve(Reading.of(1.0), *readings),))))
    assert "71.8 % mlp_out layer 2" in text


FINDING = Finding("FIN003", "3 of 40,960 values inf", Site("mlp_out", 7, "last"), "l2")


def test_a_finding_says_code_title_metric_site_and_what_was_seen() -> None:
    assert finding_text(FINDING) == (
        "FIN003 patched logits are not finite (l2) at layer 7 mlp_out, position last: 3 of 40,960 values inf"
    )
    assert finding_text(Finding("EXP001", "said")) == "EXP001 an expected finding did not appear: said"


def test_a_finding_is_printed_under_its_job_with_its_hint() -> None:
    lines = shown(run(job(status=Status.FAILED, findings=(FINDING,)), verdict=Status.FAILED, code=1)).splitlines()
    assert lines[:5] == [
        "FAILED case[native@tiny] cases/case.case.yaml",
        f"  {finding_text(FINDING)}",
        f"    {FINDING.kind.hint}",
        "  harness run cases/case.case.yaml --engine native --model tiny -v",
        "  harness explain FIN003",
    ]
    assert any("failed, FIN003" in line for line in lines[5:])


def test_an_expected_finding_is_only_named_in_the_table() -> None:
    expected = Finding("FIN003", "3 of 40,960 values inf", expected=True)
    text = shown(run(job(findings=(expected,))))
    assert "as expected: FIN003" in text
    assert "40,960" not in text


def test_equal_reasons_are_said_once() -> None:
    jobs = [job(f"c{i}", Status.SKIPPED, reason="not on this machine") for i in range(3)]
    text = shown(run(*jobs, verdict=Status.SKIPPED, code=5))
    assert text.count("not on this machine") == 1
    assert "c0[native@tiny] and 2 more skipped: not on this machine" in text


def test_a_reader_that_goes_away_does_not_end_the_process() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        print_run(run(job()), console(Gone(), 80))


@pytest.mark.parametrize("word", ["[red]", "[/]", "[bold]x[/bold]", ":smile:", "\\[x]", "[link=x]"])
def test_text_of_others_is_never_markup(word: str) -> None:
    dangerous = job(word, Status.FAILED, reason=word, findings=(Finding("ENG001", word),), model=word)
    text = shown(run(dangerous, verdict=Status.FAILED, code=1))
    assert text.count(word) >= 5
    assert f"ENG001 the engine raised an error: {word}" in text


def test_a_strategy_that_was_not_the_one_asked_for_is_said_with_its_reason() -> None:
    text = shown(run(job("looped", strategy="stepwise", fallback="the blocks run twice"), job(strategy="one-pass")))
    assert "looped" in text
    assert "went stepwise: the blocks run twice" in text
    assert "one-pass" not in text


def failing(name: str, *codes: str, **more: object) -> JobResult:
    found = tuple(Finding(code, f"seen in {name}", metric="l2") for code in codes)
    return job(name, Status.FAILED, findings=found, **more)


SCREEN = 50
"""Lines of a terminal that nobody has made small."""


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [failing(f"b{i}", "FIN004", "FIN005", "ORC001", "ORC002", "KNO001") for i in range(100)],
        [
            failing(f"b{i}", *codes)
            for i in range(20)
            for codes in (["FIN001"], ["SNP001"], ["LAW002", "LAW003"], ["ALN001"])
        ],
        [job(f"b{i}", Status.CRASHED, reason=f"reason {i}") for i in range(100)],
    ],
    ids=["none", "alike", "four-kinds", "all-different"],
)
def test_a_hundred_jobs_fit_a_screen_with_what_failed_first(bad: list[JobResult]) -> None:
    jobs = [*bad, *(job(f"good{i % 24}") for i in range(100))]
    text = shown(run(*jobs, verdict=Status.FAILED if bad else Status.PASSED, code=1 if bad else 0))
    assert len(text.splitlines()) <= SCREEN
    assert text.splitlines()[0].startswith(f"{bad[0].status.upper()} b0[native@tiny]") if bad else "good0" in text
    assert "100 passed" in text.splitlines()[-1]


def test_what_is_wrong_with_an_engine_leaves_room_on_a_screen() -> None:
    codes = ("ORC001", "ORC002", "REF001", "REF002", "KNO001")
    bad = [replace(failing(f"b{i}", *codes), engine=f"mine:patch{i % 5}") for i in range(100)]
    text = shown(run(*bad, *(job(f"good{i % 24}") for i in range(100)), verdict=Status.FAILED, code=1))
    assert len(text.splitlines()) <= SCREEN
    said = [line.startswith("mine:patch0, in 20 of 20 jobs: ") for line in text.splitlines()]
    assert (said[:3], any(said[3:])) == ([True] * 3, False)


def test_jobs_that_failed_alike_are_told_once_and_named() -> None:
    text = shown(run(*(failing(f"b{i}", "FIN004") for i in range(9)), verdict=Status.FAILED, code=1))
    assert text.count("seen in") == 1
    assert "  and b1[native@tiny], b2[native@tiny]" in text
    assert "and 2 more" in text


def test_verbose_tells_every_job_and_every_finding() -> None:
    text = print_and_read(run(*(failing(f"b{i}", "FIN004", "FIN004") for i in range(30))), verbosity=1)
    assert text.count("seen in") == 60
    assert "more" not in text


def print_and_read(result: RunResult, **more: object) -> str:
    file = io.StringIO()
    print_run(result, Console(file=file, width=200, highlight=False), **more)  # type: ignore[arg-type]
    return file.getvalue()


def test_quiet_tells_failures_and_the_verdict() -> None:
    warned = job("warned", findings=(Finding("SNP002", "nothing stored"),))
    text = print_and_read(run(job("good"), warned, failing("bad", "FIN004"), verdict=Status.FAILED), verbosity=-1)
    assert [line.split()[0] for line in text.splitlines() if line] == [
        "FAILED",
        "FIN004",
        "harness",
        "harness",
        "FAILED:",
    ]
    assert "good" not in text


def test_a_command_repeats_what_it_needs_and_is_quoted() -> None:
    result = run(failing("bad", "ALN001", case_file="cases/a b.case.yaml"), verdict=Status.FAILED)
    lines = [
        line.strip() for line in print_and_read(result, again=("--models", "my table.yaml", "--strict")).splitlines()
    ]
    table = "--models 'my table.yaml'"
    assert f"harness run 'cases/a b.case.yaml' --engine native --model tiny {table} --strict -v" in lines
    assert f"harness show 'cases/a b.case.yaml' --model tiny {table}" in lines
    assert "harness explain ALN001" in lines


def test_a_command_is_never_folded() -> None:
    long = failing("bad", "FIN004", case_file=f"cases/{'x' * 90}.case.yaml")
    file = io.StringIO()
    print_run(run(long), Console(file=file, width=60, highlight=False))
    assert f"  harness run cases/{'x' * 90}.case.yaml --engine native --model tiny -v" in file.getvalue().splitlines()


def test_a_warning_of_many_jobs_is_said_once() -> None:
    jobs = [job(f"c{i}", findings=(Finding("SNP002", f"nothing for c{i}"),)) for i in range(30)]
    text = shown(run(*jobs))
    assert text.count("nothing for") == 1
    assert text.count("and 23 more") == 1
    assert print_and_read(run(*jobs), verbosity=1).count("nothing for") == 30
