"""The tokenizer without a vocabulary: `id = crc32(piece) mod vocab`."""

from __future__ import annotations

import binascii

import pytest

from harness.models.sources.words import WordTokenizer


def test_ids_are_the_crc_of_the_pieces():
    pieces = ["Paris", " is", " the", " capital", "."]
    assert WordTokenizer(50_257).encode("Paris is the capital.") == [
        binascii.crc32(piece.encode()) % 50_257 for piece in pieces
    ]


@pytest.mark.parametrize("vocab", [2048, 32_000, 50_257, 262_144])
def test_prompts_of_the_report_differ_in_the_first_token_only(vocab):
    tokenizer = WordTokenizer(vocab)
    paris, london = (tokenizer.encode(f"{city} is the capital of France") for city in ("Paris", "London"))
    assert len(paris) == len(london) == 6
    assert paris[0] != london[0]
    assert paris[1:] == london[1:]


@pytest.mark.parametrize("text", ["a  b", "It's 3.14!\n\nNo?  ", "\tx_y-z", "東京 🚀 é", ""])
def test_text_survives_a_round_trip(text):
    tokenizer = WordTokenizer(2**32)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_an_id_never_encoded_decodes_to_itself():
    tokenizer = WordTokenizer(1000)
    (known,) = tokenizer.encode("Paris")
    other = (known + 1) % 1000
    assert tokenizer.decode([known, other]) == f"Paris<{other}>"
