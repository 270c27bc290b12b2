"""`harness show`: tokens side by side, sites with their modules, jobs with their snapshots; nothing is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from project import HERE, Project

from harness.support.ranges import ranges


def shown(project: Project, *args: str) -> Any:
    got = project.inside("show", *args, "--models", "m.yaml", "--json")
    assert got.code == 0, got.err
    (case,) = json.loads(got.out)
    return case


def words(text: str) -> str:
    return " ".join(text.split())


def test_tokens_are_side_by_side_and_the_difference_is_marked(project: Project) -> None:
    project.write("cases/c.case.yaml", "models: [good]\nprompts: {clean: a b c, corrupted: a d c}\n")
    (model,) = shown(project, "cases/c.case.yaml")["models"]
    assert [each["differs"] for each in model["tokens"]] == [False, True, False]
    assert model["tokens"][1]["clean"] == {"id": 1, "text": "b"}
    assert model["tokens"][1]["corrupted"] == {"id": 3, "text": "d"}
    got = project.inside("show", "cases/c.case.yaml", "--models", "m.yaml")
    assert "1 'b' 1 'd' 3 differs" in words(got.out)


def test_prompts_of_unequal_length_are_shown_with_the_reason(project: Project) -> None:
    project.write("cases/c.case.yaml", "models: [good]\nprompts: {clean: a b, corrupted: a}\n")
    (model,) = shown(project, "cases/c.case.yaml")["models"]
    assert model["tokens"][1] == {"position": 1, "clean": {"id": 1, "text": "b"}, "corrupted": None, "differs": True}
    assert "clean is 2 tokens" in model["problem"]
    assert "clean is 2 tokens" in project.inside("show", "cases/c.case.yaml", "--models", "m.yaml").out


def test_sites_are_modules_by_their_dotted_paths(project: Project) -> None:
    project.case("c", component="mlp, resid_pre")
    (model,) = shown(project, "cases/c.case.yaml")["models"]
    assert model["sites"][0] == {"component": "mlp", "layer": 0, "side": "output", "module": "layers.0.mlp"}
    assert model["sites"][-1] == {"component": "resid_pre", "layer": 1, "side": "input", "module": "layers.1"}
    assert model["cells"] == 4
    got = project.inside("show", "cases/c.case.yaml", "--models", "m.yaml")
    assert "mlp output layers.*.mlp 0-1" in words(got.out)


def test_a_grid_counts_a_cell_for_each_position(project: Project) -> None:
    project.write("cases/c.case.yaml", "models: [good]\nprompts: {clean: a b c, corrupted: a d c}\n"
                  "sweep: {components: [mlp], positions: each}\n")  # fmt: skip
    assert shown(project, "cases/c.case.yaml")["models"][0]["cells"] == 6


def test_heads_are_sites(project: Project) -> None:
    project.write(
        "cases/c.case.yaml", "models: [llama-2k-f32]\nprompts: {clean: a b, corrupted: c b}\nsweep: {components: [z]}\n"
    )
    (model,) = shown(project, "cases/c.case.yaml")["models"]
    assert model["sites"][1]["head"] == 1
    assert model["sites"][1]["module"].endswith("layers.0.self_attn.o_proj")
    assert model["sites"][1]["side"] == "input"


def test_jobs_say_what_they_must_find_and_where_their_snapshot_is(project: Project) -> None:
    project.case("good", engines="native, legacy", more="expect: {engines: {legacy: {findings: [ORC001]}}}\n")
    project.run_inside("--snapshot-update")
    jobs = {job["engine"]: job for job in shown(project, "good")["jobs"]}
    assert (jobs["legacy"]["must_find"], jobs["legacy"]["snapshot"]) == (["ORC001"], None)
    assert jobs["native"]["snapshot"] == str(project.snapshot())
    assert jobs["native"]["stored"] is True


def test_the_snapshot_of_a_variant_is_its_own(project: Project) -> None:
    project.case("v", more="matrix: {direction: [denoising, noising]}\n")
    project.run_inside("--snapshot-update")
    (job,) = shown(project, "v.noising")["jobs"]
    assert Path(job["snapshot"]).name == f"noising~native@good.{HERE}.json"
    assert job["stored"] is True
    assert shown(project, "v.noising")["sweep"]["direction"] == "noising"


def test_every_variant_is_shown(project: Project) -> None:
    project.case("v", more="id: own\nmatrix: {direction: [denoising, noising]}\n")
    for name in ("own", "cases/v.case.yaml"):
        got = project.inside("show", name, "--models", "m.yaml", "--json")
        cases = {case["id"]: case["sweep"]["direction"] for case in json.loads(got.out)}
        assert cases == {"own.denoising": "denoising", "own.noising": "noising"}
        assert all(len(case["jobs"]) == 1 for case in json.loads(got.out))
    missing = project.inside("show", "own.noisin", "--models", "m.yaml")
    assert (missing.code, "did you mean 'own.noising'?" in missing.err) == (4, True)


def test_a_model_that_is_not_here_or_cannot_be_asked_does_not_hide_the_others(project: Project) -> None:
    project.case("c", models="absent, good", component="nope")
    absent, good = shown(project, "cases/c.case.yaml")["models"]
    assert "not in the hub's cache" in absent["problem"]
    assert "'nope' is not a component" in good["problem"]
    assert "tokens" in good


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["god"], "'god' is not a case; did you mean 'good'?"),
        (["cases/god.case.yaml"], "cases/god.case.yaml: does not exist; did you mean 'good.case.yaml'?"),
        (["good", "--model", "othr"], "no case here has the model 'othr'"),
    ],
)
def test_a_mistake_is_named(project: Project, args: list[str], message: str) -> None:
    project.case("good")
    got = project.inside("show", *args, "--models", "m.yaml")
    assert got.code == 4
    assert message in got.err


def test_nothing_is_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.intercept import capture

    monkeypatch.setattr(capture, "forward", lambda *_: pytest.fail("a forward pass"))
    project.case("good")
    assert project.inside("show", "good", "--models", "m.yaml").code == 0


@pytest.mark.parametrize(
    ("numbers", "text"), [([0, 1, 2], "0-2"), ([5], "5"), ([0, 1, 4, 6, 7], "0-1, 4, 6-7"), ([], "")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
