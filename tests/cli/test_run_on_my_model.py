"""`harness run --model PATH`: the cases, asked of a model that they do not name."""

from __future__ import annotations

import pytest
from project import Project
from saved_model import save_model

MORE = "expect: {finite: true, recoveries: [{component: mlp, layer: 0, metric: l2, value: 50, within: 1}]}\n"


@pytest.fixture
def cases(project: Project) -> Project:
    """Two cases in ids, one of them with a number of its own model, and one of more layers than a miniature has."""
    save_model(project.folder / "My Llama")
    for name, more in (("first", MORE), ("second", "xfail: a reason\n")):
        project.case(name, more=more).write_text(
            project.case(name, more=more).read_text().replace('"a"', "[1, 2, 3]").replace('"b"', "[1, 4, 3]")
        )
    return project


def test_the_cases_run_on_a_folder_and_state_nothing_of_its_numbers(cases: Project) -> None:
    got = cases.run_inside("--model", "./My Llama")
    assert (got.code, got.statuses) == (0, {"first[native@my-llama]": "passed", "second[native@my-llama]": "passed"})
    assert got.result is not None
    assert all("any snapshot: ./My Llama is not a model of the case" in job.not_compared for job in got.result.jobs)
    assert {job.card.architecture for job in got.result.jobs if job.card} == {"llama"}


def test_nothing_is_stored_of_it_and_that_is_said(cases: Project) -> None:
    got = cases.run_inside("--model", "My Llama", "--snapshot-update")
    assert got.code == 0
    assert cases.snapshots == {}
    assert "2 jobs were compared with no snapshot" in got.out


def test_a_model_of_the_table_that_no_case_names_is_asked_as_well(cases: Project) -> None:
    got = cases.run_inside("-m", "llama-2k-f32", "cases/first.case.yaml")
    assert got.statuses == {"first[native@llama-2k-f32]": "passed"}


def test_an_id_that_a_case_names_chooses_and_adds_nothing(project: Project) -> None:
    project.case("one", models="good")
    project.case("two", models="other")
    assert project.run_inside("-m", "other").statuses == {"two[native@other]": "passed"}
    assert project.run_inside("-m", "oth*").statuses == {"two[native@other]": "passed"}


def test_what_does_not_fit_the_model_is_said_and_does_not_fail(cases: Project) -> None:
    cases.write("cases/deep.case.yaml", "models: [good]\nprompts: {clean: [1, 2], corrupted: [1, 3]}\n"
                "sweep: {components: [mlp], layers: [0, 90]}\n")  # fmt: skip
    cases.case("text")
    got = cases.run_inside("-m", "My Llama", "--require-models")
    assert (got.code, got.statuses["deep[native@my-llama]"], got.statuses["text[native@my-llama]"]) == (
        0, "skipped", "skipped"
    )  # fmt: skip
    assert "not applicable: layer 90 does not exist" in got.out
    assert "not applicable: " in got.out.split("text[native@my-llama]", 1)[1]


def test_nothing_that_fits_is_no_pass(project: Project) -> None:
    save_model(project.folder / "mine")
    project.case("text")
    assert project.run_inside("-m", "./mine").code == 5


def test_workers_plan_the_same(cases: Project) -> None:
    got = cases.run_inside("-m", "./My Llama", "-n", "2")
    assert (got.code, set(got.statuses.values())) == (0, {"passed"})


def test_a_repository_without_a_hub_says_how_it_would_come(cases: Project) -> None:
    got = cases.run_inside("-m", "some/Model", "cases/first.case.yaml")
    assert got.code == 5
    assert "first[native@some--model] skipped" in got.out
    assert "harness models fetch some/Model" in " ".join(got.out.split())
    fetched = cases.inside("models", "fetch", "some/Model")
    assert (fetched.code, "some/Model at main cannot be downloaded" in fetched.err + fetched.out) == (5, True)


@pytest.mark.parametrize("name", ["./nowhere", "cases/first.case.yaml", "a/b/c"])
def test_a_path_to_no_model_is_refused(cases: Project, name: str) -> None:
    got = cases.run_inside("-m", name)
    assert (got.code, "is neither a model, a folder nor a repository" in got.err) == (4, True)


def test_a_failure_is_repeated_on_the_same_folder(cases: Project) -> None:
    cases.case("wrong", engines="legacy").write_text(
        "models: [good]\nprompts: {clean: [1, 2], corrupted: [1, 2]}\nsweep: {components: [mlp]}\n"
    )
    got = cases.run_inside("-m", "./My Llama", "cases/wrong.case.yaml")
    assert got.code == 1
    assert "harness run cases/wrong.case.yaml --engine native --model './My Llama'" in got.out


def test_what_show_takes_run_takes(cases: Project) -> None:
    for command in (["show", "first"], ["list"], ["snapshots", "status"]):
        got = cases.inside(*command, "-m", "./My Llama", *(["--models", "m.yaml"]))
        assert "my-llama" in got.out, (command, got)


def test_two_folders_and_a_row_of_one_name_are_told_apart(cases: Project) -> None:
    save_model(cases.folder / "good")
    got = cases.run_inside("-m", "./good", "cases/first.case.yaml")
    assert got.statuses == {"first[native@good-given]": "passed"}


def test_the_old_meaning_of_m_is_understood_with_a_note(project: Project) -> None:
    project.case("one", more="tags: [quick]\n")
    project.case("two")
    got = project.run_inside("-m", "quick")
    assert got.statuses == {"one[native@good]": "passed"}
    assert "-m is --model; 'quick' was read as --marks" in got.err
    assert project.run_inside("-m", "not quick").statuses == {"two[native@good]": "passed"}
    assert project.run_inside("--marks", "not quick").err == ""
