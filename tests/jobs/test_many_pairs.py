"""A job of several pairs of prompts: the numbers of single jobs, no pair lost, and every finding with its pair."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from harness.jobs import run as running
from harness.jobs.planning import jobs_in
from harness.jobs.preflight import inspect
from harness.jobs.run import ModelCache
from harness.models import load_table
from harness.results.json import dump_job, load_job, schema
from harness.vocabulary import JobResult, Reading, State, Status
from harness.vocabulary.raised import JobInterrupted, SweepInterrupted

MODELS = """\
models:
  - {id: small, source: synthetic, architecture: llama, vocab: 128, layers: 3}
  - {id: nan, source: groundtruth, kind: dial, vocab: 64, weights: [0.5], logits: nan}
  - {id: good, source: groundtruth, kind: dial, vocab: 64, weights: [0.5, 0.25]}
"""
PAIRS = [
    {"clean": [1, 2, 3, 4], "corrupted": [1, 9, 3, 4], "answer": 17, "wrong": 3},
    {"clean": [5, 2, 3, 4, 8], "corrupted": [1, 9, 3, 4, 8], "answer": 7, "wrong": 9},
    {"clean": [11, 12, 13], "corrupted": [11, 12, 14], "answer": 1, "wrong": 100},
    {"clean": [7, 7], "corrupted": [8, 7], "answer": 5, "wrong": 6},
]
SAME = {"clean": [1, 2, 3], "corrupted": [1, 2, 3]}
UNEVEN = {"clean": [1, 2, 3], "corrupted": [1, 2]}

Ask = Callable[..., JobResult]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Return a function from pairs, or one pair, to the result of their job."""
    (tmp_path / "m.yaml").write_text(MODELS)
    numbers = itertools.count()

    def run(
        prompts: Any, metrics: Sequence[str] = ("l2", "cosine"), components: Sequence[str] = ("mlp_out", "attn_out"),
        model: str = "small", engine: str = "native", **more: Any,
    ) -> JobResult:  # fmt: skip
        sweep = {"components": [*components], **more.pop("sweep", {})}
        told = {"models": [model], "engines": [engine], "prompts": prompts, "metrics": [*metrics], "sweep": sweep}
        file = tmp_path / f"c{next(numbers)}.case.yaml"
        file.write_text(json.dumps(told | more))
        table = load_table([tmp_path / "m.yaml"])
        (job,) = jobs_in(file, table)
        run.report = inspect([job])
        return running.run(job, ModelCache())

    return run


def numbers(result: JobResult) -> list[Any]:
    return [
        (curve.component, curve.metric, curve.baseline, curve.pairs and curve.pairs.standard_error,
         [(cell.layer, cell.recovery, cell.oracle, cell.pairs and cell.pairs.interval) for cell in curve.cells])
        for curve in result.curves
    ]  # fmt: skip


def codes(result: JobResult) -> list[str]:
    return [each.code for each in result.findings]


def said(result: JobResult, code: str) -> list[str]:
    return [each.message for each in result.findings if each.code == code]


def test_one_job_has_the_bits_of_the_jobs_of_its_pairs(ask: Ask) -> None:
    metrics = ("l2", "cosine", "logit_diff")
    together, alone = ask(PAIRS, metrics), [ask(pair, metrics) for pair in PAIRS]
    assert together.status is Status.PASSED, together.findings
    assert [each.clean.ids for each in together.pairs] == [tuple(pair["clean"]) for pair in PAIRS]
    assert [each.answers for each in together.pairs] == [each.answers for each in alone]
    assert (together.clean, together.corrupted, together.answers) == (None, None, None)
    assert len(together.curves) == 6
    for at, curve in enumerate(together.curves):
        own = [each.curves[at] for each in alone]
        assert curve.pairs
        assert curve.pairs.of == tuple(each.baseline for each in own)
        assert curve.baseline.value == statistics.mean(each.baseline.value or 0.0 for each in own)
        for layer, cell in enumerate(curve.cells):
            readings = [each.cells[layer].recovery for each in own]
            assert cell.pairs
            assert cell.pairs.of == tuple(readings)
            assert cell.recovery.value == statistics.mean(each.value or 0.0 for each in readings)


