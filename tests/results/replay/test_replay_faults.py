"""What cannot be true is said, with what would be possible; what can be is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from example_results import curve, grid, job, run

from harness.casefile import find_cases
from harness.results.json import write
from harness.results.replay import audit, judge, read_tables, verdict
from harness.vocabulary import Direction, ModelCard, Status, Sweep, Tokens
from harness.vocabulary.errors import CaseFileError, UsageError

Ask = Callable[..., tuple[list[str], str]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Replay metrics in flow style: the messages, and the verdict."""

    def replayed(*metrics: str, top: str = "") -> tuple[list[str], str]:
        file = tmp_path / "t.replay.yaml"
        file.write_text(f"{top}\nmetrics:\n" + "".join(f"  {each}\n" for each in metrics), encoding="utf-8")
        found = audit(*read_tables(file))
        return [each.message for each in found.contradictions], verdict([found])

    return replayed


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        # sqrt(1 - 0.179) = 0.9061
        (("l2: {baseline: 2, recoveries: {1: 4.9}}", "mse: {baseline: 1, recoveries: {1: 17.9}}"),
         "mse recovery at layer 1 of 17.9 % asks for l2 recovery at layer 1 of 9.313 to 9.469 %; printed 4.9"),
        (("l2: {baseline: 2.0, recoveries: {1: 100.1}}",), "l2 recovery at layer 1 is 100.1 %"),
        (("kl_divergence: {baseline: -0.2}",), "kl_divergence baseline is -0.2"),
        (("cosine: {baseline: 2.1}",), "cosine baseline is 2.1"),
        # What is left of 1.5 is 3 x 1.5 = 4.5.
        (("cosine: {baseline: 1.50, recoveries: {1: -200.0}}",),
         "cosine recovery at layer 1 of -200.0 % asks for cosine baseline of -0.005 to 0.672; printed 1.50"),
        # Without `vocab` N is at least 1; sqrt(0.895) - 0.005 = 0.94104.
        (("l2: {baseline: 0.50}", "mse: {baseline: 0.90}"),
         "mse baseline of 0.90 asks for l2 baseline of at least 0.941043; printed 0.50"),
        (("l2: {baseline: inf, recoveries: {0: 0.0}}",), "l2 recovery at layer 0 is 0.0 %; its baseline is inf"),
        (("l2: {baseline: inf}", "mse: {baseline: 0.6480}"),
         "l2 baseline is inf; the logits are finite, since their mse baseline is 0.6480"),
        (("l2: {baseline: 2.0, recoveries: {0: nan}}", "cosine: {baseline: 0.1, recoveries: {0: 5.0}}"),
         "l2 recovery at layer 0 is nan %; the logits are finite, since their cosine recovery at layer 0 is 5.0 %"),
    ],
    ids=["pair", "above-100", "negative", "cosine-baseline", "cosine-patched", "below-one-logit", "guard", "overflow",
         "patched-overflow"],
)  # fmt: skip
def test_what_cannot_be_true_is_said(ask: Ask, metrics: tuple[str, ...], message: str) -> None:
    messages, said = ask(*metrics)
    assert messages == [message]
    assert said.startswith("FAILED: 1 of")


@pytest.mark.parametrize(
    "metrics",
    [
        ("l2: {baseline: inf, recoveries: {0: nan, 10: nan}}",),
        ("mse: {baseline: 1.0, recoveries: {0: 17.9}}", "l2: {baseline: 1.0, recoveries: {1: 99.0}}"),
        ("l2: {baseline: 2.0, recoveries: {0: 100.0, 1: 100, 2: 99.96}}",),
        ("logit_diff: {baseline: -3.0, recoveries: {0: 250.0}}", "log_prob: {baseline: -0.5, recoveries: {0: 140}}"),
        ("logit_diff: {baseline: 0, recoveries: {0: 50.0}}",),
        ("log_prob: {baseline: -inf}", "l2: {baseline: 2.0}"),
        ("cosine: {baseline: nan}", "l2: {baseline: 2.0}"),
        ("l2: {baseline: 0.00, recoveries: {0: 5.0}}",),
    ],
    ids=[
        "the-report-before-its-fix",
        "no-site-in-common",
        "rounded",
        "scores",
        "score-of-zero",
        "score-of-inf",
        "row-of-zeros",
        "tiny",
    ],
)
def test_what_can_be_true_is_left_alone(ask: Ask, metrics: tuple[str, ...]) -> None:
    assert ask(*metrics)[0] == []


