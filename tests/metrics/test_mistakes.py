"""A pattern is named where it explains every cell and the cells could have told; else no cause is claimed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.metrics.mistakes import FACTORS, UNEXPLAINED, Suspicion, mistakes_of, shared_mistake
from harness.metrics.tolerances import Work, recovery_tolerance
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


def wide_range(seed, dtype):
    """Right recoveries of 12 cells, and how those scatter that are computed in a dtype."""
    draw = np.random.default_rng(seed)
    right = np.append(draw.uniform(-40, 110, 11), 100.0)
    # What two batches of a small model are apart by, in points: DESIGN's facts and the tolerance of POINTS.
    noise = {"float32": 0.001, "float16": 0.1}[dtype]
    return right, lambda said: (said * (1 + draw.normal(0, noise / 100, 12))).astype(dtype)


def points_of(dtype):
    return max(recovery_tolerance(work, dtype) for work in (Work.OTHER_FORMULA, Work.OTHER_BATCH))


def named(said, right, points):
    pair = (dict(enumerate(map(float, each))) for each in (said, right))
    found = mistakes_of(*map(numbers, pair), points)
    return found[0].kind, found[0].said


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("factor", "words"), [(factor, words) for factor, words, _ in FACTORS])
def test_an_exact_factor_keeps_its_name(factor, words, dtype):
    for seed in range(20):
        right, computed = wide_range(seed, dtype)
        kind, said = named(computed(factor * right), right, points_of(dtype))
        assert kind == f"factor {factor:.4g}"
        assert said.startswith(words)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("factor", [0.7, 1.45, 99.0, 101.0, 0.0101, -1.01, -0.0099, 2.02, 0.505])
def test_a_factor_beside_a_usual_one_is_named_by_its_number(factor, dtype):
    for seed in range(20):
        right, computed = wide_range(seed, dtype)
        kind, said = named(computed(factor * right), right, points_of(dtype))
        assert kind.startswith("factor "), (kind, said)
        assert float(kind.removeprefix("factor ")) == pytest.approx(factor, rel=3e-3)
        assert said.startswith("every recovery is")


@pytest.mark.parametrize(("scatter", "known"), [(0.05, False), (1.5, True)])
def test_a_factor_is_as_near_to_a_usual_one_as_the_cells_scatter(scatter, known):
    right, _ = wide_range(0, "float32")
    said = 0.7 * right + scatter * np.array([1, -1] * 6)
    kind, _ = named(said, right, 3.0)
    assert (kind == "factor 0.6931") is known


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