def test_the_order_of_the_pairs_moves_no_number(ask: Ask) -> None:
    one, other = ask([*PAIRS, SAME]), ask([SAME, *reversed(PAIRS)])
    assert numbers(one) == numbers(other)
    assert one.pairs_digest == other.pairs_digest != ask(PAIRS).pairs_digest


def test_an_undefined_pair_is_in_no_mean_and_in_every_count(ask: Ask) -> None:
    without, beside = ask(PAIRS), ask([*PAIRS[:2], SAME, *PAIRS[2:]])
    assert numbers(beside) == numbers(without)
    assert len(beside.curves) == 4
    for curve in beside.curves:
        for pairs in (curve.pairs, *(cell.pairs for cell in curve.cells)):
            assert pairs
            assert (pairs.over, pairs.undefined) == ("4 of 5 pairs", "1 of 5 zero-baseline")
            assert pairs.of[2] == Reading.absent(State.ZERO_BASELINE)
    assert (beside.status, codes(beside)) == (Status.FAILED, ["BAS001"])
    (found,) = beside.findings
    assert found.message.startswith("pair 3: l2, cosine: the prompts are the same tokens")
    assert found.evidence["pairs"] == [3]


def test_a_case_may_expect_the_finding_of_a_pair(ask: Ask) -> None:
    assert ask([*PAIRS, SAME], expect={"findings": ["BAS001"]}).status is Status.PASSED


def test_where_no_pair_is_defined_neither_is_the_mean(ask: Ask) -> None:
    result = ask([SAME, {"clean": [4], "corrupted": [4]}])
    for curve in result.curves:
        assert {cell.recovery for cell in curve.cells} == {Reading.absent(State.ZERO_BASELINE)}
        assert curve.pairs
        assert curve.pairs.over == "0 of 2 pairs"
    assert said(result, "BAS001") == ["every pair: l2, cosine: the prompts are the same tokens"]


def test_one_pair_in_a_list_has_a_mean_and_no_error(ask: Ask) -> None:
    one, single = ask(PAIRS[:1]), ask(PAIRS[0])
    assert [curve.baseline for curve in one.curves] == [curve.baseline for curve in single.curves]
    assert {(cell.pairs.standard_error, cell.pairs.over) for curve in one.curves for cell in curve.cells} == {
        (None, "1 pair")
    }


def test_a_finding_names_its_pair_and_what_all_pairs_have_is_said_once(ask: Ask) -> None:
    told = {"clean": "a", "corrupted": "c"}
    # Row b of this dial ends in NaN.
    some = ask(
        [told, {"clean": "b", "corrupted": "a"}, {"clean": "a", "corrupted": "d"}], components=["mlp_out"], model="nan"
    )
    assert [message.split(":")[0] for message in said(some, "FIN001")] == ["pair 2"]
    assert "FIN002" not in codes(some)
    every = ask(
        [{"clean": "b", "corrupted": "a"}, {"clean": "b", "corrupted": "d"}], components=["mlp_out"], model="nan"
    )
    assert [message.split(":")[0] for message in said(every, "FIN001")] == ["every pair"]


def test_closed_forms_hold_for_each_pair_and_not_for_their_mean(ask: Ask) -> None:
    pairs = [{"clean": a, "corrupted": b} for a, b in ("ac", "ad", "ea")]
    result = ask(pairs, ("l2", "mse"), ["mlp_out"], model="good")
    assert result.status is Status.PASSED, result.findings
    # w = 1/2 and 1/4 recover 100 w percent in L2, whatever the rows.
    assert [cell.recovery.value for cell in result.curves[0].cells] == pytest.approx([50.0, 25.0])
    # The closed form of the first pair is no number; that of the mean is not asked for.
    first = ask([{"clean": "a", "corrupted": "a"}, *pairs], ("l2", "mse"), ["mlp_out"], model="good")
    assert codes(first) == ["BAS001"]


