"""A pattern is named where it explains every cell and the cells could have told; else no cause is claimed."""

from __future__ import annotations

import math

import pytest

from harness.metrics.mistakes import UNEXPLAINED, Suspicion, mistakes_of, shared_mistake
from harness.vocabulary import Reading, State

RIGHT = {0: 73.0, 1: 0.5, 2: -12.0, 3: 31.0, 4: 104.0}


def numbers(values):
    return {(layer, "all", None): Reading.of(value) for layer, value in values.items()}


def kinds(said, right=RIGHT, suspicions=tuple):
    return [mistake.kind for mistake in mistakes_of(numbers(said), numbers(right), 0.5, suspicions)]


def made(change):
    return {layer: change(value) for layer, value in RIGHT.items()}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda x: x / 100, "factor 0.01"),
        (lambda x: x * 100, "factor 100"),
        (lambda x: -x, "factor -1"),
        (lambda x: x / math.log(2), "factor 1.443"),
        (lambda x: x * 0.37, "factor 0.37"),
        (lambda x: x + 3, "offset"),
        (lambda x: 100 - x, "complement"),
        (abs, "absolute value"),
        (lambda x: min(max(x, 0), 100), "clipped"),
        (lambda x: max(x, 0), "clipped below"),
        (lambda x: min(x, 100), "clipped above"),
        (lambda x: 0.9 * x + 4, "linear"),
        (lambda x: 12.34, "constant"),
        (lambda x: math.nan, "nan where finite"),
        (lambda x: math.inf, "inf where finite"),
    ],
)
def test_the_pattern_is_named_first(change, kind):
    assert kinds(made(change))[0] == kind


def test_what_is_right_within_the_tolerance_is_no_mistake():
    assert kinds(made(lambda x: x + 0.3)) == []


def test_noise_is_not_explained():
    assert kinds({0: 12.0, 1: 80.0, 2: 33.0, 3: -7.0, 4: 51.0}) == [UNEXPLAINED]


def test_one_wrong_layer_is_no_pattern_of_all():
    assert kinds({**RIGHT, 3: 99.0}) == ["one layer"]


def test_a_factor_through_one_number_is_not_claimed():
    assert not {kind for kind in kinds({0: 50.0}, {0: 100.0}) if kind.startswith("factor")}


def test_numbers_closer_than_their_tolerance_tell_no_factor_from_an_offset():
    assert not {kind for kind in kinds({0: 50.0, 1: 50.4}, {0: 100.0, 1: 100.8}) if kind.startswith("factor")}
    assert kinds({0: 50.0, 1: 45.0}, {0: 100.0, 1: 90.0})[0] == "factor 0.5"


def test_right_numbers_that_are_all_alike_tell_a_factor_only_beside_others():
    alike, others = dict.fromkeys(range(4), 100.0), RIGHT
    said = [{k: v / 100 for k, v in part.items()} for part in (alike, others)]
    assert not [kind for kind in kinds(said[0], alike) if kind.startswith("factor")]
    pairs = [(numbers(a), numbers(b)) for a, b in zip(said, (alike, others), strict=True)]
    shared = shared_mistake(pairs, 0.5)
    assert shared is not None
    assert shared.kind == "factor 0.01"


def test_a_shift_of_layers():
    assert kinds({layer: RIGHT[(layer + 1) % 5] for layer in RIGHT})[0] == "layer shifted"
    assert kinds({layer: RIGHT[4 - layer] for layer in RIGHT})[0] == "layers reversed"


def test_a_missing_cell_and_an_invented_number():
    assert kinds({k: v for k, v in RIGHT.items() if k})[0] == "missing"
    undefined = {(0, "all", None): Reading.absent(State.ZERO_BASELINE)}
    (mistake,) = mistakes_of({(0, "all", None): Reading.of(0.0)}, undefined, 0.5)
    assert mistake.kind == "invented"
    assert mistakes_of({(0, "all", None): Reading.absent(State.UNDEFINED)}, undefined, 0.5) == []


def test_the_answer_to_another_question():
    other = {0: 1.0, 1: 50.0, 2: 7.0, 3: -30.0, 4: 66.0}
    suspicion = Suspicion("direction", "noising is answered", numbers(other))
    assert kinds(other, suspicions=lambda: [suspicion]) == ["direction"]
    assert kinds({**other, 4: 0.0}, suspicions=lambda: [suspicion]) == [UNEXPLAINED]
