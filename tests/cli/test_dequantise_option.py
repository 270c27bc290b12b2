"""`--dequantise`: asked for in every door, one copy a model, and what became of it beside the strategy."""

from __future__ import annotations

import gc
import json

import pytest
from project import Project

from harness.jobs import run as jobs
from harness.results.json import dump_job, load_job
from harness.support import blas

pytestmark = pytest.mark.on_cpu("there is nothing to gain from a copy in float32")


@pytest.fixture(autouse=True)
def _another_blas(monkeypatch):
    monkeypatch.setattr(blas, "is_reference", lambda: False)


TABLE = """\
models:
  - {id: q4, source: synthetic, architecture: llama, vocab: 512, layers: 3, quantize: 4bit}
  - {id: plain, source: synthetic, architecture: llama, vocab: 512, layers: 3}
"""
CASE = """\
models: [q4, plain]
engines: [native, legacy]
prompts: {clean: [3, 5, 7, 11], corrupted: [4, 5, 7, 12]}
sweep: {components: [%s]}
metrics: [l2]
checks: [finiteness, oracle, laws]
"""
DOORS = {"run": "--dequantise", "pytest": "--harness-dequantise"}


@pytest.fixture
def two_cases(project: Project):
    project.write("m.yaml", TABLE)
    for component in ("attn_out", "mlp_out"):
        project.write(f"cases/{component}.case.yaml", CASE % component)
    return project


def recoveries(result):
    return {job.id: [cell.recovery.value for cell in job.curves[0].cells] for job in result.jobs}


@pytest.mark.parametrize("door", DOORS)
def test_both_doors_make_one_copy_a_model_and_say_so(two_cases, made, door):
    plain = two_cases.through(door)
    assert plain.code == 0, plain.out
    assert {job.dequantised for job in plain.result.jobs} == {None}
    assert not any("dequantise_s" in job.timings for job in plain.result.jobs)
    assert made == []
    given = two_cases.through(door, f"{DOORS[door]}=auto", "-v")
    assert given.code == 0, given.out
    assert len(made) == 1
    said = {job.id: job.dequantised for job in given.result.jobs}
    for component in ("attn_out", "mlp_out"):
        assert said[f"{component}[native@q4]"].used
        assert said[f"{component}[legacy@q4]"].refused == "the engine is legacy, and only native is given a copy"
        assert said[f"{component}[native@plain]"] is said[f"{component}[legacy@plain]"] is None
    assert {job.card.quantization for job in given.result.jobs if job.model == "q4"} == {"4-bit, group 32"}
    before, after = recoveries(plain.result), recoveries(given.result)
    assert before.keys() == after.keys()
    assert all(one == pytest.approx(after[name], abs=0.05) for name, one in before.items())
    gc.collect()
    assert made[0]() is None, "the copy goes with its model"


def test_run_and_the_html_report_show_it_beside_the_strategy(two_cases):
    given = two_cases.run_inside("--dequantise", "auto", "-v", "-o", "r.html", "-m", "q4")
    shown = " ".join(given.out.split())
    assert (
        "attn_out[native@q4] and 1 more went one-pass, on a float32 copy of the weights (0.705 MB; unpatched logits"
        in shown
    )
    assert "went one-pass, not dequantised: the engine is legacy, and only native is given a copy" in shown
    page = (two_cases.folder / "r.html").read_text()
    assert "one-pass, on a float32 copy of the weights (0.705 MB" in page
    assert "dequantised" not in two_cases.run_inside("--dequantise", "auto", "-m", "q4").out


def test_parts_put_together_keep_what_is_said(two_cases):
    for part in ("1/2", "2/2"):
        ran = two_cases.run_inside("--dequantise", "auto", "--shard", part, "-e", "native")
        assert ran.code == 0, ran.out
        (two_cases.folder / "result.json").rename(two_cases.folder / f"{part[0]}.json")
    assert two_cases.inside("merge", "1.json", "2.json", "--json", "all.json").code == 0
    merged = json.loads((two_cases.folder / "all.json").read_text())["jobs"]
    assert [bool(job["dequantised"]) for job in merged] == [job["model"] == "q4" for job in merged]
    assert {job["dequantised"]["bytes"] for job in merged if job["dequantised"]} == {4 * (2 * 512 * 64 + 3 * 36_864)}
    assert two_cases.inside("compare", "all.json", "all.json").code == 0
    assert two_cases.inside("report", "all.json", "-o", "all.html").code == 0
    assert "float32 copy" in (two_cases.folder / "all.html").read_text()
    for job in merged:
        assert dump_job(load_job(job)) == job


def test_a_tap_that_is_left_on_the_copy_is_found_and_the_copy_is_not_used_again(two_cases, made, monkeypatch):
    real = jobs.answer

    def leaving(engine, model, question):
        given = real(engine, model, question)
        if model.card.quantization is None and model.card.id == "q4":
            model.module.layers[0].mlp.__class__ = type("Left", (type(model.module.layers[0].mlp),), {})
        return given

    monkeypatch.setattr(jobs, "answer", leaving)
    given = two_cases.run_inside("--dequantise", "auto", "-m", "q4", "-e", "native")
    found = [each.message for job in given.result.jobs for each in job.findings if each.code == "LAW005"]
    assert len(found) == len(made) == 2
    assert "of the float32 copy: module class 'model.layers.0.mlp' changed" in found[0]


PATCH = ("patch", "-m", "q4", "--models", "m.yaml", "--ids", "--clean", "3,5,7,11", "--corrupted", "4,5,7,12")


def test_patch_says_it(two_cases):
    assert "float32" not in two_cases.inside(*PATCH).out
    given = two_cases.inside(*PATCH, "--dequantise", "auto")
    assert "on a float32 copy of the weights (0.705 MB; unpatched logits" in given.out
    refused = two_cases.inside(*PATCH, "--dequantise", "auto", "-e", "legacy")
    assert ", not dequantised: the engine is legacy, and only native is given a copy" in refused.out


@pytest.mark.parametrize(
    "command",
    [("diagnose", "--model", "q4", "--models", "m.yaml", "--clean", "3,5", "--corrupted", "4,5", "--ids"),
     ("conformance", "-e", "native", "--row", "llama")],
    ids=["diagnose", "conformance"],
)  # fmt: skip
def test_who_asks_about_the_quantised_model_has_no_such_option(two_cases, command):
    given = two_cases.inside(*command, "--dequantise", "auto")
    assert given.code == 4
    assert "--dequantise" in given.err
