"""What is said of jobs before a model is loaded, and that a run says the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from project import ELSEWHERE, Project, environment, project  # noqa: F401

from harness.casefile import find_cases
from harness.jobs.planning import jobs_in
from harness.jobs.preflight import CaseReport, inspect
from harness.jobs.preflight.modules import names_in
from harness.jobs.run import ModelCache, run
from harness.models import bundled, load_table

ROOT = Path(__file__).parents[3]
TABLE = """\
models:
  - {id: tiny, source: groundtruth, kind: dial, vocab: 64, weights: [0.5, 0.25]}
  - {id: small, source: synthetic, architecture: llama, vocab: 64, layers: 2}
  - {id: deep, source: synthetic, architecture: llama, vocab: 64, layers: 2, config: {num_hidden_layers: 5}}
  - {id: mamba, source: synthetic, architecture: mamba, vocab: 64, layers: 2}
  - {id: absent, source: hub, repo: nobody/nothing, revision: "1"}
  - {id: gone, source: path, path: nowhere}
"""
CASE = "models: [{models}]\nprompts: {{clean: a b, corrupted: a c}}\n"


@pytest.fixture
def said(tmp_path: Path) -> Callable[..., CaseReport]:
    (tmp_path / "m.yaml").write_text(TABLE)

    def report(text: str, models: str = "small") -> CaseReport:
        file = tmp_path / "x.case.yaml"
        file.write_text((CASE.format(models=models) if "prompts:" not in text else f"models: [{models}]\n") + text)
        return inspect(jobs_in(file, load_table([tmp_path / "m.yaml"])))

    return report


WRONG = [
    ("sweep: {layers: [0, 2]}", "small", "3:21: sweep.layers[1]: layer 2 does not exist; there are layers 0 to 1; on "
     "small"),
    ("sweep: {layers: [1, -1]}", "small", "3:21: sweep.layers[1]: layer -1 is layer 1 once more; on small"),
    ("sweep: {layers: [-6]}", "deep", "3:18: sweep.layers[0]: layer -6 does not exist; there are layers 0 to 4; on "
     "deep"),
    ("sweep: {components: [mlp.gat_proj]}", "small, deep", "3:22: sweep.components[0]: 'mlp.gat_proj' is not a "
     "component: nothing in llama is called 'gat_proj'; did you mean 'gate_proj'?; on small, deep"),
    ("sweep: {components: [atn_out]}", "small", "3:22: sweep.components[0]: 'atn_out' is not a component: nothing in "
     "llama is called 'atn_out'; did you mean 'attn_out'?; on small"),
    *((f"sweep: {{components: [{each}]}}", "mamba", "3:22: sweep.components[0]: how the heads of mamba lie is not "
       "known here: z, q, k, v are known of 69 architectures") for each in "zqkv"),
    ("sweep: {components: [mlp_post]}", "mamba", "3:22: sweep.components[0]: mamba has no mlp_post (the MLP's neurons: "
     "input of its down projection); on mamba"),
    ("sweep: {components: [self_attn]}", "mamba", "3:22: sweep.components[0]: mamba has no self_attn (the attention "
     "module's own output); on mamba"),
    ("prompts: {clean: a, corrupted: [0, 1]}", "small", "2:32: prompts.corrupted: 2 tokens where `clean` has 1, so "
     "positions do not correspond; on small"),
    ("prompts: {clean: a, corrupted: b c}", "tiny", "2:32: prompts.corrupted: 2 tokens where `clean` has 1, so "
     "positions do not correspond; on tiny"),
    ("prompts: {clean: [0], corrupted: [64]}", "small", "2:34: prompts.corrupted: the prompt: token id 64 is outside "
     "the vocabulary of 64; on small"),
    ("prompts: {clean: a, corrupted: z}", "tiny", "2:32: prompts.corrupted: 'z' is not a word of this model; known: a, "
     "b, c, d, e, f, g, h; on tiny"),
    ("prompts: {clean: a, corrupted: b, answer: ' c d', wrong: 1}", "tiny", "2:43: prompts.answer: the answer ' c d' "
     "is 2 tokens [2 'c', 3 'd']; give one token, or {text: ' c d', token: first}"),
    ("prompts: {clean: a, corrupted: b, answer: c, wrong: 1}", "tiny", "2:43: prompts.answer: the answer 'c' after the "
     "clean prompt: 'ac' is not a word of this model; did you mean 'c'?; begin the answer with a space, or "
     "give a token id"),
    ("prompts: {clean: a, corrupted: b, answer: ' c', wrong: 2}", "tiny", "2:56: prompts.wrong: answer ' c' and wrong "
     "answer '2' are the same token [2 'c']; no metric could tell them apart; on tiny"),
    ("sweep: {positions: [0, 2]}", "small", "3:24: sweep.positions[1]: position 2 is outside the prompt of 2 tokens; "
     "on small"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "models", "message"), WRONG)
def test_a_fault_is_named_where_it_stands_and_a_run_refuses_it_too(
    said: Callable[..., CaseReport], tmp_path: Path, text: str, models: str, message: str
) -> None:
    (problem,) = said(text, models).problems
    assert str(problem).removeprefix(f"{tmp_path}/x.case.yaml:").startswith(message)
    job = jobs_in(tmp_path / "x.case.yaml", load_table([tmp_path / "m.yaml"]))[0]
    result = run(job, ModelCache())
    refused = result.status == "refused" or [finding.code for finding in result.findings] == ["ALN001"]
    assert refused, result


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ("", "small, tiny, deep"),
        ("sweep: {layers: [0, -1], components: [mlp.gate_proj, attn_out, z, resid_pre]}", "small, deep"),
        ("sweep: {components: [q, k, v, mlp_post]}", "small, deep"),
        ("sweep: {layers: [4], positions: [1, -1]}", "deep"),
        ("sweep: {components: [attn_out]}", "mamba"),
        ("prompts: {clean: a, corrupted: b c}\nexpect: {findings: [ALN001]}", "tiny"),
        ("prompts: {clean: [0], corrupted: [63], answer: 5, wrong: b}", "small"),
    ],
)
def test_what_a_run_carries_out_is_no_fault(said: Callable[..., CaseReport], text: str, models: str) -> None:
    report = said(text, models)
    assert (report.problems, report.not_checked) == ((), ())


def test_a_layer_that_an_expectation_names_is_looked_at(said: Callable[..., CaseReport]) -> None:
    expect = (
        "recoveries: [{component: mlp_out, layer: 7, metric: l2, value: 1, within: 1}], top_layers: [{layers: [8]}]"
    )
    assert [problem.path for problem in said(f"expect: {{{expect}}}").problems] == [
        "expect.recoveries[0].layer", "expect.top_layers[0].layers[0]",
    ]  # fmt: skip


def test_what_was_not_checked_is_said_with_the_reason(said: Callable[..., CaseReport]) -> None:
    report = said("sweep: {layers: [3]}", "absent, gone, small")
    assert [str(each) for each in report.not_checked] == [
        f"{what} of 1 job ({model} is not on this machine)"
        for model in ("absent", "gone")
        for what in ("layer numbers", "components", "tokens")
    ]
    assert [problem.path for problem in report.problems] == ["sweep.layers[0]"]


def test_token_ids_need_no_tokenizer(said: Callable[..., CaseReport]) -> None:
    report = said("prompts: {clean: [1], corrupted: [2]}\nsweep: {components: [resid_pre]}", "absent")
    assert (report.problems, report.not_checked) == ((), ())


def test_jobs_without_a_snapshot_are_named(said: Callable[..., CaseReport], tmp_path: Path) -> None:
    assert said("", "small, deep").without_snapshot == ("x[native@small]", "x[native@deep]")
    stored = tmp_path / "snapshots" / "x" / f"native@deep.{ELSEWHERE}.json"
    stored.parent.mkdir(parents=True)
    stored.touch()
    assert said("", "small, deep").without_snapshot == ("x[native@small]",)
    assert said("checks: [finiteness]").without_snapshot == ()
    assert said("expect: {findings: [FIN001]}").without_snapshot == ()
    assert said("skip: why").without_snapshot == ()


def test_a_part_of_an_included_file_is_named_there(said: Callable[..., CaseReport], tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text("defaults: {sweep: {layers: [9]}}")
    (problem,) = said("include: common.yaml\n").problems
    assert str(problem).startswith(f"{tmp_path}/common.yaml:1:29: defaults.sweep.layers[0]: layer 9 does not exist")


def test_the_bundled_cases_are_in_order() -> None:
    report = inspect([job for file in find_cases([ROOT / "cases"]) for job in jobs_in(file, bundled())])
    assert report.problems == ()


@pytest.mark.parametrize("architecture", ["llama", "qwen3_moe", "gpt2", "gemma3_text", "phi3", "mixtral", "lfm2"])
def test_every_module_that_an_architecture_has_is_in_its_source(architecture: str) -> None:
    """The names are read from text; the real module tree, built small, may hold no other."""
    from harness.models.architectures import blocks_of
    from harness.models.sources.synthetic import build
    from harness.models.spec import SyntheticRow

    names = names_in(architecture)
    assert names is not None
    module, _ = build(SyntheticRow(id="a", source="synthetic", architecture=architecture, vocab=64, layers=2))
    parts = {part for block in blocks_of(module) for name, _ in block.named_modules() for part in name.split(".")}
    assert {part for part in parts if part and not part.isdigit()} <= names


def test_validate_speaks_json(project: Project) -> None:  # noqa: F811
    project.case("a", models="good, absent")
    got = project.inside("validate", "--models", "m.yaml", "--json")
    said = json.loads(got.out)
    assert (got.code, said["valid"], said["files"], said["jobs"], said["problems"]) == (0, True, 1, 2, [])
    assert {(each["what"], each["why"]) for each in said["not_checked"]} == {
        ("components", "absent is not on this machine"), ("tokens", "absent is not on this machine"),
    }  # fmt: skip
    project.case("b", more="metrics: [l3]\n")
    project.case("c", component="mpl")
    got = project.inside("validate", "--models", "m.yaml", "--json")
    said = json.loads(got.out)
    assert (got.code, said["valid"], got.err) == (4, False, "")
    assert [(problem["file"], problem["line"], problem["path"]) for problem in said["problems"]] == [
        ("cases/b.case.yaml", 5, "metrics[0]"), ("cases/c.case.yaml", 4, "sweep.components[0]"),
    ]  # fmt: skip


def test_validate_says_what_it_did_not_check(project: Project) -> None:  # noqa: F811
    project.case("a", models="good, absent")
    got = project.inside("validate", "--models", "m.yaml")
    assert (got.code, got.out.splitlines()) == (0, [
        "1 case file is valid; it makes 2 jobs.",
        "not checked: components of 1 job (absent is not on this machine)",
        "not checked: tokens of 1 job (absent is not on this machine)",
        "no snapshot yet: a[native@good], a[native@absent]; "
        "`harness run --models m.yaml --snapshot-update` stores them",
    ])  # fmt: skip


def test_a_hundred_cases_take_less_than_two_seconds(tmp_path: Path) -> None:
    """Processor time, with compiled modules as an installed harness has them."""
    files = find_cases([ROOT / "cases"])
    for number in range(100):
        source = files[number % len(files)]
        (tmp_path / f"{number:03}-{source.name}").write_text(source.read_text())
    here = environment(PYTHONPYCACHEPREFIX=str(tmp_path / "compiled"))
    here.pop("PYTHONDONTWRITEBYTECODE", None)
    taken = []
    for _ in range(4):
        before = os.times()
        done = subprocess.run([sys.executable, "-m", "harness", "validate", tmp_path], env=here, capture_output=True)
        after = os.times()
        taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert b"100 case files are valid" in done.stdout, done.stderr
    assert min(taken) < 2, taken


def test_validating_imports_no_architecture_and_no_weights() -> None:
    code = "import sys; from harness.cli import exit_code_of; exit_code_of(['validate', 'cases']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & {"mlx_lm", "transformers", "huggingface_hub"}
