"""The table of filters: what each selects, what it refuses, and that every field of a selection has a row."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from harness.jobs.choosing import chosen_from, jobs_of
from harness.jobs.planning import Job
from harness.jobs.selection import OPTIONS, PlannedRun, Selection, SelectionOption
from harness.vocabulary.errors import UsageError

MODELS = """\
models:
  - {id: small, source: groundtruth, kind: dial, vocab: 64, weights: [0.5], tags: [quick]}
  - {id: large, source: groundtruth, kind: dial, vocab: 128, weights: [0.5]}
"""
CASES = {
    "alpha": "models: [small, large]\nengines: [native]\nmetrics: [l2]\nsweep: {components: [mlp]}\ntags: [fast]\n",
    "beta": "models: [large]\nengines: [legacy]\nmetrics: [l2, mse]\nsweep: {components: [mlp, resid_post]}\n",
}
PROMPTS = "prompts: {clean: a, corrupted: b}\n"
FILTERS = {row.field: row for row in OPTIONS if row.of}
ALPHA, OTHER, BETA = "alpha[native@small]", "alpha[native@large]", "beta[legacy@large]"

# filter -> a name, and the jobs that have it
HAS = {
    "models": ("large", {OTHER, BETA}),
    "engines": ("native", {ALPHA, OTHER}),
    "tags": ("quick", {ALPHA}),
    "metrics": ("mse", {BETA}),
    "components": ("mlp", {ALPHA, OTHER, BETA}),
    "ids": (OTHER, {OTHER}),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text(MODELS, encoding="utf-8")
    for name, text in CASES.items():
        (tmp_path / f"{name}.case.yaml").write_text(text + PROMPTS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def jobs(folder: Path) -> list[Job]:
    return jobs_of(everything())


def everything() -> Selection:
    return Selection(paths=(Path(),), tables=("m.yaml",))


def ids(jobs: list[Job]) -> set[str]:
    return {job.id for job in jobs}


def test_every_field_has_a_row_and_every_filter_is_tried_here() -> None:
    assert [row.field for row in OPTIONS] == [field.name for field in fields(Selection)]
    assert FILTERS.keys() == HAS.keys()


@pytest.mark.parametrize("field", FILTERS)
def test_a_filter_leaves_the_jobs_that_have_the_name(jobs: list[Job], field: str) -> None:
    name, left = HAS[field]
    assert ids(chosen_from(jobs, Selection(**{field: (name,)}))) == left


@pytest.mark.parametrize("row", FILTERS.values(), ids=FILTERS)
def test_an_unknown_name_is_refused_with_the_nearest(jobs: list[Job], row: SelectionOption) -> None:
    name, _ = HAS[row.field]
    with pytest.raises(UsageError) as caught:
        chosen_from(jobs, Selection(**{row.field: (name, f"{name}x")}))
    assert str(caught.value).startswith(f"no {row.owner} has the {row.noun} '{name}x'; did you mean {name!r}?")


@pytest.mark.parametrize(
    ("selection", "asked"),
    [
        (Selection(models=("small",), engines=("legacy",)), "--model small, --engine legacy"),
        (Selection(engines=("legacy",), tags=("fast", "quick")), "--engine legacy, --tag fast or quick"),
        (Selection(models=("small",), metrics=("mse",)), "--model small, --metric mse"),
        (Selection(tags=("fast",), components=("resid_post",)), "--tag fast, --component resid_post"),
    ],
    ids=["model-engine", "engine-tag", "model-metric", "tag-component"],
)
def test_filters_that_exclude_each_other_are_named(jobs: list[Job], selection: Selection, asked: str) -> None:
    with pytest.raises(UsageError) as caught:
        chosen_from(jobs, selection)
    assert str(caught.value) == f"no job has {asked} together; `harness list` shows which has what"


def test_an_id_that_another_filter_leaves_out_is_refused(jobs: list[Job]) -> None:
    with pytest.raises(UsageError) as caught:
        chosen_from(jobs, Selection(models=("large",), ids=(ALPHA, OTHER)))
    assert str(caught.value) == f"no selected job has the id {ALPHA!r}; did you mean {OTHER!r}?"


def test_filters_hold_together_and_names_of_one_are_alternatives(jobs: list[Job]) -> None:
    assert ids(chosen_from(jobs, Selection(models=("small", "large"), engines=("native",)))) == {ALPHA, OTHER}
    assert ids(chosen_from(jobs, Selection(models=("large",), engines=("native",)))) == {OTHER}


def test_a_metric_and_a_component_leave_a_part_of_each_job(jobs: list[Job]) -> None:
    (job,) = chosen_from(jobs, Selection(engines=("legacy",), metrics=("mse",), components=("mlp",)))
    assert (job.case.metrics, job.case.sweep.components) == (("mse",), ("mlp",))


def test_an_engine_asked_in_addition_is_planned_and_can_be_filtered_by(folder: Path) -> None:
    selection = Selection(paths=(Path("alpha.case.yaml"),), tables=("m.yaml",), also=("published",))
    assert ids(jobs_of(selection)) == {ALPHA, OTHER, "alpha[published@small]", "alpha[published@large]"}


def test_a_planned_run_names_the_chosen_jobs_and_knows_a_file_by_its_whole_path(jobs: list[Job], folder: Path) -> None:
    run = PlannedRun(everything(), jobs, [job for job in jobs if job.id == OTHER])
    assert run.selection.ids == (OTHER,)
    assert run.files == (Path("alpha.case.yaml"),)
    file = folder / "alpha.case.yaml"
    assert [(job.id, job.case.path) for job in run.jobs_of(file)] == [(ALPHA, file), (OTHER, file)]
    assert run.jobs_of(folder / "gamma.case.yaml") == []


def test_the_place_in_the_file_survives_the_whole_path(jobs: list[Job], folder: Path) -> None:
    """Reports point at a line of the case file, wherever the command named it from."""
    text = (folder / "alpha.case.yaml").read_text(encoding="utf-8")
    (folder / "alpha.case.yaml").write_text(f"about: first line\n{text}", encoding="utf-8")
    planned = jobs_of(everything())
    moved, *_ = PlannedRun(everything(), planned, planned).jobs_of(folder / "alpha.case.yaml")
    assert moved.case.line_of("models") == 2
