"""Runs of a part of the jobs: shards and their merge, what failed last, one job, and what a gate may demand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from project import Outcome, Project

from harness.environment import facts as environment
from harness.results.json import dump_job, read
from harness.vocabulary.backends import CPU, CPU_ARM64, CUDA, METAL


@pytest.fixture
def six(project: Project) -> Project:
    """Two cases on four models; `nan` fails, `absent` is skipped."""
    project.case("a", models="good, nan, absent")
    project.case("b", models="other, good", engines="native, published")
    return project


def shards(project: Project, count: int, door: str = "run", *args: str) -> list[Path]:
    option = "--shard={}" if door == "run" else "--harness-shard={}"
    files = []
    for number in range(1, count + 1):
        project.through(door, option.format(f"{number}/{count}"), *args)
        files.append((project.folder / "result.json").rename(project.folder / f"{number}.json"))
    return files


def merge(project: Project, *files: Path | str, args: tuple[str, ...] = ()) -> Outcome:
    return project.inside("merge", *files, "--json", project.folder / "result.json", *args)


def comparable(file: Path) -> dict[str, object]:
    """A result without what differs from run to run: when, how long, and how long each step took."""
    run = json.loads(file.read_text(encoding="utf-8"))
    for job in run["jobs"]:
        job["timings"] = job["memory"] = None
    return {**run, "started": None, "duration_s": None}


@pytest.mark.parametrize(("door", "count"), [("run", 1), ("run", 8), ("pytest", 3)])
def test_shards_merged_equal_the_whole_run(six: Project, door: str, count: int) -> None:
    whole = six.through(door)
    expected = comparable(six.folder / "result.json")
    got = merge(six, *reversed(shards(six, count, door)))
    assert comparable(six.folder / "result.json") == expected
    assert (got.code, whole.code) == (1, 1)
    assert "FAILED: 5 passed, 1 failed, 1 skipped" in got.out


@pytest.mark.slow
def test_shards_over_two_workers(six: Project) -> None:
    six.run_inside()
    expected = comparable(six.folder / "result.json")
    files = []
    for number in (1, 2):
        six.run("--shard", f"{number}/2", "-n", "2")
        files.append((six.folder / "result.json").rename(six.folder / f"{number}.json"))
    merge(six, *files)
    assert comparable(six.folder / "result.json") == expected


def test_a_shard_without_jobs_says_so_and_is_still_merged(project: Project) -> None:
    project.case("c")
    got = project.run_inside("--shard", "2/2")
    assert (got.code, got.statuses) == (5, {})
    assert "none of the 1 job planned falls to shard 2/2" in got.out
    assert got.result is not None
    assert got.result.planned == ("c[native@good]",)
    assert merge(project, *shards(project, 2)).code == 0


@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize("text", ["0/3", "4/3", "x"])
def test_what_is_no_shard_is_refused(project: Project, door: str, text: str) -> None:
    project.case("c")
    got = project.through(door, f"--shard={text}" if door == "run" else f"--harness-shard={text}")
    assert (got.code, got.result) == (4, None)
    assert f"--shard {text}: expected I/N" in got.out + got.err


def test_a_missing_shard_is_named_and_nothing_is_written(six: Project) -> None:
    first, _, third = shards(six, 3)
    got = merge(six, first, third)
    assert (got.code, got.result) == (4, None)
    assert "no result of shard 2/3" in got.err


def test_shards_of_different_selections_are_refused(six: Project) -> None:
    first, second = shards(six, 2)
    six.run_inside("--shard", "2/2", "-k", "good")
    (six.folder / "result.json").rename(second)
    got = merge(six, first, second)
    assert got.code == 4
    assert "cut from different runs" in got.err


@pytest.mark.parametrize("changed", ["prompts", "direction", "positions", "--metric", "the models table", "the folder"])
def test_shards_that_ask_otherwise_are_refused(project: Project, changed: str) -> None:
    text = "  direction: denoising\n  positions: all\nmetrics: [l2, mse]\n"
    case = project.case("a", models="good, other", component="mlp", more="")
    case.write_text(case.read_text().replace("sweep: {components: [mlp]}\n", f"sweep:\n  components: [mlp]\n{text}"))
    first, second = shards(project, 2)
    told = case.read_text()
    changes = {"prompts": ('corrupted: "b"', 'corrupted: "a"'), "direction": ("denoising", "noising"),
               "positions": ("positions: all", "positions: last")}  # fmt: skip
    case.write_text(told.replace(*changes.get(changed, ("", ""))))
    if changed == "the models table":
        project.write("m.yaml", (project.folder / "m.yaml").read_text().replace("weights: [0.5]", "weights: [0.75]"))
    if changed == "the folder":
        case.parent.rename(project.folder / "elsewhere")
        project.run_inside("--shard", "2/2", project.folder / "elsewhere")
    else:
        project.run_inside("--shard", "2/2", *(["--metric", "l2"] if changed == "--metric" else []))
    (project.folder / "result.json").rename(second)
    got = merge(project, first, second)
    if changed == "the folder":
        assert got.code == 0
        return
    assert (got.code, got.result) == (4, None)
    assert "cut from different runs: they ask a[native@" in got.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "is not a result of"),
        ("half", "is not a result of"),
        (None, "does not exist"),
        ("schema", "this version reads"),
    ],
    ids=["empty", "half", "missing", "schema"],
)
def test_what_is_no_result_is_refused_by_name(six: Project, content: str | None, said: str) -> None:
    first, second = shards(six, 2)
    if content == "schema":
        content = second.read_text().replace("mlx-patch-harness/result/1", "mlx-patch-harness/result/0")
    second.unlink() if content is None else second.write_text(content)
    got = merge(six, first, second)
    assert (got.code, got.result) == (4, None)
    assert f"{second}" in got.err
    assert said in got.err


def test_merge_writes_over_none_of_the_shards(six: Project) -> None:
    files = shards(six, 2)
    before = files[0].read_bytes()
    got = six.inside("merge", *files, "-o", files[0])
    assert (got.code, files[0].read_bytes()) == (4, before)


def test_merge_demands_jobs_too(six: Project) -> None:
    files = shards(six, 2)
    assert "6 jobs ran" not in merge(six, *files, args=("--min-jobs", "6")).out
    got = merge(six, *files, args=("--min-jobs", "7"))
    assert got.code == 1
    assert "6 jobs ran, and at least 7 had to (--min-jobs)" in got.out


# -- what failed last ------------------------------------------------------------------------------------------------


def test_failed_runs_what_failed_last_time(six: Project) -> None:
    assert six.run_inside().code == 1
    assert six.run_inside("--failed").statuses == {"a[native@nan]": "failed"}
    six.case("a", models="good, nan, absent", engines="published")
    got = six.run_inside("--failed")
    assert (got.code, got.result) == (5, None)
    assert "not selected now: a[native@nan]" in got.err


def test_failed_takes_what_the_last_run_did_not_reach(six: Project) -> None:
    assert set(six.run_inside("-x").statuses) == {
        "a[native@good]",
        "b[native@good]",
        "b[published@good]",
        "a[native@nan]",
    }
    assert set(six.run_inside("--failed").statuses) == {
        "a[native@nan]", "a[native@absent]", "b[native@other]", "b[published@other]"
    }  # fmt: skip


def test_failed_of_a_named_result_and_of_a_selection(six: Project) -> None:
    six.case("c", models="nan")
    six.run_inside()
    kept = (six.folder / "result.json").rename(six.folder / "kept.json")
    six.run_inside("-m", "good")
    assert set(six.run_inside("--failed-in", kept).statuses) == {"a[native@nan]", "c[native@nan]"}
    assert set(six.run_inside("--failed-in", kept, "cases/c.case.yaml").statuses) == {"c[native@nan]"}


def test_nothing_failed_is_no_pass(project: Project) -> None:
    project.case("c")
    project.run_inside()
    got = project.run_inside("--failed")
    assert (got.code, got.result) == (5, None)
    assert "none of the selected jobs failed" in got.err


def test_failed_without_a_last_run(project: Project) -> None:
    project.case("c")
    got = project.run_inside("--failed")
    assert got.code == 4
    assert "there is no last run here" in got.err


def test_a_last_result_that_cannot_be_read(project: Project) -> None:
    project.case("c")
    project.write("results/last.json", "half")
    assert project.run_inside("--failed").code == 4


def test_the_last_result_is_the_one_asked_for_as_json(six: Project) -> None:
    got = six.run_inside()
    assert got.result == read(six.folder / "results" / "last.json")
    assert [dump_job(job)["id"] for job in got.result.jobs] == sorted(six.result().planned)


def test_one_job_by_its_id(six: Project) -> None:
    assert six.run_inside("--job", "b[native@other]").statuses == {"b[native@other]": "passed"}
    got = six.run_inside("--job", "b[nativ@other]")
    assert (got.code, got.result) == (4, None)
    assert "did you mean 'b[native@other]'?" in got.err


# -- what a gate may demand ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize(("least", "code"), [(1, 0), (2, 1)])
def test_fewer_jobs_than_required_fail(project: Project, door: str, least: int, code: int) -> None:
    project.case("c", models="good, absent")
    got = project.through(door, f"--min-jobs={least}" if door == "run" else f"--harness-min-jobs={least}")
    assert got.code == code
    assert ("1 job ran, and at least 2 had to" in got.out) == bool(code)
    assert got.result is not None
    assert got.result.exit_code == code


@pytest.mark.parametrize(
    ("backend", "wanted", "code"),
    [
        (CPU, "cpu", 0),
        (CPU_ARM64, "cpu", 0),
        (CPU, "gpu", 5),
        (METAL, "gpu", 0),
        (METAL, "cpu", 5),
        (METAL, METAL, 0),
        (METAL, "apple m3", 0),
        (METAL, "M5", 5),
        (CUDA, METAL, 5),
    ],
)
def test_a_required_device(
    project: Project, monkeypatch: pytest.MonkeyPatch, backend: str, wanted: str, code: int
) -> None:
    project.case("c")
    monkeypatch.setattr(environment, "backend", lambda: backend)
    monkeypatch.setattr(environment, "_device_name", lambda: "Apple M3 Max")
    environment.environment.cache_clear()
    try:
        got = project.run_inside("--require-device", wanted)
    finally:
        environment.environment.cache_clear()
    assert got.code == code
    if code:
        assert got.result is None
        assert f"--require-device {wanted}: MLX runs on Apple M3 Max (backend {backend}) here" in got.err