def test_what_a_case_expects_is_held_against_the_mean(ask: Ask) -> None:
    curve = ask(PAIRS).curves[0]
    mean, first = curve.cells[0].recovery.value, curve.cells[0].pairs.of[0].value
    assert abs(mean - first) > 1

    def stated(value: float) -> dict[str, Any]:
        entry = {"component": "mlp_out", "layer": 0, "metric": "l2", "value": value, "within": 0.01}
        return {"recoveries": [entry], "baselines": [{"metric": "l2", "value": curve.baseline.value, "within": 0.01}]}

    assert ask(PAIRS, expect=stated(mean)).status is Status.PASSED
    wrong = ask(PAIRS, expect=stated(first))
    assert (wrong.status, codes(wrong)) == (Status.FAILED, ["KNO001"])
    assert "pair" not in said(wrong, "KNO001")[0]
    high = ask(PAIRS, expect={"minimum_recovery": [{"at_least": 99}]})
    assert codes(high) == ["EXP005"] * 4
    assert ask([*PAIRS, SAME], expect={"finite": True, "findings": ["BAS001"]}).status is Status.PASSED


def test_uneven_pairs_are_named_before_any_forward_pass(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "answer", lambda *given: pytest.fail("the model was asked"))
    monkeypatch.setattr("harness.jobs.constancy.forward", lambda *given: pytest.fail("the model was run"))
    result = ask([PAIRS[0], UNEVEN, PAIRS[2], {**UNEVEN, "clean": [1, 2, 3, 4]}])
    assert [message.split(":")[0] for message in said(result, "ALN001")] == ["pair 2", "pair 4"]
    assert (result.status, result.curves) == (Status.FAILED, ())
    assert [problem.path for problem in ask.report.problems] == ["prompts[1].corrupted", "prompts[3].corrupted"]


def test_pairs_without_a_grid_in_common_are_refused_before_any_forward_pass(ask: Ask) -> None:
    result = ask(PAIRS, sweep={"positions": "each"})
    assert result.status is Status.REFUSED
    assert "must be of one length: 2 tokens in pair 4; 3 tokens in pair 3; 4 tokens in pair 1" in (result.reason or "")
    assert [problem.path for problem in ask.report.problems] == ["sweep.positions"]
    grid = ask([PAIRS[0], {"clean": [4, 3, 2, 1], "corrupted": [4, 4, 2, 1]}], sweep={"positions": "each"})
    assert [len(curve.cells) for curve in grid.curves] == [12] * 4
    assert grid.status is Status.PASSED, grid.findings


def test_a_position_that_a_pair_does_not_have_is_refused_with_the_pair(ask: Ask) -> None:
    result = ask(PAIRS, sweep={"positions": [-1, 2]})
    assert result.status is Status.REFUSED
    assert "pair 4: position 2" in (result.reason or "")
    assert ["of pair 4" in problem.message for problem in ask.report.problems] == [True]
    negative = ask(PAIRS, sweep={"positions": [-1]})
    assert [cell.pairs.over for cell in negative.curves[0].cells] == ["4 pairs"] * 3


def test_prompts_that_cannot_be_read_are_named_in_one_round(ask: Ask) -> None:
    result = ask([PAIRS[0], {"clean": [1, 500], "corrupted": [1, 2]}, {"clean": [1, 3], "corrupted": [1, 600]}])
    assert result.status is Status.REFUSED
    for part in ("pair 2: clean: token id 500", "pair 3: corrupted: token id 600"):
        assert part in (result.reason or "")
    assert [problem.path for problem in ask.report.problems] == ["prompts[1].clean", "prompts[2].corrupted"]


