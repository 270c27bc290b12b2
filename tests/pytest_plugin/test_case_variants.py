"""Cases that vary, skip, or are expected to fail, through both doors: names of jobs and of snapshots, and verdicts."""

from __future__ import annotations

import pytest
from project import HERE, Project

VARIED = """\
matrix:
  direction: [denoising, noising]
  prompts_of: {one: {}, two: {prompts: {corrupted: c}}}
"""
NAMES = ["denoising.one", "denoising.two", "noising.one", "noising.two"]


@pytest.mark.parametrize(("door", "workers"), [("run", "0"), ("run", "2"), ("pytest", "0")])
def test_every_variant_is_a_job_and_has_a_snapshot_of_its_own(project: Project, door: str, workers: str) -> None:
    project.case("v", models="good, other", more=VARIED)
    ids = {f"v.{name}[native@{model}]": "passed" for name in NAMES for model in ("good", "other")}
    stored = project.run("--snapshot-update", door=door)
    assert (stored.code, stored.statuses) == (0, ids)
    files = {f"snapshots/v/{name}~native@{model}.{HERE}.json" for name in NAMES for model in ("good", "other")}
    assert set(project.snapshots) == files
    again = project.run("-n", workers, door=door)
    assert (again.code, again.statuses, again.codes) == (0, ids, set())


def test_a_variant_that_moves_is_the_one_that_is_named(project: Project) -> None:
    project.case("v", more=VARIED)
    assert project.run_inside("--snapshot-update").code == 0
    file = project.folder / "snapshots" / "v" / f"noising.two~native@good.{HERE}.json"
    (project.folder / "snapshots" / "v" / f"noising.one~native@good.{HERE}.json").replace(file)
    got = project.run_inside()
    assert got.code == 1
    assert got.statuses["v.noising.two[native@good]"] == "failed"
    assert got.statuses["v.denoising.two[native@good]"] == "passed"


def test_two_files_whose_variants_share_an_id_are_refused(project: Project) -> None:
    project.case("v", more=VARIED)
    project.case("v.noising.one")
    got = project.run_inside()
    assert got.code == 4
    assert "have the same id 'v.noising.one'" in got.err


def test_a_skip_of_the_case_is_no_missing_model(project: Project) -> None:
    project.case("a", models="good, other", more="skip: [{reason: too slow, model: other}]\n")
    got = project.run_inside("--require-models")
    assert (got.code, got.statuses) == (0, {"a[native@good]": "passed", "a[native@other]": "skipped"})
    assert "skipped: the case says: too slow" in got.out
    project.case("b", models="absent")
    assert project.run_inside("--require-models").code == 1


def test_when_every_job_is_skipped_nothing_ran(project: Project) -> None:
    project.case("a", more="skip: not now\n")
    assert project.run_inside().code == 5


@pytest.mark.parametrize("door", ["run", "pytest"])
def test_an_expected_failure_passes_and_says_so_and_an_unexpected_pass_fails(project: Project, door: str) -> None:
    project.case("a", models="nan", more="xfail: the logits hold a NaN\n")
    got = project.run(door=door)
    assert (got.code, got.statuses, got.codes) == (0, {"a[native@nan]": "passed"}, set())
    assert "as expected, this job fails: the logits hold a NaN" in got.out
    project.case("b", more="xfail: it does not\n")
    got = project.run(door=door)
    assert (got.code, got.codes - {"SNP002"}) == (1, {"XFL001"})
    assert got.statuses == {"a[native@nan]": "passed", "b[native@good]": "failed"}


def test_patterns_and_tags_make_the_jobs_of_a_run(project: Project) -> None:
    project.case("a", models="'goo*', 'tag:bench', other")
    project.write("m2.yaml", "models:\n  - {id: mine, source: groundtruth, kind: dial, vocab: 64, weights: [0.5],"
                             " tags: [bench]}\n")  # fmt: skip
    got = project.run_inside("--models", "m2.yaml")
    assert set(got.statuses) == {"a[native@good]", "a[native@mine]", "a[native@other]"}
    assert got.code == 0
    assert "no model has the tag 'bench'" in project.run_inside().err
