"""Every check catches its planted faults, says nothing else, and leaves clean models alone.

`pytest tests/checks -v` prints the table: check, fault, caught.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from bench import case, codes, dial, run
from faulty_models import Sound, loaded
from planted_faults import FAULTS, Fault

from harness import models
from harness.checks import CHECKS
from harness.findings import FINDINGS
from harness.models.spec import CircuitRow, SyntheticRow
from harness.vocabulary import METRICS, Direction

pytest_plugins = ["pytester"]

CIRCUIT = {"id": "c", "source": "groundtruth", "architecture": "llama", "vocab": 256, "layers": 4, "attention_layer": 0}
CLEAN_MODELS = {
    **{f"dial {dtype}": lambda dtype=dtype: dial(dtype=dtype) for dtype in ("float32", "float16", "bfloat16")},
    "dial with suppressed tokens": lambda: dial(logits="suppressed", weights=(0.25, 0.5)),
    "dial of extreme float16 logits": lambda: dial(dtype="float16", logits="extreme"),
    "circuit": lambda: models.load(CircuitRow(**CIRCUIT, kind="circuit", factors={1: 0.75, 2: 0.5, 3: -0.25})),
    "gated circuit": lambda: models.load(CircuitRow(**CIRCUIT, kind="gated-circuit", factors={1: 0.5, 3: 0.5})),
    **{
        f"llama {dtype}": lambda dtype=dtype: models.load(
            SyntheticRow(id="l", source="synthetic", architecture="llama", vocab=2048, logit_scale=4.0, dtype=dtype)
        )
        for dtype in ("float32", "float16", "bfloat16")
    },
    "what the faulty models differ from": lambda: loaded(Sound()),
}
PROMPTS = {"circuit": ((1, 5, 6, 7), (2, 5, 6, 7)), "gated circuit": ((1, 5, 6, 7), (2, 5, 6, 7))}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{FINDINGS[fault.code].check}: {fault.code} {fault.name}")
def test_a_planted_fault_is_caught(fault: Fault, monkeypatch, request):
    bench = SimpleNamespace(monkeypatch=monkeypatch, pytester=None)
    if fault.code.startswith("SNP"):
        bench.pytester = request.getfixturevalue("pytester")
    assert fault.plant(bench) == {fault.code, *fault.besides}


def test_every_code_has_a_planted_fault():
    assert {fault.code for fault in FAULTS} == set(FINDINGS)
    assert {code for fault in FAULTS for code in fault.besides} <= set(FINDINGS)


def test_every_check_of_the_table_has_a_planted_fault():
    assert set(CHECKS) <= {FINDINGS[fault.code].check for fault in FAULTS}


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("name", CLEAN_MODELS)
def test_a_clean_model_raises_nothing(name, direction):
    clean, corrupted = PROMPTS.get(name, ((0,), (1,)))
    components = ("mlp", "resid_post") if "dial" in name or "faulty" in name else ("attn_out", "mlp_out", "resid_post")
    result = run(
        CLEAN_MODELS[name](),
        prompts={"clean": clean, "corrupted": corrupted},
        sweep={"components": components, "direction": direction},
        metrics=tuple(METRICS),
    )
    assert codes(result) == set()
    assert result.status == "passed"
    assert len(result.curves) == len(components) * len(METRICS)
    assert all(cell.recovery.finite for curve in result.curves for cell in curve.cells)


@pytest.mark.parametrize("engine", ["legacy", "published"])
def test_a_formula_that_is_right_here_raises_nothing(engine):
    assert codes(run(dial(vocab=64), engine, metrics=("l2", "mse"))) == set()


def test_a_check_that_the_case_leaves_out_finds_nothing():
    checks = tuple(name for name in case().checks if name != "finiteness")
    assert codes(run(dial(logits="nan"), metrics=("l2",), checks=checks)) == set()


def test_a_metric_the_engine_does_not_know_is_left_out_and_none_at_all_is_a_skip():
    result = run(dial(vocab=64), "legacy", metrics=("l2", "logit_diff"))
    assert {curve.metric for curve in result.curves} == {"l2"}
    result = run(dial(vocab=64), "legacy", metrics=("logit_diff",))
    assert (result.status, result.reason) == ("skipped", "legacy knows none of logit_diff")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"prompts": {"clean": (0,), "corrupted": (4000,)}}, "token id 4000 is outside the vocabulary of 2,048"),
        ({"prompts": {"clean": "a z", "corrupted": "a b"}}, "'z' is not a word of this model"),
        ({"sweep": {"components": ("mpl",)}}, "'mpl' is not a component; did you mean 'mlp'?"),
        ({"sweep": {"layers": (4,)}}, "layer 4 does not exist; the model has layers 0 to 3"),
        ({"sweep": {"positions": (1,)}}, "position 1 is outside the prompt of 1 tokens"),
    ],
    ids=["token", "word", "component", "layer", "position"],
)
def test_a_case_that_this_model_cannot_carry_out_is_refused_with_the_reason(written, said):
    result = run(dial(), **written)
    assert result.status == "refused"
    assert result.reason.startswith("planted.case.yaml: ")
    assert said in result.reason
    assert result.findings == ()


def test_a_defect_of_the_harness_is_a_crash_not_a_verdict(monkeypatch):
    def broken(evidence):
        raise RuntimeError("planted")

    monkeypatch.setitem(CHECKS, "oracle", broken)
    result = run(dial())
    assert (result.status, result.reason) == ("crashed", "RuntimeError: planted")


def test_ctrl_c_in_a_job_comes_through(monkeypatch):
    def interrupted(evidence):
        raise KeyboardInterrupt

    monkeypatch.setitem(CHECKS, "oracle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(dial())


def test_an_expected_finding_passes_and_an_unlisted_one_still_fails():
    expect = {"findings": ("FIN002",), "may_find": ("FIN004",)}
    result = run(dial(logits="nan"), metrics=("l2",), expect=expect)
    assert result.status == "passed"
    assert all(finding.expected for finding in result.findings)
    result = run(dial(logits="nan"), metrics=("l2",), expect={"findings": ("FIN002",)})
    assert result.status == "failed"
    assert [finding.code for finding in result.findings if not finding.expected] == ["FIN004"]
