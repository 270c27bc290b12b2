"""The reference engine: where a difference of metrics begins, where one of patching, and when nothing is asked."""

from __future__ import annotations

import pytest
from bench import case, codes, dial, run

from harness.checks import CHECKS, Evidence, reference
from harness.engines import ENGINES, Engine
from harness.vocabulary import Answer, Cell, Curve, Question, Reading, RowSummary, State, Sweep, Tokens

FINITE = RowSummary(0, 0, 0, 1.0, None)


def reading(value) -> Reading:
    return Reading.absent(value) if isinstance(value, State) else Reading.of(value)


def answer(reported, oracle, baseline=(10.0, 10.0)) -> Answer:
    cells = (Cell(0, "all", reading(50.0), reading(50.0)), Cell(1, "all", reading(reported), reading(oracle)))
    said, true = map(reading, baseline)
    return Answer("stepwise", FINITE, FINITE, (Curve("mlp", "l2", "", said, true, cells),))


def found(monkeypatch, ours, theirs):
    monkeypatch.setattr(reference, "answer", lambda *_: theirs)
    question = Question(Tokens((0,), ("a",)), Tokens((1,), ("b",)), Sweep(("mlp",)), ("l2",))
    evidence = Evidence(case(reference="legacy"), dial(vocab=16), Engine("native", ""), question, ours)
    return list(CHECKS["reference"](evidence))


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted"),
    [
        ((20.0, 20.0), (20.0, 20.0), []),
        ((20.5, 20.0), (20.0, 20.0), []),
        ((20.6, 20.0), (20.0, 20.0), ["REF002"]),
        ((20.6, 20.6), (20.0, 20.0), ["REF001"]),
        ((20.0, 20.6), (20.0, 20.0), ["REF001"]),
        ((State.NAN, 20.0), (20.0, 20.0), ["REF002"]),
        ((State.NAN, 20.0), (State.NAN, 20.0), []),
        ((State.NAN, State.NAN), (20.0, 20.0), ["REF001"]),
        ((20.0, State.UNKNOWN), (20.0, 20.0), []),
        ((30.0, State.UNKNOWN), (20.0, 20.0), ["REF002"]),
    ],
    ids=str,
)
def test_recoveries_are_compared_as_reported_and_as_float64_sees_the_logits(monkeypatch, ours, theirs, wanted):
    assert [each.code for each in found(monkeypatch, answer(*ours), answer(*theirs))] == wanted


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted"),
    [
        ((10.0, 10.0), (10.04, 10.0), []),
        ((10.0, 10.0), (10.06, 10.0), ["REF002"]),
        ((10.0, 10.0), (10.0, 10.06), ["REF001"]),
        ((10.0, 10.0), (State.INF, 10.0), ["REF002"]),
        ((State.ZERO_BASELINE,) * 2, (State.ZERO_BASELINE,) * 2, []),
    ],
    ids=str,
)
def test_baselines_are_compared_relative_to_their_size(monkeypatch, ours, theirs, wanted):
    made = answer(20.0, 20.0, ours), answer(20.0, 20.0, theirs)
    assert [each.code for each in found(monkeypatch, *made)] == wanted


def test_a_difference_says_both_sides_and_where(monkeypatch):
    (finding,) = found(monkeypatch, answer(20.0, 20.0), answer(30.0, 20.0))
    assert (finding.message, str(finding.site)) == ("20.00 %, legacy gives 30.00 %; 1 of 2 cells", "layer 1 mlp")


def curves(*recoveries):
    cells = tuple(Cell(layer, "all", reading(value), reading(value)) for layer, value in enumerate(recoveries))
    ten = reading(10.0)
    return Answer("stepwise", FINITE, FINITE, (Curve("mlp", "l2", "", ten, ten, cells),))


@pytest.mark.parametrize(
    ("ours", "kind"),
    [((0.5, 0.2, 0.8), "factor 0.01"), ((20.0, 80.0, 10.0), "layer shifted"), ((50.0, 20.0, 33.0), None)],
    ids=str,
)
def test_the_mistake_behind_a_difference_is_named(monkeypatch, ours, kind):
    (finding,) = found(monkeypatch, curves(*ours), curves(50.0, 20.0, 80.0))
    assert finding.evidence["mistake"] == kind
    if kind == "factor 0.01":
        assert "fractions where percent is declared" in finding.message


@pytest.mark.parametrize("engine", ["native", "published", "legacy"])
def test_engines_that_are_right_here_agree_with_each_other(engine):
    assert codes(run(dial(vocab=64), engine, reference="native", metrics=("l2", "mse", "kl_divergence"))) == set()


def test_the_reference_is_not_asked_of_itself_nor_for_what_it_does_not_know(monkeypatch):
    def never(*_):
        raise AssertionError("asked")

    monkeypatch.setattr(reference, "answer", never)
    monkeypatch.setitem(ENGINES, "blind", Engine("blind", "", metrics=frozenset()))
    assert codes(run(dial(), reference="native", metrics=("l2",))) == set()
    assert codes(run(dial(), reference="blind", metrics=("l2",))) == set()


# -- estimates ---------------------------------------------------------------------------------------------------------


def followed(monkeypatch, said, right):
    def made(values):
        cells = tuple(Cell(layer, "all", reading(value), reading(value)) for layer, value in enumerate(values))
        return Answer("", FINITE, FINITE, (Curve("mlp", "l2", "", reading(10.0), reading(10.0), cells),))

    monkeypatch.setattr(reference, "answer", lambda *_: made(right))
    question = Question(Tokens((0,), ("a",)), Tokens((1,), ("b",)), Sweep(("mlp",)), ("l2",))
    evidence = Evidence(case(reference="native"), dial(vocab=16), ENGINES["attribution"], question, made(said))
    return list(CHECKS["reference"](evidence))


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ((10.0, 20.0, 70.0), (1.0, 2.0, 7.0)),  # another scale
        ((10.0, 25.0, 70.0), (10.0, 20.0, 70.0)),
        ((10.0, 20.0, State.NAN, 70.0), (10.0, 20.0, 99.0, 70.0)),
        ((State.NAN, State.NAN), (1.0, 2.0)),
    ],
    ids=str,
)
def test_an_estimate_that_rises_and_falls_with_the_reference_is_right_enough(monkeypatch, said, right):
    assert followed(monkeypatch, said, right) == []


@pytest.mark.parametrize(
    ("said", "right", "told"),
    [
        ((10.0, 70.0, 20.0), (10.0, 20.0, 70.0), "a correlation of -0.21 with native over 3 of 3 cells"),
        ((10.0, 20.0, 70.0), (-10.0, -20.0, -70.0), "a correlation of -1.00"),
        (
            (10.0, 20.0),
            (100.0, 100.0),
            "no correlation with native over 2 of 2 cells, 0.9 is asked for; Kendall's tau is",
        ),
        ((10.0,), (100.0,), "the worst cell: 10.00 %, native gives 100.00 %"),
    ],
    ids=str,
)
def test_an_estimate_that_does_not_is_told_with_its_worst_cell(monkeypatch, said, right, told):
    (finding,) = followed(monkeypatch, said, right)
    assert finding.code == "REF003"
    assert told in finding.message