@pytest.mark.parametrize(
    ("metrics", "codes", "messages"),
    [
        (("l2: {baseline: inf, recoveries: {0: nan, 10: nan}}",), ["FIN004", "FIN005"],
         ["the baseline is inf", "nan in 2 of 2 recoveries, the first at layer 0"]),
        (("cosine: {baseline: nan}", "l2: {baseline: 2.0}"), ["FIN004"], ["the baseline is nan"]),
        (("kl_divergence: {baseline: 0.5, recoveries: {0: 3.0, 4: -inf, 7: nan}}",), ["FIN005"],
         ["-inf and nan in 2 of 3 recoveries, the first at layer 4"]),
        (("mse: {baseline: zero-baseline, recoveries: {0: zero-baseline}}",), ["BAS001"],
         ["the baseline is zero-baseline"]),
        (("mse: {baseline: zero-baseline, recoveries: {0: nan}}",), ["BAS001", "FIN005"],
         ["the baseline is zero-baseline", "nan in 1 of 1 recovery, the first at layer 0"]),
        (("logit_diff: {baseline: undefined, recoveries: {0: undefined}}",), ["FIN004", "FIN005"],
         ["the baseline is undefined", "undefined in 1 of 1 recovery, the first at layer 0"]),
        (("logit_diff: {baseline: 0, recoveries: {0: 50.0}}", "l2: {baseline: 0.0}"), [], []),
    ],
    ids=["the-report-before-its-fix", "row-of-zeros", "recoveries", "same-prompt", "nan-of-zero", "a-score", "finite"],
)  # fmt: skip
def test_what_is_no_number_is_found(
    tmp_path: Path, metrics: tuple[str, ...], codes: list[str], messages: list[str]
) -> None:
    file = tmp_path / "t.replay.yaml"
    file.write_text("metrics:\n" + "".join(f"  {each}\n" for each in metrics), encoding="utf-8")
    found = audit(*read_tables(file))
    assert [each.code for each in found.findings] == codes
    assert [each.message for each in found.findings] == messages
    assert judge([found]) == ((Status.FAILED, 1) if codes else (Status.PASSED, 0))
    assert verdict([found]).startswith(f"FAILED: {len(codes)} finding" if codes else "PASSED")


WHOLE = "component: resid_post\nlayers: 48"


@pytest.mark.parametrize(
    ("top", "metrics", "accused"),
    [
        (WHOLE, "l2: {baseline: 3.0, recoveries: {0: 5.0, 47: 99.7}}", 1),
        (WHOLE, "l2: {baseline: 3.0, recoveries: {0: 5.0, 47: 100.0}}", 0),
        (WHOLE, "l2: {baseline: 3.0, recoveries: {0: 5.0, 47: 100}}", 0),
        (WHOLE, "logit_diff: {baseline: -3.0, recoveries: {47: 250.0}}", 1),
        (f"{WHOLE}\ndirection: noising", "l2: {baseline: 3.0, recoveries: {47: 0.0, 3: 100.0}}", 0),
        (f"{WHOLE}\ndirection: noising", "cosine: {baseline: 0.1, recoveries: {47: 100.0}}", 1),
        ("component: mlp\nlayers: 48", "l2: {baseline: 3.0, recoveries: {47: 99.7}}", 0),
        ("component: resid_post", "l2: {baseline: 3.0, recoveries: {47: 99.7}}", 0),
    ],
)
def test_resid_post_of_the_last_layer_is_known(ask: Ask, top: str, metrics: str, accused: int) -> None:
    messages, _ = ask(metrics, top=top)
    assert len(messages) == accused
    assert all("recovery at layer 47 is" in each for each in messages)


@pytest.mark.parametrize(
    ("changed", "accused"),
    [
        ({}, ["layer 1"]),
        ({"sweep": Sweep(("resid_post",), direction=Direction.NOISING)}, ["layer 1"]),
        ({"curves": (curve(30.0, 100.0, component="resid_post"),)}, []),
        ({"curves": (curve(30.0, 98.5, component="resid_post"),)}, ["layer 1"]),
        ({"card": ModelCard("tiny", "synthetic", "llama", 2, 12, "bfloat16"),
          "curves": (curve(30.0, 98.5, component="resid_post"),)}, []),
        ({"card": ModelCard("tiny", "synthetic", "llama", 3, 12, "float32")}, []),
        ({"curves": (curve(30.0, 42.0, component="mlp_out"),)}, []),
        ({"curves": (grid([(9.0, 9.0, 9.0), (9.0, 9.0, 42.0)], component="resid_post"),)}, ["layer 1, position 2"]),
        ({"curves": (grid([(9.0, 9.0, 9.0), (9.0, 9.0, 100.0)], component="resid_post"),)}, []),
    ],
    ids=["denoising", "noising", "whole", "off", "off-in-bfloat16", "not-last", "mlp", "grid", "whole-grid"],
)  # fmt: skip
def test_resid_post_of_a_results_last_layer_is_known(
    tmp_path: Path, changed: dict[str, Any], accused: list[str]
) -> None:
    three = Tokens((1, 2, 3), ("a", "b", "c"))
    given = {
        "card": ModelCard("tiny", "synthetic", "llama", 2, 12, "float32"),
        "clean": three,
        "corrupted": three,
        "sweep": Sweep(("resid_post",)),
        "curves": (curve(30.0, 42.0, component="resid_post"),),
    }
    write(run(job(**{**given, **changed})), tmp_path / "r.json")
    (found,) = map(audit, read_tables(tmp_path / "r.json"))
    assert [each.numbers[0].site for each in found.contradictions] == accused


