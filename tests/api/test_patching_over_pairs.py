"""`InterpretableModel.patching_over_pairs`: the means of single calls, and every refusal with its pair."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from harness import InterpretableModel
from harness.models.sources import miniatures
from harness.vocabulary.errors import PromptError, UnknownName, UsageError
from harness.vocabulary.raised import AlignmentError, BaselineError

PAIRS = [
    {"clean": [3, 7, 11, 5], "corrupted": [3, 8, 11, 6]},
    {"clean": [3, 7], "corrupted": [4, 7]},
    {"clean": [9, 8, 7], "corrupted": [9, 8, 6]},
]
SAME = {"clean": [1, 2], "corrupted": [1, 2]}


@pytest.fixture(scope="module")
def model() -> InterpretableModel:
    return InterpretableModel(miniatures.load("llama").module)


@pytest.mark.parametrize("options", [{}, {"value": "mean", "mean_of": [[5, 6], [9]]}], ids=["other", "mean"])
def test_the_means_are_those_of_single_calls(model: InterpretableModel, options: dict[str, Any]) -> None:
    alone = [model.activation_patching(pair["clean"], pair["corrupted"], **options) for pair in PAIRS]
    result = model.patching_over_pairs(PAIRS, **options)
    for layer in result:
        assert [pair.value for pair in result.pairs[layer].of] == [each[layer] for each in alone]
        assert result[layer] == statistics.mean(each[layer] for each in alone)
    assert result.baseline == statistics.mean(each.baseline for each in alone)
    assert (alone[0].pairs, "means of 3 pairs" in repr(result)) == ({}, True)
    row = result.to_dict()["recoveries"][0]
    assert (row["pairs"], row["defined"], row["undefined"]) == (3, 3, "")
    assert row["low"] < row["percent"] < row["high"]


def test_an_undefined_pair_warns_with_its_number_and_is_counted(model: InterpretableModel) -> None:
    whole = model.patching_over_pairs(PAIRS)
    with pytest.warns(UserWarning, match="BAS001 l2: pair 2: "):
        result = model.patching_over_pairs([PAIRS[0], SAME, *PAIRS[1:]])
    assert dict(result) == dict(whole)
    assert "means of 3 of 4 pairs" in repr(result)
    assert {spread.undefined for spread in result.pairs.values()} == {"1 of 4 zero-baseline"}


@pytest.mark.parametrize(
    ("pairs", "options", "error", "said"),
    [
        ([], {}, PromptError, "must be a list of mappings"),
        (PAIRS[0], {}, PromptError, "must be a list of mappings"),
        ([PAIRS[0], {"clean": [1]}], {}, PromptError, "pair 2 .*corrupted"),
        ([PAIRS[0], {"clean": [1], "corrupted": [1, 2]}], {}, AlignmentError, "pair 2: clean is 1 token"),
        ([PAIRS[0], {"clean": [1, 9999], "corrupted": [1, 2]}], {}, PromptError, "pair 2: clean: token id 9999"),
        ([SAME], {}, BaselineError, "BAS001"),
        (PAIRS, {"positions": "each"}, PromptError, "all pairs must be of one length"),
        (PAIRS, {"positions": [3]}, PromptError, "pair 2: position 3"),
        (PAIRS, {"metric": "l3"}, UnknownName, "l3"),
        (PAIRS, {"component": "nothing"}, UsageError, "nothing"),
    ],
)
def test_what_cannot_be_averaged_is_refused(
    model: InterpretableModel, pairs: Any, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        model.patching_over_pairs(pairs, **options)
