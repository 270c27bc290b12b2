"""Every check catches its planted faults, says nothing else, and leaves clean models alone.

`python tests/checks/page.py --write` runs this and keeps the outcome as docs/checks.md.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from bench import case, codes, dial, run
from clean_models import CLEAN_MODELS, TRUE_WARNINGS, ask, true_warnings
from page import fault_id
from planted_faults import FAULTS, Fault

from harness.checks import CHECKS
from harness.vocabulary import METRICS, Direction
from harness.vocabulary.findings import FINDINGS, Severity

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("fault", FAULTS, ids=fault_id)
def test_a_planted_fault_is_caught(fault: Fault, monkeypatch, request):
    bench = SimpleNamespace(monkeypatch=monkeypatch, pytester=None)
    if fault.code.startswith(("SNP", "ENG002")):
        bench.pytester = request.getfixturevalue("pytester")
    assert fault.plant(bench) == {fault.code, *fault.besides}


def test_every_code_has_a_planted_fault():
    """Those of a diagnosis are planted in the zoo and in tests/diagnosis."""
    codes = {code for code, kind in FINDINGS.items() if not kind.check.startswith("diagnosis/")}
    assert {fault.code for fault in FAULTS} == codes
    assert {code for fault in FAULTS for code in fault.besides} <= set(FINDINGS)


def test_every_check_of_the_table_has_a_planted_fault():
    assert set(CHECKS) <= {FINDINGS[fault.code].check for fault in FAULTS}


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("name", CLEAN_MODELS)
def test_a_clean_model_raises_no_error_and_no_warning_but_true_ones(name, direction):
    result = ask(name, direction)
    found = codes(result)
    assert {code for code in found if FINDINGS[code].severity is Severity.ERROR} == set()
    assert result.status == "passed"
    assert len({curve.component for curve in result.curves}) * len(METRICS) == len(result.curves)
    assert all(cell.recovery.finite for curve in result.curves for cell in curve.cells)
    assert found == true_warnings(name, direction, result) == TRUE_WARNINGS.get((name, direction), set())


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
        ({"sweep": {"positions": (1,)}}, "position 1 is outside the prompt of 1 token"),
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
