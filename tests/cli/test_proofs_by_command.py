"""What the commands say and do about remembered proofs."""

from __future__ import annotations

import json

import pytest
from project import Project

from harness.patching import remembered

MODELS = """\
models:
  - {id: small, source: synthetic, architecture: llama, vocab: 512, layers: 3, dtype: float32}
"""
CASE = """\
models: [small]
prompts: {clean: [3, 5, 7, 11], corrupted: [4, 5, 7, 12]}
sweep: {components: [mlp_out]}
metrics: [l2]
checks: [finiteness, laws]
"""
PATCH = ("patch", "-m", "small", "--models", "m.yaml", "--ids", "--clean", "3,5,7,11", "--corrupted", "4,5,7,12",
         "-c", "mlp_out")  # fmt: skip


@pytest.mark.as_installed("a proof is remembered of MLX as it was installed")
def test_patch_relies_on_a_proof_says_so_and_makes_it_anew_when_asked(project: Project) -> None:
    project.write("m.yaml", MODELS)
    told = [project.inside(*PATCH, *more).out for more in ((), (), ("--prove",))]
    assert ["one-pass, proven on" in each for each in told] == [False, True, False]
    assert all("one-pass" in each for each in told)


@pytest.mark.as_installed("a proof is remembered of MLX as it was installed")
def test_run_keeps_a_proof_says_so_with_v_and_doctor_forgets_it(project: Project) -> None:
    project.write("m.yaml", MODELS)
    project.write("cases/a.case.yaml", CASE)
    first = project.inside("run", "cases", "--models", "m.yaml")
    assert first.code == 0
    assert len(remembered.kept()) == 1
    second = project.inside("run", "cases", "--models", "m.yaml", "-v", "--json", "r.json")
    assert "went one-pass, proven on" in second.out
    (job,) = json.loads((project.folder / "r.json").read_text())["jobs"]
    assert job["proven_on"]
    anew = project.inside("run", "cases", "--models", "m.yaml", "-v", "--prove")
    assert "proven on" not in anew.out
    assert "1 in " in project.inside("doctor").out
    assert "forgotten: 1," in project.inside("doctor", "--clear-proofs").out
    assert remembered.kept() == []


@pytest.mark.as_installed("a proof is remembered of MLX as it was installed")
def test_conformance_keeps_and_reads_none(project: Project) -> None:
    project.write("m.yaml", MODELS)
    project.inside(*PATCH)
    (entry,) = remembered.kept()
    entry.write_text("{")
    done = project.inside("conformance", "-e", "native", "--row", "llama", "--law", "self-patch")
    assert done.code == 0, done.out
    assert [each.read_text() for each in remembered.kept()] == ["{"]
