"""A metric that has no answers to read costs itself, and no other metric of its job."""

from __future__ import annotations

import re
from pathlib import Path

import faulty_models as faulty
import pytest
from bench import codes, run

from harness.vocabulary import JobResult, Status

# Both runs of the sound model prefer the token 1, and their logits differ.
ALIKE = {"clean": (0, 0), "corrupted": (0, 2)}
METRICS = ("l2", "mse", "cosine")
DOCS = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
(L2_ONLY, *_) = re.findall(r"^```python\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
"""An engine that raises for another metric than l2; here it says that it has more."""


def without_answers(engine: str, *metrics: str, **more: object) -> JobResult:
    return run(faulty.loaded(faulty.Sound()), engine, metrics=metrics, prompts=ALIKE, **more)


@pytest.mark.parametrize("engine", ["native", "l2_only:patch"])
def test_metrics_that_need_no_answers_are_measured_beside_those_that_lack_them(
    engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "l2_only.py").write_text(L2_ONLY.replace('["l2"]', '["l2", "logit_diff"]'), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    alone = without_answers(engine, "l2")
    beside = without_answers(engine, "logit_diff", "l2", "log_prob")
    assert len(alone.curves) == 1
    assert beside.curves == alone.curves
    assert (codes(alone), codes(beside)) == (set(), {"ANS001"})
    assert (alone.status, beside.status) == (Status.PASSED, Status.FAILED)
    (finding,) = beside.findings
    assert finding.evidence["metrics"] == ["logit_diff"] + ["log_prob"] * (engine == "native")


@pytest.mark.parametrize("more", [{"precision": True}, {"reference": "legacy"}, {"checks": ("finiteness",)}], ids=str)
def test_what_looks_at_the_others_is_not_asked_for_more(more: dict[str, object]) -> None:
    result = without_answers("native", "l2", "logit_diff", **more)
    assert (codes(result) & {"ANS001", "ENG001"}, result.status) == ({"ANS001"}, Status.FAILED)
    assert [curve.metric for curve in result.curves] == ["l2"]


def test_nothing_is_left_out_where_answers_are_given_or_differ() -> None:
    given = run(
        faulty.loaded(faulty.Sound()), metrics=(*METRICS, "logit_diff"), prompts={**ALIKE, "answer": 1, "wrong": 2}
    )
    told = run(faulty.loaded(faulty.Sound()), metrics=(*METRICS, "logit_diff"))
    for result in (given, told):
        assert [curve.metric for curve in result.curves] == [*METRICS, "logit_diff"]
        assert "ANS001" not in codes(result)


def test_a_job_of_such_metrics_alone_has_no_numbers() -> None:
    result = without_answers("native", "logit_diff", "log_prob")
    assert (codes(result), result.curves, result.status) == ({"ANS001"}, (), Status.FAILED)


def test_an_expected_one_passes_with_the_other_numbers() -> None:
    result = without_answers("native", "l2", "logit_diff", expect={"findings": ("ANS001",)})
    assert (result.status, [curve.metric for curve in result.curves]) == (Status.PASSED, ["l2"])
    assert result.not_compared == ()


def test_what_is_stated_of_a_metric_without_answers_is_said_not_to_be_compared() -> None:
    stated = {"findings": ("ANS001",), "minimum_recovery": ({"metric": "logit_diff", "at_least": 1.0},)}
    result = without_answers("native", "l2", "logit_diff", expect=stated)
    assert result.not_compared == ("expect.minimum_recovery: ANS001 left no numbers of logit_diff",)
