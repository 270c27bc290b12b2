"""The nouns: what may exist, and what importing them costs."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest

from harness.vocabulary import COMPONENTS, METRICS, Finding, Reading, RowSummary, Site, State
from harness.vocabulary.findings import FINDINGS, Severity


@pytest.mark.parametrize(
    ("value", "state", "text"),
    [(1.5, State.FINITE, "1.5"), (0.0, State.FINITE, "0"), (math.inf, State.INF, "inf"), (-math.inf, State.INF, "inf"),
     (math.nan, State.NAN, "nan")],
    ids=str,
)  # fmt: skip
def test_a_float_becomes_a_reading(value, state, text):
    reading = Reading.of(value)
    assert reading.state is state
    assert reading.value == (value if state is State.FINITE else None)
    assert reading.finite == (state is State.FINITE)
    assert reading.text() == text


@pytest.mark.parametrize("state", [state for state in State if state is not State.FINITE])
def test_what_is_not_finite_has_no_value(state):
    assert Reading.absent(state).value is None
    assert Reading.absent(state).text(".1f") == state.value
    with pytest.raises(ValueError, match=f"a reading of 0.0 cannot be {state}"):
        Reading(0.0, state)


@pytest.mark.parametrize("value", [None, math.nan, math.inf], ids=str)
def test_a_finite_reading_has_a_finite_value(value):
    with pytest.raises(ValueError, match="cannot be finite"):
        Reading(value, State.FINITE)


def test_the_table_of_findings():
    assert all(code == kind.code and re.fullmatch(r"[A-Z]{3}\d{3}", code) for code, kind in FINDINGS.items())
    assert all(kind.title and kind.hint and kind.check for kind in FINDINGS.values())
    asked = {code: kind for code, kind in FINDINGS.items() if "/" not in kind.check}
    assert {code for code, kind in asked.items() if kind.severity is Severity.WARNING} == {
        "SNP002", "BAS003", "BAS004", "HED001", "SHF001", "PRC001", "MET001", "STR001", "ATR005", "TOK001", "TOK002",
        "MOD002", "LAW008", "LAW017",
    }  # fmt: skip
    assert {code for code, kind in FINDINGS.items() if kind.severity is Severity.NOTE} == {"SNP003", "TOK003", "ATR007"}
    # One prefix a check, except that the answers are asked for where the prompts are.
    prefixes = {(code[:3], kind.check) for code, kind in asked.items()}
    assert len(prefixes) == len({prefix for prefix, _ in prefixes})


def test_the_tables_of_metrics_and_components():
    assert list(METRICS) == ["l2", "mse", "cosine", "kl_divergence", "logit_diff", "log_prob"]
    assert all(name == metric.name for name, metric in METRICS.items())
    assert [name for name, metric in METRICS.items() if metric.needs_answers] == ["logit_diff", "log_prob"]
    assert list(COMPONENTS)[:4] == ["resid_pre", "attn_out", "mlp_out", "resid_post"]


def test_a_finding_reads_as_code_place_metric_message_hint():
    finding = Finding("FIN005", "nan at 2 of 3 cells", Site("mlp_out", 7, "last"), "l2")
    text = "FIN005 layer 7 mlp_out, position last l2: nan at 2 of 3 cells; " + FINDINGS["FIN005"].hint
    assert str(finding) == text
    assert str(Finding("BAS001", "seen")) == f"BAS001: seen; {FINDINGS['BAS001'].hint}"
    assert str(Site("mlp", 3)) == "layer 3 mlp"


@pytest.mark.parametrize(("nan", "pos", "neg"), [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_a_row_is_finite_when_nothing_in_it_is_not(nan, pos, neg):
    assert RowSummary(nan, pos, neg, 1.0, None).finite == (nan + pos + neg == 0)


@pytest.mark.parametrize(
    "package",
    [
        "vocabulary",
        "vocabulary.verdict",
        "casefile",
        "snapshots",
        "results.json",
        "results.reports.terminal",
        "results.shards",
    ],
)
def test_results_are_read_compared_and_drawn_where_mlx_is_absent(package):
    code = f"import sys; sys.modules['mlx'] = sys.modules['mlx_lm'] = None; import harness.{package}"
    subprocess.run([sys.executable, "-c", code], check=True)