def _after(count: int, then: Callable[..., Any]) -> Callable[..., Any]:
    """Return an `answer` that does something else the time after `count` times."""
    asked, own = itertools.count(1), running.answer
    return lambda *given: then(own(*given)) if next(asked) == count + 1 else own(*given)


def test_an_engine_that_raises_for_one_pair_is_named_with_it_and_the_pair_is_counted(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(given: Any) -> Any:
        raise RuntimeError("planted")

    monkeypatch.setattr(running, "answer", _after(1, fail))
    result = ask(PAIRS)
    assert [message.split(":")[0] for message in said(result, "ENG001")] == ["pair 2"]
    assert result.status is Status.FAILED
    assert {cell.pairs.undefined for curve in result.curves for cell in curve.cells} == {"1 of 4 undefined"}


def test_ctrl_c_in_a_pair_keeps_the_means_over_the_pairs_before_it(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(given: Any) -> Any:
        raise SweepInterrupted(running.replace(given, stopped="after 1 of 6 cells"))

    monkeypatch.setattr(running, "answer", _after(2, stop))
    with pytest.raises(JobInterrupted) as ended:
        ask(PAIRS)
    result = ended.value.result
    assert (result.status, result.partial) == (Status.INTERRUPTED, True)
    assert "in pair 3, after 1 of 6 cells" in (result.reason or "")
    assert {cell.pairs.over for curve in result.curves for cell in curve.cells} == {"2 pairs"}


@pytest.mark.parametrize("pair", [1, 3])
def test_ctrl_c_in_the_checks_of_a_pair_keeps_them_too(ask: Ask, monkeypatch: pytest.MonkeyPatch, pair: int) -> None:
    """Most of a job's time is beside its sweeps."""
    plain, turns = running._checked, iter(range(1, 9))

    def check(evidence: Any) -> Any:
        if next(turns) == pair:
            raise KeyboardInterrupt
        return plain(evidence)

    monkeypatch.setattr(running, "_checked", check)
    with pytest.raises(JobInterrupted) as ended:
        ask(PAIRS)
    result = ended.value.result
    assert result.status is Status.INTERRUPTED
    assert result.partial is (pair > 1)
    assert {cell.pairs.over for curve in result.curves for cell in curve.cells} == ({"2 pairs"} if pair > 1 else set())


def test_a_pair_whose_runs_prefer_one_token_is_undefined_for_metrics_of_answers(ask: Ask) -> None:
    # Rows a and c of the dial have their maximum at their own id, so the same row is the same answer.
    result = ask([{"clean": "a", "corrupted": "c"}, {"clean": "d", "corrupted": "d"}], ("l2", "log_prob"), ["mlp_out"],
                 model="good")  # fmt: skip
    assert [message.split(":")[0] for message in said(result, "ANS001")] == ["pair 2"]
    states = {curve.metric: curve.pairs.undefined for curve in result.curves}
    assert states == {"l2": "1 of 2 zero-baseline", "log_prob": "1 of 2 undefined"}


def test_a_result_of_pairs_is_read_back_and_follows_the_schema(ask: Ask) -> None:
    result = ask([*PAIRS, SAME])
    plain = dump_job(result)
    assert load_job(plain) == result
    whole = schema()
    Draft202012Validator({"$defs": whole["$defs"], **whole["$defs"]["JobResult"]}).validate(
        json.loads(json.dumps(plain))
    )


@pytest.mark.parametrize("engine", ["legacy", "published"])
def test_other_formulas_of_ours_average_what_they_report(ask: Ask, engine: str) -> None:
    result = ask(PAIRS, ("l2",), ["mlp_out"], engine=engine)
    assert result.status is Status.PASSED, result.findings
    assert [cell.pairs.over for cell in result.curves[0].cells] == ["4 pairs"] * 3
