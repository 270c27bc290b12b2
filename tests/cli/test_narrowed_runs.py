"""`run -k -m --metric --component`: what is selected, and that a part is never stored and never compared as a whole."""

from __future__ import annotations

import json

import pytest
from project import ELSEWHERE, Project

from harness.environment import facts as environment

WORKERS = {"alone": (), "n2": ("-n", "2")}


@pytest.fixture
def stored(project: Project) -> Project:
    """A case of two metrics and two components, with its snapshot."""
    project.case("good", component="mlp, resid_post", more="metrics: [l2, mse]\n")
    assert project.run_inside("--snapshot-update").code == 0
    return project


def curves(project: Project, *args: str) -> set[tuple[str, str]]:
    result = project.run_inside(*args).result
    assert result is not None
    return {(curve.component, curve.metric) for job in result.jobs for curve in job.curves}


def test_metrics_and_components_are_narrowed(stored: Project) -> None:
    assert curves(stored) == {(c, m) for c in ("mlp", "resid_post") for m in ("l2", "mse")}
    assert curves(stored, "--metric", "l2") == {("mlp", "l2"), ("resid_post", "l2")}
    assert curves(stored, "--metric", "mse", "--component", "mlp") == {("mlp", "mse")}


@pytest.mark.parametrize("workers", WORKERS)
def test_what_is_left_out_is_not_missing_and_nothing_is_written(stored: Project, workers: str) -> None:
    before = stored.snapshots
    got = stored.run("--metric", "l2", *WORKERS[workers])
    assert (got.code, got.codes) == (0, set())
    assert stored.snapshots == before
    assert not (stored.folder / "results" / "snapshots").exists()


def edit_snapshot(project: Project, metric: str) -> None:
    file = project.snapshot()
    document = json.loads(file.read_text())
    curve = next(each for each in document["curves"] if (each["component"], each["metric"]) == ("mlp", metric))
    curve["recoveries"][0]["value"] += 7
    file.write_text(json.dumps(document))


def test_the_part_is_compared(stored: Project) -> None:
    edit_snapshot(stored, "mse")
    assert stored.run_inside("--metric", "l2").code == 0
    got = stored.run_inside("--metric", "mse")
    assert (got.code, got.codes) == (1, {"SNP001"})
    assert "mlp mse layer 0: 82 -> 75" in " ".join(got.out.split())
    assert stored.run_inside("--component", "resid_post").code == 0


def test_a_snapshot_that_cannot_be_read_or_is_not_there(stored: Project) -> None:
    stored.snapshot().write_text("{")
    assert stored.run_inside("--metric", "l2").codes == {"SNP001"}
    stored.snapshot().unlink()
    assert stored.run_inside("--metric", "l2").codes == {"SNP002"}


def test_another_backend_is_compared_within_the_wide_tolerance(
    stored: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_snapshot(stored, "mse")
    here = environment.environment()
    monkeypatch.setattr(environment, "environment", lambda: here.__class__(**{**vars(here), "backend": ELSEWHERE}))
    assert stored.run_inside("--metric", "l2").codes == set()
    assert stored.run_inside("--metric", "mse").codes == {"SNP001"}
    assert not (stored.folder / "results" / "snapshots").exists()


@pytest.mark.parametrize("workers", WORKERS)
def test_a_part_is_never_stored(stored: Project, workers: str) -> None:
    before = stored.snapshots
    got = stored.run("--metric", "l2", "--snapshot-update", *WORKERS[workers])
    assert got.code == 4
    assert "stores no snapshots" in got.out + got.err
    assert stored.snapshots == before


def test_what_the_case_states_of_the_rest_does_not_fail(project: Project) -> None:
    expect = "expect: {recoveries: [{component: mlp, layer: 0, metric: l2, value: 50, within: 1}]}\n"
    project.case("good", component="mlp, resid_post", more=expect)
    assert project.run_inside("--component", "resid_post").codes == {"SNP002"}


def test_findings_that_belong_to_the_rest_are_not_missed(project: Project) -> None:
    project.case("c", models="wide", engines="legacy", more="expect: {findings: [ORC001], may_find: [FIN004, FIN005, "
                 "ORC002, KNO001]}\n")  # fmt: skip
    assert project.run_inside().code == 0
    assert project.run_inside("--metric", "cosine").codes <= {"SNP002", "HED001"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--metric", "log_prb"], "no case here has the metric 'log_prb'; known: cosine, kl_divergence, l2"),
        (["--component", "mpl"], "no case here has the component 'mpl'; did you mean 'mlp'?"),
        (["--model", "goood"], "no case here has the model 'goood'; did you mean 'good'?"),
        (["--marks", "fst"], "--marks fst: no job has the tag 'fst'; did you mean 'fast'?"),
        (["-m", "fast and not slwo"], "no job has the tag 'slwo'"),
        (["--marks", "good"], "--marks good: tags are meant, and this is a model; --model good selects it"),
        (["--tag", "fast", "--model", "other"], "no job has --model other, --tag fast together; `harness list`"),
        (["--metric", "kl_divergence", "--model", "good"], "no job has --model good, --metric kl_divergence together"),
    ],
)
def test_an_empty_selection_says_what_would_be_right(project: Project, args: list[str], message: str) -> None:
    project.case("a", more="tags: [fast]\n")
    project.case("b", models="other", more="tags: [slow]\nmetrics: [kl_divergence]\n")
    got = project.run_inside(*args)
    assert got.code == 4
    assert message in got.err


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["-m", "fast"], {"a"}),
        (["-m", "not fast"], {"b"}),
        (["-m", "fast or two-words"], {"a", "b"}),
        (["-k", "other and not legacy"], {"b"}),
    ],
)
def test_expressions_over_tags_and_names(project: Project, args: list[str], wanted: set[str]) -> None:
    project.case("a", more="tags: [fast]\n")
    project.case("b", models="other", more="tags: [two-words]\n")
    assert {name.partition("[")[0] for name in project.run_inside(*args).statuses} == wanted


def test_tags_are_marks_of_pytest_with_strict_markers(project: Project) -> None:
    project.case("a", more="tags: [fast, v1.0]\n")
    project.case("b", more="tags: [slow]\n")
    got = project.run("-m", "fast", "--strict-markers", "-Werror", "-n", "2", door="pytest")
    assert (got.code, set(got.statuses)) == (0, {"a[native@good]"})


def test_a_name_that_nothing_matches_is_5_and_says_what_there_is(project: Project) -> None:
    project.case("capital")
    got = project.run_inside("-k", "captal")
    assert got.code == 5
    assert "none of 1 job matches -k 'captal'; did you mean 'capital'?" in got.err
    got = project.run_inside("-k", "xyzzy")
    assert "a name is capital[native@good]; `harness list` shows them all" in got.err


def test_a_name_that_only_skipped_jobs_match_is_not_said_to_match_nothing(project: Project) -> None:
    project.case("capital", models="absent")
    got = project.run_inside("-k", "capital")
    assert (got.code, got.statuses) == (5, {"capital[native@absent]": "skipped"})
    assert "matches -k" not in got.err
