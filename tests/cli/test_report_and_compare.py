"""`harness report`, `harness compare` and `run -o` through the real command line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from example_results import curve, job, run
from project import Outcome, Project

from harness.results.json import write
from harness.vocabulary import Finding, JobResult, RunResult, Status


def stored(folder: Path, name: str, result: RunResult) -> Path:
    write(result, folder / name)
    return folder / name


@pytest.fixture
def two(project: Project) -> tuple[Path, Path]:
    """Two results that differ in one recovery by 3 points."""
    before = stored(project.folder, "a.json", run(job(curves=(curve(10.0, 50.0),))))
    return before, stored(project.folder, "b.json", run(job(curves=(curve(10.0, 47.0),))))


def test_one_run_writes_every_report(project: Project) -> None:
    project.case("c", models="wide", engines="native, legacy")
    names = [project.folder / f"r.{suffix}" for suffix in ("html", "md", "json", "xml")]
    wanted = [word for name in names for word in ("-o", name)]
    got = project.run_inside(project.folder / "cases", *wanted, "--annotations")
    assert got.code == 1
    assert "FIN004" in names[0].read_text(encoding="utf-8")
    assert names[1].read_text(encoding="utf-8").startswith("## ✗ harness: FAILED")
    assert json.loads(names[2].read_text(encoding="utf-8"))["exit_code"] == 1
    assert ElementTree.parse(names[3]).getroot().tag == "testsuite"
    assert "::error file=" in got.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "r.pdf"], "r.pdf ends in .pdf; a result ends in .json; an HTML report ends in .html or .htm"),
        (["-o", "report"], "report has no suffix; a result ends in .json; an HTML report ends in"),
        (["-o", "nowhere/r.html"], "does not exist"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_the_work(project: Project, words: list[str], message: str) -> None:
    project.case("c")
    got = project.run_inside(project.folder / "cases", *words)
    assert got.code == 4
    assert message in got.err
    assert "passed" not in got.out


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["--to", "markdown"], "## ✓ harness: PASSED"),
        (["--to", "html"], "<!doctype html>"),
        (["--to", "json"], "{"),
        ([], ""),
    ],
)
def test_a_stored_result_is_drawn_again(project: Project, two: tuple[Path, Path], words: list[str], start: str) -> None:
    got = project.inside("report", two[0], *words)
    assert got.code == 0
    assert got.out.startswith(start)
    assert "50.0" in got.out or "markdown" in words


def test_a_report_needs_no_mlx(two: tuple[Path, Path]) -> None:
    code = (
        "import sys\n"
        "for name in ('mlx', 'mlx.core', 'mlx_lm', 'transformers'): sys.modules[name] = None\n"
        "from harness.cli import exit_code_of\n"
        "sys.exit(exit_code_of(sys.argv[1:]))\n"
    )
    for words in (["report", two[0], "--to", "html"], ["report", two[0]], ["compare", *two]):
        done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["missing.json", "text.json", "half.json"])
def test_what_is_no_result_is_refused(project: Project, two: tuple[Path, Path], name: str) -> None:
    project.write("text.json", "hello")
    project.write("half.json", two[0].read_text()[:200])
    for words in (["report", project.folder / name], ["compare", two[0], project.folder / name]):
        got = project.inside(*words)
        assert (got.code, got.out) == (4, "")
        assert name in got.err


def test_a_report_never_overwrites_the_result_it_reads(project: Project, two: tuple[Path, Path]) -> None:
    before = two[0].read_bytes()
    assert project.inside("report", two[0], "-o", two[0]).code == 4
    assert two[0].read_bytes() == before


def compared(project: Project, two: tuple[Path, Path], *words: str | Path) -> Outcome:
    return project.inside("compare", *two, *words)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 0),
        (["--fail-on", "recovery=2.9"], 1),
        (["--fail-on", "recovery=3.1,rank=0.5"], 0),
        (["--fail-on", "none"], 0),
        (["--fail-on", "recoverry=1"], 4),
        (["--engines", "native", "legacy"], 4),
        (["-o", "c.html"], 4),
    ],
)
def test_the_limits_decide_the_exit_code(project: Project, two: tuple[Path, Path], words: list[str], code: int) -> None:
    assert compared(project, two, *words).code == code


def test_the_comparison_on_paper(project: Project, two: tuple[Path, Path]) -> None:
    paper, data = project.folder / "c.md", project.folder / "c.json"
    compared(project, two, "-o", paper, "-o", data, "--fail-on", "recovery=1")
    assert "-3 points at layer 1 mlp\\_out" in paper.read_text(encoding="utf-8")
    plain = json.loads(data.read_text(encoding="utf-8"))
    assert plain["jobs"][0]["curves"][0]["cells"][0]["points"] == -3.0
    assert [each["limit"] for each in plain["breaches"]] == ["recovery"]


RAN = job(curves=(curve(10.0, 50.0),))


@pytest.mark.parametrize(
    ("new", "words", "code", "start"),
    [
        (RAN, [], 0, "within the limits: 0 of 1 job differs"),
        (job("other"), [], 5, "nothing compared: no job is in both"),
        (job("other"), ["--fail-on", "none"], 5, "nothing compared: no job is in both"),
        (job(status=Status.CRASHED), ["--fail-on", "recovery=0.5,rank=0.9"], 1, "3 differences beyond the limits: "),
        (job(status=Status.CRASHED), ["--fail-on", "none"], 0, "within the limits: 1 of 1 job differs"),
        (job(status=Status.SKIPPED), ["--fail-on", "none"], 5, "nothing compared: every job in both is skipped"),
    ],
    ids=["same", "apart", "apart-none", "crashed", "crashed-none", "skipped-none"],
)
def test_the_last_line_of_a_comparison_agrees_with_the_code(
    project: Project, new: JobResult, words: list[str], code: int, start: str
) -> None:
    one, other = stored(project.folder, "a.json", run(RAN)), stored(project.folder, "b.json", run(new))
    data = project.folder / "c.json"
    got = project.inside("compare", one, other, *words, "-o", data)
    paper = project.inside("compare", one, other, *words, "--markdown")
    plain = json.loads(data.read_text(encoding="utf-8"))
    assert (got.code, paper.code, plain["exit_code"]) == (code, code, code)
    assert got.out.splitlines()[-1].startswith(start)
    assert paper.out.startswith(f"## harness compare: {start}")


LATER = Finding("ZZZ999", "seen by a later version")


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (job(curves=RAN.curves, findings=(LATER,)), 0),
        (job(curves=RAN.curves, findings=(replace(LATER, expected=True),), status=Status.FAILED), 1),
        (job(curves=RAN.curves, findings=(LATER,), status=Status.FAILED), 1),
    ],
    ids=["a-warning", "expected", "an-error"],
)
def test_a_finding_of_a_later_version_is_compared_and_drawn(project: Project, new: JobResult, code: int) -> None:
    one = stored(project.folder, "a.json", run(RAN, shard="1/1"))
    other = stored(project.folder, "b.json", run(new, shard="1/1"))
    got = project.inside("compare", one, other)
    assert (got.code, got.err) == (code, "")
    assert "+ZZZ999" in got.out
    back = project.inside("compare", other, one)
    assert (back.code, back.err) == (0, "")
    for words in (["report"], ["report", "--to", "html"], ["report", "--to", "markdown"], ["report", "--to", "json"],
                  ["report", "--to", "annotations"], ["replay"]):  # fmt: skip
        drawn = project.inside(words[0], other, *words[1:])
        assert (drawn.code, drawn.err) == (0, ""), words
    whole = project.inside("merge", other)
    assert (whole.code, whole.err) == (code, "")
    assert project.inside("explain", "ZZZ999").code == 4


def test_both_sides_are_read_in_compare(project: Project, two: tuple[Path, Path]) -> None:
    timed = job(curves=RAN.curves, timings={"sweep_s": 2.5})
    good = stored(project.folder, "good.json", run(timed))
    text = good.read_text(encoding="utf-8")
    bad = project.write("bad.json", text.replace('"sweep_s": 2.5', '"sweep_s": NaN'))
    for pair in ((good, bad), (bad, good)):
        got = project.inside("compare", *pair, "--fail-on", "time=1.1")
        assert (got.code, got.out) == (4, "")
        assert "bad.json is not a result of `harness run --json`: expected value at line " in got.err
    assert project.inside("compare", good, good, "--fail-on", "time=1.1").code == 0


def test_numbers_beyond_the_floats_are_null_in_the_json(project: Project) -> None:
    one = stored(project.folder, "a.json", run(job(curves=(curve(1.7e308, 1.0, baseline=0.0),))))
    other = stored(project.folder, "b.json", run(job(curves=(curve(-1.7e308, 1.0, baseline=1.0),))))
    data = project.folder / "c.json"
    assert project.inside("compare", one, other, "-o", data, "--fail-on", "recovery=1e300").code == 1
    (change,) = json.loads(data.read_text(encoding="utf-8"), parse_constant=pytest.fail)["jobs"][0]["curves"]
    assert (change["baseline_relative"], change["cells"][0]["points"]) == (None, None)


def test_two_runs_with_nothing_in_common_are_no_success(project: Project) -> None:
    one = stored(project.folder, "a.json", run(job("a")))
    other = stored(project.folder, "b.json", run(job("b")))
    got = project.inside("compare", one, other, "--fail-on", "none")
    assert got.code == 5
    assert "no job is in both" in got.err


@pytest.mark.slow
def test_two_versions_of_mlx_differ_where_a_float16_sum_is_taken(project: Project, tmp_path: Path) -> None:
    """mlx 0.32.2 stalls in a float16 sum, 0.32.3 and later overflow: `legacy` shows it, `native` does not."""
    old = tmp_path / "old"
    wheels = ["mlx==0.32.2", *(["mlx-cpu==0.32.2"] if sys.platform == "linux" else [])]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", old, *wheels],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"mlx 0.32.2 cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    project.case("c", models="wide", engines="native, legacy", more="metrics: [l2, mse]\n")
    files = []
    for name, path in (("old.json", {"PYTHONPATH": str(old)}), ("new.json", {})):
        assert project.run("cases", **path).result is not None
        files.append((project.folder / "result.json").rename(project.folder / name))
    both = json.loads(files[0].read_text())["environment"]["packages"]["mlx"]
    assert both == "0.32.2"
    legacy = project.inside("compare", *files, "--engines", "legacy", "legacy")
    native = project.inside("compare", *files, "--engines", "native", "native")
    assert legacy.code == 1
    assert "mlp l2 baseline" in legacy.out
    assert "is now inf" in legacy.out
    assert native.code == 0
    assert "0 of 1 job differs" in native.out