def test_numbers_that_nothing_ties_together_are_not_called_right(ask: Ask) -> None:
    _, said = ask("logit_diff: {baseline: -3.0, recoveries: {0: 20.0}}", "log_prob: {baseline: -0.5}")
    assert said.startswith("NOTHING CHECKED: no relation holds for 3 numbers")


def test_the_last_printed_digit_counts(ask: Ask) -> None:
    """100 x 0.648 is 64.8 = 8.0498²: a baseline of 8.06 fits 0.65 (64.45 to 65.55) and not 0.648 (64.75 to 64.85)."""
    assert ask("l2: {baseline: 8.06}", "mse: {baseline: 0.65}", top="vocab: 100")[0] == []
    assert len(ask("l2: {baseline: 8.06}", "mse: {baseline: 0.648}", top="vocab: 100")[0]) == 1
    assert len(ask("l2: {baseline: 8.06}", "mse: {baseline: '0.6480'}", top="vocab: 100")[0]) == 1


def test_a_metric_over_every_position_is_recognised(ask: Ask) -> None:
    """313.7752 x sqrt(6) = 768.589: the numbers of six tokens' logits."""
    messages, said = ask("l2: {baseline: 768.5892}", "mse: {baseline: 0.6480}", top="vocab: 151936")
    assert len(messages) == 1
    assert "holds 6 x 151,936: the logits of 6 tokens" in said


def test_what_the_arithmetic_may_be_off_by_is_stated(ask: Ask) -> None:
    """10.02² is 0.4 % above 100 x 1."""
    numbers = "l2: {baseline: 10.0200000}", "mse: {baseline: 1.0000000}"
    assert len(ask(*numbers, top="vocab: 100")[0]) == 1
    assert ask(*numbers, top="vocab: 100\nerror: 2e-3")[0] == []


def test_what_cannot_be_checked_is_never_called_checked(ask: Ask) -> None:
    _, said = ask("cosine: {baseline: 0.0079, recoveries: {0: 5.0}}")
    assert said.endswith("in 1 for some digits; 1 cannot be checked.")
    _, said = ask("kl_divergence: {baseline: 0.5}", "l2: {baseline: 2.0}", "mse: {baseline: nan}")
    assert "There is no number in 1 place: 1 x nan." in said
    assert said.endswith("noticed in 0 of 2 finite numbers whichever it is, in 0 for some digits; 2 cannot be checked.")


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("metrics: {l3: {baseline: 1}}", [":1:11: metrics.l3: 'l3' is not a metric; known: cosine, "]),
        ("metrics: {l2: {baselin: 1}}", [":1:15: metrics.l2.baseline: is missing", "did you mean 'baseline'?"]),
        ("metrics: {l2: {baseline: 1O3}}", [":1:26: metrics.l2.baseline: '1O3' is not a number, nor a state; "]),
        ("metrics: {l2: {baseline: naan}}", ["did you mean 'nan'?"]),
        ("metrics: {l2: {baseline: }}", [":1:25: metrics.l2.baseline: expected a number, found nothing"]),
        ("metrics: {l2: {baseline: 1, recoveries: {x: 1}}}", ["as a key here, expected a whole number"]),
        ("metrics: {}", [":1:10: metrics: "]),
        ("vocab: many\nmetrics: {l2: {baseline: 1}}", [":1:8: vocab: expected a whole number, found the text 'many'"]),
        ("vocab: 0\nmetrics: {l2: {baseline: 1}}", [":1:8: vocab: "]),
        (
            "layers: 48\nmetrics: {l2: {baseline: 1, recoveries: {47: 1.0, 48: 1.0}}}",
            [":2:29: metrics.l2.recoveries[48]: there are 48 layers, from 0"],
        ),
        ("component: resid_pots\nmetrics: {l2: {baseline: 1}}", [":1:12: component: ", "did you mean 'resid_post'?"]),
        ("direction: denoise\nmetrics: {l2: {baseline: 1}}", [":1:12: direction: ", "did you mean 'denoising'?"]),
        ("error: 1\nmetrics: {l2: {baseline: 1}}", [":1:8: error: "]),
    ],
)
def test_a_wrong_file_is_refused_at_its_place(tmp_path: Path, text: str, messages: list[str]) -> None:
    file = tmp_path / "t.replay.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CaseFileError) as raised:
        read_tables(file)
    assert all(message in str(raised.value) for message in messages), str(raised.value)


