"""What an adapter does not do costs its own cells and is listed; it fails where it is declared, stated or stored."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

import harness
from harness.cli import exit_code_of
from harness.engines import engine_named
from harness.laws import LAWS
from harness.laws.conformance.matrix import FAIL, PASS, SKIP, row_cells
from harness.laws.conformance.rows import architecture
from harness.results.json import read
from harness.vocabulary.errors import EngineUnavailable

ENGINES = Path(__file__).parents[1] / "laws" / "conformance"
sys.path.insert(0, str(ENGINES))

CASE = """models: [llama-2k-f32]
engines: ["{engine}"]
prompts: {{clean: [1, 2, 3], corrupted: [1, 5, 3]}}
sweep: {{components: [mlp_out, resid_post]}}
metrics: [l2, kl_divergence]
"""
STATED = (
    "expect:\n  recoveries:\n    - {component: resid_post, layer: 0, metric: kl_divergence, value: 100, within: 1}\n"
)
WHY = "this is not done here"


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Run a case on an engine and return its job, and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI", raising=False)
    for name in ("wide.py", "defects.py"):  # a job that runs somebody's code has a process of its own
        shutil.copy(ENGINES / name, tmp_path)

    def run(engine, more="", *options):
        name = engine if ":" in engine else f"wide:{engine}"
        Path("c.case.yaml").write_text(CASE.format(engine=name) + more, encoding="utf-8")
        exit_code_of(["run", "--allow-code", "--json", "out.json", *options, "c.case.yaml"])
        return read(Path("out.json")).jobs[0]

    return run


def answered(job):
    return {(curve.component, curve.metric) for curve in job.curves}


EVERY = {(component, metric) for component in ("mlp_out", "resid_post") for metric in ("l2", "kl_divergence")}
CASES = {
    "refuses_a_pair": ("passed", EVERY - {("resid_post", "kl_divergence")}, ["4 cells of resid_post (kl_divergence)"]),
    "refuses_a_metric": ("failed", {each for each in EVERY if each[1] == "l2"}, ["(kl_div", "(kl_div"]),
    "refuses_a_component": ("failed", {each for each in EVERY if each[0] != "mlp_out"}, ["(l2)", "(kl_divergence)"]),
    "refuses_everything": ("skipped", set(), []),
    "refuses_its_own": ("failed", set(), []),
    "of_another_architecture": ("skipped", set(), []),
    "of_this_architecture": ("passed", EVERY, []),
    "of_one_component": ("passed", {each for each in EVERY if each[0] == "mlp_out"}, ["4 cells of resid_post: "]),
}


QUICK = ("refuses_a_pair", "refuses_a_metric", "refuses_everything", "of_one_component")


@pytest.mark.parametrize(
    "engine", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_what_is_refused_costs_its_own_cells_and_is_listed(job, engine, capsys):
    status, curves, left_out = CASES[engine]
    found = job(engine)
    assert (found.status, answered(found)) == (status, curves)
    assert len(found.not_compared) == len(left_out)
    assert all(part in said for part, said in zip(left_out, found.not_compared, strict=True))
    refused = [finding.message for finding in found.findings if finding.code == "ATR008"]
    assert bool(refused) == (status == "failed")
    assert all(WHY in said for said in refused)
    if status == "skipped":
        assert found.reason in (f"wide:{engine}: {WHY}", f"wide:{engine} does qwen*, not llama")
    printed = " ".join(capsys.readouterr().out.split())
    assert all(f"not compared: {said}" in printed for said in found.not_compared)


@pytest.mark.parametrize("engine", ["refuses_a_pair", "refuses_everything"])
def test_a_refused_value_that_the_case_states_fails(job, engine):
    found = job(engine, STATED)
    assert found.status == "failed"
    held = "the case has expect.recoveries, and the engine refuses"
    assert any(each.code == "ATR008" and each.message.startswith(held) for each in found.findings)
    assert "KNO001" not in {finding.code for finding in found.findings}


def test_a_value_of_what_is_not_declared_is_listed(job):
    """Nobody asked for it: an engine that is added to a case need not have all that the case states."""
    assert job("of_one_component", STATED).status == "passed"


@pytest.mark.parametrize(("engine", "code"), [("refuses_a_pair", "SNP001"), ("refuses_everything", "ATR008")])
def test_a_refused_value_that_is_stored_fails(job, engine, code):
    Path("changing.py").write_text("from wide import of_this_architecture as patch\n", encoding="utf-8")
    assert job("changing:patch", "", "--snapshot-update").status == "passed"
    Path("changing.py").write_text(f"from wide import {engine} as patch\n", encoding="utf-8")
    found = job("changing:patch")
    assert found.status == "failed"
    assert code in {finding.code for finding in found.findings}


ROWS = {
    "refuses_a_pair": (PASS, FAIL),
    "refuses_a_metric": (PASS, FAIL),
    "refuses_a_component": (FAIL, SKIP),
    "refuses_everything": (SKIP, SKIP),
    "refuses_its_own": (FAIL, SKIP),
    "of_another_architecture": (SKIP, SKIP),
    "of_this_architecture": (PASS, PASS),
}


@pytest.mark.parametrize("engine", ROWS)
def test_conformance_fails_what_is_declared_and_skips_what_is_not(engine):
    laws = [LAWS["answers"], LAWS["declared"]]
    cells = list(row_cells(engine_named(f"wide:{engine}", True), architecture("llama"), laws))
    assert tuple(cell.status for cell in cells) == ROWS[engine]
    assert any(WHY in cell.text for cell in cells) == engine.startswith("refuses")


def test_it_is_public_and_one_of_the_tree():
    assert issubclass(harness.Unsupported, EngineUnavailable)
    assert "Unsupported" in dir(harness)


ONE = ("-m", "llama-2k-f32", "--allow-code")


def test_patch_lists_it_and_a_refused_question_runs_nothing(capsys):
    options = ("--ids", "--clean", "1,2,3", "--corrupted", "1,5,3", "-c", "mlp_out", "-c", "resid_post")
    metrics = ("--metric", "l2", "--metric", "kl_divergence")
    assert exit_code_of(["patch", *ONE, *options, *metrics, "-e", "wide:refuses_a_pair"]) == 0
    assert f"not answered: 4 cells of resid_post (kl_divergence): wide:refuses_a_pair: {WHY}" in " ".join(
        capsys.readouterr().out.split()
    )
    assert exit_code_of(["patch", *ONE, *options, *metrics, "-e", "wide:refuses_everything"]) == 5


@pytest.mark.parametrize(
    ("engine", "code"),
    [
        ("refuses_everything", 5), ("logit_diff_only", 0), ("kl_only", 0), ("noising_only", 0), ("grids_only", 0),
        ("heads_only", 0),
    ],
)  # fmt: skip
def test_diagnose_asks_an_engine_what_it_does(engine, code, capsys):
    options = ("--clean-ids", "1,2,3", "--corrupted-ids", "1,5,3", "-e", f"wide:{engine}")
    assert exit_code_of(["diagnose", *ONE, *options]) == code
    printed = capsys.readouterr()
    assert WHY in printed.err if code else "No fault found" in printed.out