def test_a_bundled_table_is_no_case() -> None:
    cases = Path(__file__).parents[3] / "cases"
    assert list(cases.rglob("*.replay.yaml"))
    assert all(file.name.endswith(".case.yaml") for file in find_cases([cases]))


def test_a_result_is_read_with_its_grids_and_its_states(tmp_path: Path) -> None:
    """Two curves that agree, and one of other components that does not: 1 - sqrt(1 - 0.75) = 0.5."""
    file = tmp_path / "r.json"
    agreeing = job(curves=(curve(50.0, 0.0, metric="l2"), curve(75.0, 0.0, metric="mse")), case="right")
    apart = job(curves=(curve(50.0, 0.0, metric="l2"), curve(75.0, 1.0, metric="mse")), case="wrong")
    write(run(agreeing, apart, job(curves=(grid([(1.0, 2.0), (3.0, 4.0)]),), case="grid")), file)
    right, wrong, cells = map(audit, read_tables(file))
    assert [each.message for each in right.contradictions if "recovery" in each.law] == []
    assert [each.numbers[0].site for each in wrong.contradictions if "recovery" in each.law] == ["layer 1"]
    assert len({claim.number.site for claim in cells.claims}) == len(cells.claims)


def test_the_logits_of_a_result_are_those_of_its_model_but_the_suppressed(tmp_path: Path) -> None:
    """10² = 10 x 10: twelve logits, two of them -inf in both rows."""
    card = ModelCard("tiny", "synthetic", "llama", 2, 12, "float32")
    curves = (curve(50.0), curve(75.0, metric="mse"))
    write(run(job(card=card, curves=curves, suppressed=(3, 4)), job(card=card, curves=curves)), tmp_path / "r.json")
    right, wrong = map(audit, read_tables(tmp_path / "r.json"))
    assert right.contradictions == ()
    assert [each.law for each in wrong.contradictions] == ["l2² = N x mse with N = 12"]


@pytest.mark.parametrize(("metric", "accused"), [("l2", ["its baseline is zero"]), ("logit_diff", [])])
def test_a_baseline_of_exactly_zero_has_no_recoveries_unless_it_is_a_score(
    tmp_path: Path, metric: str, accused: list[str]
) -> None:
    write(run(job(curves=(curve(50.0, baseline=0.0, metric=metric),))), tmp_path / "r.json")
    (found,) = map(audit, read_tables(tmp_path / "r.json"))
    assert [each.message.partition("; ")[2] for each in found.contradictions] == accused


def test_numbers_whose_squares_are_beyond_floats_are_judged_like_others(ask: Ask) -> None:
    fitting = ask("l2: {baseline: 1e200, recoveries: {0: -1e151}}", "mse: {baseline: 1e300, recoveries: {0: -1e300}}")
    assert fitting[0] == []
    messages, _ = ask("l2: {baseline: 1.00}", "mse: {baseline: 1.00e300}", top="vocab: 100000000000")
    assert messages == ["mse baseline of 1.00e300 asks for l2 baseline of 3.154357e+155 to 3.170178e+155; printed 1.00"]


@pytest.mark.parametrize("metric", ["logit_diff", "log_prob"])
def test_a_score_of_a_run_may_be_negative_and_recover_beyond_100_percent(tmp_path: Path, metric: str) -> None:
    write(run(job(curves=(curve(300.0, -940.0, baseline=-13.2, metric=metric),))), tmp_path / "r.json")
    (found,) = map(audit, read_tables(tmp_path / "r.json"))
    assert found.contradictions == ()


@pytest.mark.parametrize("text", ["{}", "[]", "no json"])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "r.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="is not a result"):
        read_tables(file)


def test_a_result_without_numbers_is_refused(tmp_path: Path) -> None:
    write(run(job(curves=())), tmp_path / "r.json")
    with pytest.raises(UsageError, match="no job of this result has numbers"):
        read_tables(tmp_path / "r.json")
